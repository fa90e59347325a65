//! Limits that operators changed, and those of all callers together that the partitions cannot share as they are configured.

use super::HealthCheck;
use crate::{
    config::Config,
    limits::Limits,
    queue::{Keys, Link, overrides},
};
use redis::RedisResult;
use std::fmt::Write;

const REMEDY: &str =
    "use fewer partitions (redis.partitions; only with empty queues), or set a burst of at least their number";

/// A warning if operators changed limits or the concurrency. `None` if they did not.
pub(super) async fn overridden(link: &mut Link, config: &Config) -> RedisResult<Option<HealthCheck>> {
    const KEPT: &str = "`xco-worker limits list` shows them; to keep them, write them into every worker's configuration, then `limits reset --all`";
    const IGNORED: &str = "`xco-worker limits set` writes them anew; DEL removes a key that is not a hash";
    let stored = overrides::load(link, &Keys::new(&config.redis.namespace, 0)).await?;
    if stored.is_foreign || !stored.invalid.is_empty() {
        let names: Vec<_> = stored.invalid.iter().map(ToString::to_string).collect();
        let what = if stored.is_foreign { "the key is not a hash".to_owned() } else { names.join(", ") };
        let detail = format!("Redis holds something else than limits that operators changed: {what}; it is ignored");
        return Ok(Some(HealthCheck::warn("limits", detail, IGNORED)));
    }
    let mut detail = String::new();
    for (setting, set) in stored.overrides.all() {
        let before = if detail.is_empty() { "" } else { "; " };
        let _ = write!(detail, "{before}{setting} is {}, by {}", set.value, set.who);
    }
    let is_any = !detail.is_empty();
    Ok(is_any.then(|| HealthCheck::warn("limits", format!("changed while workers run: {detail}"), KEPT)))
}

/// One warning for each limit that more calls than its burst may exceed at once, because there are more partitions than that.
pub(super) fn shared_limits(config: &Config) -> Vec<HealthCheck> {
    let limits = Limits::new(config.limits.clone(), config.redis.partitions);
    let warnings = limits.bursts_beyond().into_iter().map(|(which, burst, at_once)| {
        let detail = format!(
            "limits.{}.burst is {burst}, and there are {at_once} partitions, which do not ask each other: up to {at_once} calls \
             may come at once",
            which.name()
        );
        HealthCheck::warn("limits", detail, REMEDY)
    });
    warnings.collect()
}
