//! Pauses: jobs that wait until an operator lets them go on.

pub use super::{
    in_force::{IN_FORCE_WITHIN, InForce, in_force},
    rule_in_force::RuleInForce,
};

use super::{Actor, Backend, Error, rule_in_force::rules_in_force};
use crate::{
    contract::{format_ms, millis},
    queue::rules,
    rules::{Rule, RuleAction, RuleOrigin, Selector},
};
use redis::RedisResult;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// Longest reason of a pause, in characters.
pub const MAX_REASON: usize = 200;

/// Checks the reason of a pause.
///
/// # Errors
/// What is wanted, if the reason is too long or has control characters.
pub fn check_reason(text: &str) -> Result<String, String> {
    if text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("must be at most {MAX_REASON} characters on one line, and not name a customer"))
}

/// Which jobs are to wait, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRequest {
    /// The jobs that fit.
    pub jobs: Selector,
    /// The pause ends by itself after this; `None`: by [`resume`] alone.
    pub lasting: Option<Duration>,
    /// Why, in the operator's words, checked by [`check_reason`]. Not to name a customer.
    pub reason: Option<String>,
}

/// A pause that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// The jobs that fit.
    pub paused: Selector,
    /// When it ends by itself, RFC 3339, on Redis's clock.
    pub until: Option<String>,
}

/// Pauses that were ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Each pause that was ended.
    pub resumed: Vec<Resumption>,
    /// How many other pauses are still in force.
    pub others: usize,
}

/// One pause that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resumption {
    /// The jobs that fit.
    pub resumed: Selector,
}

/// Puts a pause in force. Every worker obeys it within about a second, and so does every worker that starts later. Calls in flight
/// are not interrupted; deadlines go on.
///
/// # Errors
/// [`Error::TooManyRules`], [`Error::Redis`].
pub async fn pause(backend: &mut Backend<'_>, actor: &Actor, request: PauseRequest) -> Result<Paused, Error> {
    let PauseRequest { jobs, lasting, reason } = request;
    let (keys, namespace, failed) = (backend.common_keys(), backend.namespace(), backend.failed());
    let lasting_ms = lasting.map(millis);
    let link = &mut backend.link;
    let done: RedisResult<(Rule, bool)> = async {
        let mut what = json!({"jobs": jobs.redacted(), "for_ms": lasting_ms});
        if let Some(reason) = &reason {
            what["reason"] = json!(reason);
        }
        actor.record(link, namespace, "pause", &what, 1).await?;
        let at_ms = rules::now_ms(link).await?;
        let until_ms = lasting_ms.map(|lasting_ms| at_ms.saturating_add(lasting_ms));
        let order = RuleOrigin { reason, ..actor.order(at_ms, until_ms) };
        let rule = Rule { verb: RuleAction::Pause, selector: jobs, order };
        let set = rules::set_rule(link, &keys, &rule).await?;
        Ok((rule, set))
    }
    .await;
    let (rule, set) = done.map_err(failed)?;
    if !set {
        return Err(Error::TooManyRules);
    }
    Ok(Paused { paused: rule.selector, until: rule.order.until_ms.map(format_ms) })
}

/// The pauses that are in force, the latest first.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>) -> Result<Vec<RuleInForce>, Error> {
    let holding = list_rules(backend).await?.into_iter();
    Ok(holding.filter(|rule| rule.order == RuleAction::Pause.as_str()).collect())
}

/// The pauses and the cancellations that are in force: pauses first, of each kind the latest first.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list_rules(backend: &mut Backend<'_>) -> Result<Vec<RuleInForce>, Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let link = &mut backend.link;
    let read: RedisResult<_> = async { Ok((rules::now_ms(link).await?, rules::load(link, &keys).await?)) }.await;
    let (now_ms, rules) = read.map_err(failed)?;
    Ok(rules_in_force(&rules, now_ms))
}

/// Ends the pause of exactly these jobs, or every pause where `jobs` is everything. What they held back goes on in its order.
///
/// # Errors
/// [`Error::Redis`]. That there is no such pause is no error: nothing is resumed then.
pub async fn resume(backend: &mut Backend<'_>, actor: &Actor, jobs: &Selector) -> Result<Resumed, Error> {
    let failed = backend.failed();
    end(backend, actor, jobs).await.map_err(failed)
}

async fn end(backend: &mut Backend<'_>, actor: &Actor, jobs: &Selector) -> RedisResult<Resumed> {
    let (keys, namespace) = (backend.common_keys(), backend.namespace());
    let link = &mut backend.link;
    let now_ms = rules::now_ms(link).await?;
    let rules = rules::load(link, &keys).await?;
    let pauses = rules.all().filter(|(verb, _, order)| *verb == RuleAction::Pause && order.holds(now_ms));
    let (meant, others): (Vec<_>, Vec<_>) =
        pauses.map(|(_, paused, _)| paused.clone()).partition(|paused| jobs.is_everything() || paused == jobs);
    if !meant.is_empty() {
        let what = json!({"jobs": jobs.redacted()});
        actor.record(link, namespace, "resume", &what, u64::try_from(meant.len()).unwrap_or(0)).await?;
    }
    let mut resumed = Vec::new();
    for paused in meant {
        if rules::drop_rule(link, &keys, &Rule::name(RuleAction::Pause, &paused), None).await? {
            resumed.push(Resumption { resumed: paused });
        }
    }
    Ok(Resumed { resumed, others: others.len() })
}
