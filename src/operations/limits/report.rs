//! The limits in force, beside what the configuration says.

use super::Configured;
use crate::{
    config::{Config, Limit, format_rate},
    contract::format_ms,
    limits::{LimitName, LimitSetting, Override, Overrides},
    operations::{Backend, Error, InForce, in_force::in_force},
    queue::overrides::{self, StoredOverrides},
};
use redis::RedisResult;
use serde::Serialize;
use std::time::Duration;

/// Where a value comes from that no operator changed.
const FILE: &str = "file";

/// The limits and the concurrency in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitsReport {
    /// The limits: of each caller, of all calls without a caller, of all calls.
    pub limits: Vec<LimitReport>,
    /// The number of worker slots of each worker.
    pub concurrency: ConcurrencyReport,
    /// Settings for which Redis holds something that is not an override. They are ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// On how many workers it is in force.
    #[serde(flatten)]
    pub in_force: InForce,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitReport {
    /// `caller`, `client` or `total`.
    pub name: &'static str,
    /// The rate. `None`: unlimited until a 429.
    pub rate: Option<String>,
    /// The burst. `None` without a rate.
    pub burst: Option<u32>,
    /// `file`, or the operator who changed it last.
    pub from: String,
    /// When it was changed last, RFC 3339, on Redis's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the configuration says, where an operator changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<ConfiguredLimit>,
}

/// A limit as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfiguredLimit {
    /// The rate. `None`: unlimited until a 429.
    pub rate: Option<String>,
    /// The burst. `None` without a rate.
    pub burst: Option<u32>,
}

/// The number of worker slots of each worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConcurrencyReport {
    /// The number. Where the workers' configurations differ, the largest. Fewer slots may be allowed, by `worker.adaptive` and by the
    /// limit of open files: `status` shows them.
    pub value: usize,
    /// `file`, or the operator who changed it.
    pub from: String,
    /// When it was changed, RFC 3339, on Redis's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the configuration says, where an operator changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<usize>,
}

impl ConfiguredLimit {
    /// A limit in the form of the configuration.
    pub(in crate::operations) fn of(limit: Option<Limit>) -> Self {
        Self { rate: limit.map(|limit| format_rate(limit.rate)), burst: limit.map(|limit| limit.burst) }
    }
}

impl LimitsReport {
    /// The limit of that name.
    pub fn limit(&self, name: LimitName) -> Option<&LimitReport> {
        self.limits.iter().find(|limit| limit.name == name.as_str())
    }
}

/// Lists the limits and the concurrency in force. What the configuration says comes from the running workers if they agree, else from
/// `config`.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, config: &Config) -> Result<LimitsReport, Error> {
    let in_force = in_force(backend, Duration::ZERO).await?;
    let failed = backend.failed();
    report(backend, config, in_force).await.map_err(failed)
}

pub(super) async fn report(backend: &mut Backend<'_>, config: &Config, in_force: InForce) -> RedisResult<LimitsReport> {
    let keys = backend.common_keys();
    let stored = overrides::load(&mut backend.link, &keys).await?;
    let configured = Configured::read(&mut backend.link, &keys, config).await?;
    Ok(of(&stored, &configured, in_force))
}

fn of(stored: &StoredOverrides, configured: &Configured, in_force: InForce) -> LimitsReport {
    let overrides = &stored.overrides;
    let limits = LimitName::ALL.map(|name| {
        let file = name.of(&configured.limits);
        let ConfiguredLimit { rate, burst } = ConfiguredLimit::of(overrides.limit(name, file));
        let set = latest(overrides, [name.rate(), name.burst()]);
        let (from, at, reason) = origin(set);
        LimitReport {
            name: name.as_str(),
            rate,
            burst,
            from,
            at,
            reason,
            file: set.is_some().then(|| ConfiguredLimit::of(file)),
        }
    });
    let set = overrides.get(LimitSetting::Concurrency);
    let (from, at, reason) = origin(set);
    let concurrency = ConcurrencyReport {
        value: overrides.concurrency(configured.concurrency),
        from,
        at,
        reason,
        file: set.is_some().then_some(configured.concurrency),
    };
    let mut ignored: Vec<_> = stored.invalid.iter().map(ToString::to_string).collect();
    if stored.is_foreign {
        ignored.push("all: the key is not a hash".to_owned());
    }
    LimitsReport { limits: limits.into(), concurrency, ignored, in_force }
}

/// The override that was set last.
fn latest(overrides: &Overrides, settings: [LimitSetting; 2]) -> Option<&Override> {
    settings.into_iter().filter_map(|setting| overrides.get(setting)).max_by_key(|set| set.at_ms)
}

fn origin(set: Option<&Override>) -> (String, Option<String>, Option<String>) {
    set.map_or_else(
        || (FILE.to_owned(), None, None),
        |set| (set.who.clone(), Some(format_ms(set.at_ms)), set.reason.clone()),
    )
}
