//! Cancels jobs: one by its id, or all that fit a selector.
//!
//! A cancellation is a rule that covers the jobs enqueued up to its order. Workers obey it as jobs come up. Delayed jobs do not come
//! up for a while, so they are marked and brought back at once.

use super::{
    IN_FORCE_WITHIN, InForce,
    estimate::Fits,
    find::{Finder, Found, FoundPlace},
    in_force,
};
use crate::{
    config::Config,
    contract::Origin,
    operations::{Actor, Backend, Error, MerchantScope, Progress},
    queue::{maintenance, rules},
    rules::{Rule, RuleAction, Selector},
};
use redis::RedisResult;
use serde::{Serialize, Serializer};
use serde_json::json;

/// A cancellation is removed with the last job that it covers, and after this time in any case.
const LIFE_MS: u64 = 30 * 86_400_000;

/// Where a job to be cancelled is, and what a cancellation does to it. As JSON it is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelDetail {
    /// It is not known.
    Unknown,
    /// It has ended with this status.
    Ended(String),
    /// It has ended; its dead letter is kept.
    Dead,
    /// It is delayed: it ends now.
    Delayed,
    /// It waits in a lane: it ends as it comes up.
    Waiting,
    /// No consumer holds it: it ends as a worker takes it up again.
    Adrift,
    /// A worker has it: the current call finishes; no further call is made.
    InFlight,
}

impl CancelDetail {
    /// Whether the job has not ended, and can be cancelled.
    pub const fn is_cancellable(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Ended(_) | Self::Dead)
    }

    fn json(&self) -> String {
        let text = match self {
            Self::Unknown => "no such job is waiting, and no completion of it was found",
            Self::Ended(status) => return format!("it has ended: {status}"),
            Self::Dead => "it has ended, and is among the dead letters",
            Self::Delayed => "called up",
            Self::Waiting => "ends when it comes up",
            Self::Adrift => "nobody holds it: it ends when a worker takes it up again",
            Self::InFlight => "a worker has it: if its call ends it, so be it; it makes no other",
        };
        text.to_owned()
    }
}

impl Serialize for CancelDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.json())
    }
}

/// A job that somebody wants to cancel, as it was found.
#[derive(Debug, Clone)]
pub struct JobToCancel {
    /// The job's id.
    pub id: String,
    /// Where the job is, and what a cancellation does to it.
    pub detail: CancelDetail,
    origin: Option<Origin>,
}

/// What became of the cancellation of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobCancelled {
    /// The id of the job.
    pub id: String,
    /// It is cancelled. A call in flight may still end it in another way.
    pub cancelled: bool,
    /// Where it was.
    pub detail: CancelDetail,
}

/// A cancellation of all jobs that fit a selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// The selector.
    #[serde(rename = "cancelled")]
    pub jobs: Selector,
    /// Delayed jobs that fit: they end now.
    #[serde(rename = "parked")]
    pub delayed: u64,
    /// Jobs in the lanes, in flight included. Those of them that fit end as they come up.
    pub in_lanes: u64,
    /// How many workers knew the cancellation when the delayed jobs were called up.
    #[serde(skip)]
    pub in_force: InForce,
}

/// Finds a job that is to be cancelled. Changes nothing. A job of a merchant outside of `merchants` is unknown.
///
/// # Errors
/// [`Error::Redis`]. That there is no such job, or that it has ended, is no error.
pub async fn examine(
    backend: &mut Backend<'_>,
    id: &str,
    merchants: &MerchantScope,
    progress: &dyn Progress,
) -> Result<JobToCancel, Error> {
    let failed = backend.failed();
    let found = Finder::new(backend, id, progress).find().await.map_err(failed)?;
    let found = found.filter(|found| merchants.covers(&found.place.json()));
    let (origin, detail) = match found.map(|Found { place, .. }| place) {
        None => (None, CancelDetail::Unknown),
        Some(FoundPlace::Ended { completion, .. }) => {
            let status = completion["status"].as_str().unwrap_or("completed");
            (None, CancelDetail::Ended(status.to_owned()))
        }
        Some(FoundPlace::Dead { .. }) => (None, CancelDetail::Dead),
        Some(FoundPlace::Delayed { live, .. }) => (Some(live.origin), CancelDetail::Delayed),
        Some(FoundPlace::Waiting { live, .. }) => (Some(live.origin), CancelDetail::Waiting),
        Some(FoundPlace::Adrift { live }) => (Some(live.origin), CancelDetail::Adrift),
        Some(FoundPlace::InFlight { live, .. }) => (Some(live.origin), CancelDetail::InFlight),
    };
    Ok(JobToCancel { id: id.to_owned(), detail, origin })
}

/// Cancels one job. A job that has ended stays as it is.
///
/// # Errors
/// [`Error::TooManyRules`], [`Error::Redis`].
pub async fn cancel_job(backend: &mut Backend<'_>, actor: &Actor, job: JobToCancel) -> Result<JobCancelled, Error> {
    let JobToCancel { id, mut detail, origin } = job;
    let Some(origin) = origin else { return Ok(JobCancelled { id, cancelled: false, detail }) };
    let failed = backend.failed();
    let selector = Selector { id: Some(id.clone()), ..Selector::default() };
    let rule = order(backend, actor, &selector).await?;
    let keys = backend.keys_of(origin.partition);
    // The job may be delayed by now, wherever it was. Once every worker knows the rule, none delays it again.
    let mut called_up = rules::cancel_delayed(&mut backend.link, &keys, &[origin]).await.map_err(&failed)?;
    if called_up == 0 {
        in_force(backend, IN_FORCE_WITHIN).await?;
        called_up = rules::cancel_delayed(&mut backend.link, &keys, &[origin]).await.map_err(&failed)?;
    }
    if called_up > 0 {
        // The job itself is marked as cancelled: the rule has done its work.
        take_back(backend, &rule).await.map_err(&failed)?;
        detail = CancelDetail::Delayed;
    }
    Ok(JobCancelled { id, cancelled: true, detail })
}

/// Cancels these jobs, whether they wait or are delayed. Those that have ended stay as they are.
///
/// # Errors
/// [`Error::TooManyRules`], [`Error::Redis`]. The jobs before the failed one are cancelled.
pub(in crate::operations) async fn cancel_each(
    backend: &mut Backend<'_>,
    actor: &Actor,
    jobs: &[(String, Origin)],
) -> Result<(), Error> {
    let failed = backend.failed();
    let mut in_lanes = Vec::new();
    for (id, origin) in jobs {
        let keys = backend.keys_of(origin.partition);
        if rules::cancel_delayed(&mut backend.link, &keys, &[*origin]).await.map_err(&failed)? == 0 {
            order(backend, actor, &Selector { id: Some(id.clone()), ..Selector::default() }).await?;
            in_lanes.push(*origin);
        }
    }
    if !in_lanes.is_empty() {
        // A job may be delayed meanwhile. Once every worker knows the rules, none delays it again.
        in_force(backend, IN_FORCE_WITHIN).await?;
        for origin in in_lanes {
            let keys = backend.keys_of(origin.partition);
            rules::cancel_delayed(&mut backend.link, &keys, &[origin]).await.map_err(&failed)?;
        }
    }
    Ok(())
}

/// Cancels all jobs that a selector fits and that were enqueued up to now.
///
/// # Errors
/// [`Error::TooManyRules`], [`Error::NothingFits`], [`Error::Redis`].
pub async fn cancel(
    backend: &mut Backend<'_>,
    actor: &Actor,
    config: &Config,
    jobs: &Selector,
    progress: &dyn Progress,
) -> Result<Cancelled, Error> {
    let (failed, namespace) = (backend.failed(), backend.namespace());
    let rule = order(backend, actor, jobs).await?;
    // What a worker delays from then on, it has checked against the rule.
    let in_force = in_force(backend, IN_FORCE_WITHIN).await?;
    let done: RedisResult<(u64, u64)> = async {
        let now_ms = rules::now_ms(&mut backend.link).await?;
        let fits = Fits::new(jobs, rule.order.clone(), now_ms, config);
        let (mut delayed, mut in_lanes) = (0, 0);
        for partition in 0..backend.partitions() {
            let keys = backend.keys_of(partition);
            delayed += fits.delayed(backend, &keys, progress, true).await?;
            for lane in fits.lanes() {
                in_lanes += maintenance::entries(&mut backend.link, &keys, lane).await?;
            }
        }
        let what = json!({"jobs": jobs.redacted()});
        actor.record(&mut backend.link, namespace, "cancel parked", &what, delayed).await?;
        if delayed == 0 && in_lanes == 0 {
            take_back(backend, &rule).await?;
        }
        Ok((delayed, in_lanes))
    }
    .await;
    match done.map_err(failed)? {
        (0, 0) => Err(Error::NothingFits(jobs.describe())),
        (delayed, in_lanes) => Ok(Cancelled { jobs: jobs.clone(), delayed, in_lanes, in_force }),
    }
}

/// Ends the cancellation of exactly these jobs. Those that have not come up yet run as if it had not been ordered; those that have ended,
/// or were marked as cancelled while they were delayed, stay cancelled. Returns whether there was such a cancellation.
///
/// # Errors
/// [`Error::Redis`].
pub async fn end_cancellation(backend: &mut Backend<'_>, actor: &Actor, jobs: &Selector) -> Result<bool, Error> {
    let (keys, namespace, failed) = (backend.common_keys(), backend.namespace(), backend.failed());
    let link = &mut backend.link;
    let done: RedisResult<bool> = async {
        let rules = rules::load(link, &keys).await?;
        if !rules.all().any(|(verb, selector, _)| verb == RuleAction::Cancel && selector == jobs) {
            return Ok(false);
        }
        actor.record(link, namespace, "cancel ended", &json!({"jobs": jobs.redacted()}), 1).await?;
        rules::drop_rule(link, &keys, &Rule::name(RuleAction::Cancel, jobs), None).await
    }
    .await;
    done.map_err(failed)
}

/// Records the cancellation and puts its rule in force.
async fn order(backend: &mut Backend<'_>, actor: &Actor, selector: &Selector) -> Result<Rule, Error> {
    let (keys, namespace, failed) = (backend.common_keys(), backend.namespace(), backend.failed());
    let link = &mut backend.link;
    let done: RedisResult<Option<Rule>> = async {
        let what = json!({"jobs": selector.redacted()});
        actor.record(link, namespace, "cancel", &what, 1).await?;
        let at_ms = rules::past_ms(link).await?;
        let order = actor.order(at_ms, Some(at_ms.saturating_add(LIFE_MS)));
        let rule = Rule { verb: RuleAction::Cancel, selector: selector.clone(), order };
        Ok(rules::set_rule(link, &keys, &rule).await?.then_some(rule))
    }
    .await;
    done.map_err(failed)?.ok_or(Error::TooManyRules)
}

async fn take_back(backend: &mut Backend<'_>, rule: &Rule) -> RedisResult<()> {
    let (keys, name) = (backend.common_keys(), Rule::name(rule.verb, &rule.selector));
    rules::drop_rule(&mut backend.link, &keys, &name, Some(&rule.value())).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_a_sentence_in_json() {
        let cancelled = JobCancelled { id: "a".to_owned(), cancelled: true, detail: CancelDetail::Delayed };
        assert_eq!(json!(cancelled).to_string(), r#"{"cancelled":true,"detail":"called up","id":"a"}"#);
        let ended = CancelDetail::Ended("succeeded".to_owned());
        assert_eq!((json!(ended), ended.is_cancellable()), (json!("it has ended: succeeded"), false));
    }
}
