//! Limits of all callers together that partitions cannot share as they are configured.

use crate::{config::Config, limits::Limits};

/// What to do about it.
pub(super) const REMEDY: &str =
    "use fewer partitions (redis.partitions; only with empty queues), or set a burst of at least their number";

/// What is to be said about them; nothing where each partition has a part.
pub(super) fn complaints(config: &Config) -> Vec<String> {
    let limits = Limits::new(config.limits.clone(), config.redis.partitions);
    let told = limits.bursts_beyond().into_iter().map(|(which, burst, at_once)| {
        format!(
            "limits.{}.burst is {burst}, and there are {at_once} partitions, which do not ask each other: up to {at_once} calls \
             may come at once",
            which.name()
        )
    });
    told.collect()
}
