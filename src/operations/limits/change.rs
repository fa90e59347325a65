//! Sets and resets overrides.

use super::{Configured, LimitError, LimitsReport, forward, report::report};
use crate::{
    config::Config,
    limits::{LimitName, LimitSetting, Limits, MAX_REASON_CHARS, Override, OverrideValue},
    operations::{
        Actor, Backend,
        in_force::{IN_FORCE_WITHIN, in_force},
    },
    queue::{overrides, rules},
};
use redis::RedisResult;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A setting and its new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// The setting.
    pub setting: LimitSetting,
    /// Its value from now on.
    pub value: OverrideValue,
}

impl LimitChange {
    /// Reads a name and a value as a person writes them: `total.rate`, `20/s`.
    ///
    /// # Errors
    /// [`LimitError::UnknownName`], [`LimitError::BadValue`]: both say what is allowed.
    pub fn parse(name: &str, value: &str) -> Result<Self, LimitError> {
        let setting = LimitSetting::parse(name).ok_or_else(|| LimitError::unknown_name(name))?;
        let value = OverrideValue::parse(setting, value).map_err(|fault| LimitError::BadValue { setting, fault })?;
        Ok(Self { setting, value })
    }
}

/// Which settings are to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRequest {
    /// The changes. They are made in one step.
    pub changes: Vec<LimitChange>,
    /// Why. It is kept, and shown with the limit: it must hold no personal data.
    pub reason: Option<String>,
}

/// Which settings are to be as configured again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetRequest {
    /// The settings. They are reset in one step.
    pub settings: Vec<LimitSetting>,
    /// Why, for the audit: it must hold no personal data.
    pub reason: Option<String>,
}

/// Limits after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitsChanged {
    /// The limits in force.
    #[serde(flatten)]
    pub report: LimitsReport,
    /// How many overrides were set or removed.
    pub changed: u64,
    /// Waiting jobs that got an earlier time, because a limit was raised.
    pub brought_forward: u64,
}

/// Overrides settings, and waits up to three seconds until every running worker has them in force. The report says on how many that
/// was so; the others follow when they reach Redis.
///
/// A lower rate holds for every call that is admitted from then on. Where a rate was raised, waiting jobs with reservations are brought
/// forward: of each partition those that are due first, at most 100,000 in all.
///
/// # Errors
/// [`LimitError::BurstWithoutRate`] where neither the configuration nor an override has the rate, [`LimitError::LongReason`],
/// [`LimitError::NothingNamed`], [`LimitError::Queue`].
pub async fn set(
    backend: &mut Backend<'_>,
    config: &Config,
    actor: &Actor,
    request: &SetRequest,
) -> Result<LimitsChanged, LimitError> {
    check_reason(request.reason.as_deref())?;
    if request.changes.is_empty() {
        return Err(LimitError::NothingNamed);
    }
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let prepared: RedisResult<_> = async {
        let now_ms = rules::now_ms(&mut backend.link).await?;
        let stored = overrides::load(&mut backend.link, &keys).await?;
        Ok((now_ms, stored.overrides, Configured::read(&mut backend.link, &keys, config).await?))
    }
    .await;
    let (at_ms, mut result, configured) = prepared.map_err(&failed)?;
    let set: Vec<(LimitSetting, Override)> = request
        .changes
        .iter()
        .map(|change| {
            let (who, from) = (actor.name().to_owned(), actor.from().to_owned());
            (change.setting, Override { value: change.value, who, from, at_ms, reason: request.reason.clone() })
        })
        .collect();
    for (setting, set) in &set {
        result.insert(*setting, set.clone());
    }
    for name in LimitName::ALL {
        let is_burst_set = set.iter().any(|(setting, _)| *setting == name.burst());
        if is_burst_set && result.limit(name, name.of(&configured.limits)).is_none() {
            return Err(LimitError::BurstWithoutRate(name));
        }
    }
    let values: Map<String, Value> =
        request.changes.iter().map(|change| (change.setting.to_string(), json!(change.value.to_string()))).collect();
    let what = json!({"limits": values, "reason": request.reason});
    let changed = u64::try_from(set.len()).unwrap_or(0);
    backend.record(actor, "limits set", &what, changed).await?;
    overrides::set(&mut backend.link, &keys, &set).await.map_err(&failed)?;
    let touched: Vec<_> = set.iter().map(|(setting, _)| *setting).collect();
    finish(backend, config, &touched, changed).await
}

/// Removes overrides, so that each worker's configuration holds again. Otherwise as [`set`]. That a setting has no override is no
/// error: `changed` counts those that had one.
///
/// # Errors
/// [`LimitError::LongReason`], [`LimitError::NothingNamed`], [`LimitError::Queue`].
pub async fn reset(
    backend: &mut Backend<'_>,
    config: &Config,
    actor: &Actor,
    request: &ResetRequest,
) -> Result<LimitsChanged, LimitError> {
    check_reason(request.reason.as_deref())?;
    if request.settings.is_empty() {
        return Err(LimitError::NothingNamed);
    }
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let names: Vec<_> = request.settings.iter().map(|setting| setting.as_str()).collect();
    let what = json!({"limits": names, "reason": request.reason});
    backend.record(actor, "limits reset", &what, u64::try_from(names.len()).unwrap_or(0)).await?;
    let changed = overrides::reset(&mut backend.link, &keys, &request.settings).await.map_err(&failed)?;
    finish(backend, config, &request.settings, changed).await
}

fn check_reason(reason: Option<&str>) -> Result<(), LimitError> {
    let is_long = reason.is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS);
    if is_long { Err(LimitError::LongReason) } else { Ok(()) }
}

/// Waits for the workers, brings waiting jobs forward, and reports.
async fn finish(
    backend: &mut Backend<'_>,
    config: &Config,
    touched: &[LimitSetting],
    changed: u64,
) -> Result<LimitsChanged, LimitError> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    // The workers first: under the former rates the jobs would only wait again.
    let in_force = in_force(backend, IN_FORCE_WITHIN).await?;
    let rest: RedisResult<_> = async {
        let limits = Configured::in_force(&mut backend.link, &keys, config).await?;
        let limits = Limits::new(limits, backend.redis().partitions);
        let names: Vec<_> = LimitName::ALL
            .into_iter()
            .filter(|name| touched.iter().any(|setting| *setting == name.rate() || *setting == name.burst()))
            .collect();
        let brought_forward = forward::bring_forward(backend, config, &limits, &names).await?;
        Ok(LimitsChanged { report: report(backend, config, in_force).await?, changed, brought_forward })
    }
    .await;
    Ok(rest.map_err(failed)?)
}
