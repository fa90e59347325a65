//! The limits in force: what the configuration says, with the operators' overrides.

use crate::{
    config::{Config, LimitsConfig},
    contract::Partitions,
    limits::Limits,
    queue::overrides::StoredOverrides,
};
use parking_lot::RwLock;
use std::sync::Arc;

/// The limits in force on this worker.
#[derive(Debug)]
pub(super) struct LiveLimits {
    configured: LimitsConfig,
    configured_concurrency: usize,
    /// Maximum number of worker slots, whatever operators order.
    most_concurrency: usize,
    partitions: Partitions,
    now: RwLock<(Arc<Limits>, StoredOverrides)>,
}

impl LiveLimits {
    /// As configured, until overrides are known.
    pub(super) fn new(config: &Config) -> Self {
        let limits = Limits::new(config.limits.clone(), config.redis.partitions);
        Self {
            configured: config.limits.clone(),
            configured_concurrency: config.worker.concurrency,
            most_concurrency: config.worker.open_files_allow.unwrap_or(usize::MAX),
            partitions: config.redis.partitions,
            now: RwLock::new((Arc::new(limits), StoredOverrides::default())),
        }
    }

    /// The limits that hold now.
    pub(super) fn now(&self) -> Arc<Limits> {
        Arc::clone(&self.now.read().0)
    }

    /// The number of worker slots without overrides.
    pub(super) const fn configured_concurrency(&self) -> usize {
        self.configured_concurrency
    }

    /// Puts overrides in force. Returns the number of worker slots that holds from now on; `None` if nothing has changed.
    pub(super) fn change(&self, stored: &StoredOverrides) -> Option<usize> {
        if self.now.read().1 == *stored {
            return None;
        }
        let overrides = &stored.overrides;
        let limits = Limits::new(overrides.apply(&self.configured), self.partitions);
        *self.now.write() = (Arc::new(limits), stored.clone());
        if stored.is_foreign {
            tracing::warn!("the key `limits` is not a hash: the limits of the configuration hold");
        }
        for setting in &stored.invalid {
            tracing::warn!(
                limit = setting.as_str(),
                "Redis holds a value that is not a limit: what the configuration says holds"
            );
        }
        for (setting, set) in overrides.all() {
            tracing::info!(limit = setting.as_str(), value = %set.value, by = set.who, "an operator's limit is in force");
        }
        if overrides.is_empty() {
            tracing::info!("the limits of the configuration are in force");
        }
        let wanted = overrides.concurrency(self.configured_concurrency);
        if wanted > self.most_concurrency {
            tracing::warn!(
                wanted,
                concurrency = self.most_concurrency,
                "open files allow fewer calls at once than operators ordered"
            );
        }
        Some(wanted.min(self.most_concurrency))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::{LimitSetting, Override, OverrideValue, SharedBucket};

    fn stored(list: &[(LimitSetting, &str)]) -> StoredOverrides {
        let mut stored = StoredOverrides::default();
        for (setting, text) in list {
            let value = OverrideValue::parse(*setting, text).unwrap();
            let set = Override { value, who: "ada".to_owned(), from: "ops".to_owned(), at_ms: 7, reason: None };
            stored.overrides.insert(*setting, set);
        }
        stored
    }

    #[test]
    fn overrides_hold_until_they_are_gone_and_open_files_bound_them() {
        let mut config = Config::default();
        (config.worker.concurrency, config.worker.open_files_allow) = (64, Some(100));
        let live = LiveLimits::new(&config);
        let interval_us = || live.now().shared(SharedBucket::Total).interval_us;
        assert_eq!((live.change(&stored(&[])), interval_us()), (None, 0));
        let set = stored(&[(LimitSetting::TotalRate, "10/s"), (LimitSetting::Concurrency, "7")]);
        assert_eq!((live.change(&set), live.change(&set)), (Some(7), None));
        assert!(interval_us() >= 100_000);
        assert_eq!(live.change(&stored(&[(LimitSetting::Concurrency, "4000")])), Some(100));
        assert_eq!((live.change(&stored(&[])), interval_us()), (Some(64), 0));
        let foreign = StoredOverrides { is_foreign: true, ..StoredOverrides::default() };
        assert_eq!(live.change(&foreign), Some(64));
    }
}
