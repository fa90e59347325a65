//! Limits of all callers together that the partitions cannot share as they are configured.

use super::HealthCheck;
use crate::{config::Config, limits::Limits};

const REMEDY: &str =
    "use fewer partitions (redis.partitions; only with empty queues), or set a burst of at least their number";

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
