//! Settings that all workers of a namespace should have alike, because what one of them keeps in Redis the others go by.

use super::{Config, Durability, Limit, Rate, format_duration, parse_rate};
use std::{collections::BTreeMap, time::Duration};

/// What a limit is called that is not set.
const NONE: &str = "none";
/// What stands between a limit's rate and its burst.
const BURST: &str = ", burst ";

/// The key of a limit in the shared settings: `limits.total`.
pub fn limit_key(name: &str) -> String {
    format!("limits.{name}")
}

/// Reads a limit as the shared settings write it. `None`: no limit is set.
///
/// # Errors
/// That the text is not a limit.
pub fn read_limit(text: &str) -> Result<Option<Limit>, String> {
    if text == NONE {
        return Ok(None);
    }
    let (rate, burst) = text.split_once(BURST).ok_or("not a limit")?;
    let burst = burst.parse().ok().filter(|burst| *burst > 0).ok_or("not a burst")?;
    Ok(Some(Limit { rate: parse_rate(rate)?, burst }))
}

impl Config {
    /// Each of these settings, by key, as configuration writes it. Holds no secret. Workers tell each other theirs, so that
    /// `status`, `doctor` and the log can name a difference.
    pub fn shared_settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        let limits = &self.limits;
        for (name, limit) in [("caller", limits.caller), ("client", limits.client), ("total", limits.total)] {
            set(&limit_key(name), limit.map_or_else(|| NONE.to_owned(), format_limit));
        }
        for (job_type, limit) in &limits.types {
            set(&format!("limits.types.{}", job_type.config_key()), format_limit(*limit));
        }
        set("limits.allow_missing_caller_id", limits.allow_missing_caller_id.to_string());
        set("limits.learn", limits.learn.to_string());
        set("limits.margin", format_duration(limits.margin));
        set("worker.lease", format_duration(self.worker.lease));
        set("queue.dedupe_window", format_duration(self.queue.dedupe_window));
        set("queue.index_retention", format_duration(self.queue.index_retention));
        set("queue.dead_retention", format_duration(self.queue.dead_retention));
        for (job_type, ttl) in &self.queue.ttl {
            set(&format!("queue.ttl.{}", job_type.config_key()), format_duration(*ttl));
        }
        set("completions.retention", format_duration(self.completions.retention));
        set("completions.max_bytes", self.completions.max_bytes.to_string());
        let durability = match self.redis.durability {
            Durability::Single => "single",
            Durability::Replicated => "replicated",
        };
        set("redis.durability", durability.to_owned());
        if let Some(url) = &self.xco.base_url {
            set("xco.base_url", url.to_string());
        }
        settings
    }
}

/// The limit as [`read_limit`] reads it: `20/s, burst 20`.
pub fn format_limit(limit: Limit) -> String {
    format!("{}{BURST}{}", format_rate(limit.rate), limit.burst)
}

/// The rate as [`parse_rate`] reads it.
pub fn format_rate(rate: Rate) -> String {
    let interval_us = rate.interval_us.max(1);
    [("s", 1_000_000_u64), ("m", 60_000_000), ("h", 3_600_000_000)]
        .into_iter()
        .find_map(|(unit, unit_us)| {
            // The rate was rounded down to whole microseconds between calls.
            let calls = unit_us.div_ceil(interval_us);
            (unit_us.div_ceil(calls) == interval_us).then(|| format!("{calls}/{unit}"))
        })
        .unwrap_or_else(|| format!("one in {}", format_duration(Duration::from_micros(interval_us))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rate_is_written_as_it_was_read() {
        for text in ["1/s", "3/s", "7/s", "50/s", "999/s", "1000000/s", "3/m", "59/m", "100/h", "1/h"] {
            assert_eq!(format_rate(parse_rate(text).unwrap()), text);
        }
    }

    #[test]
    fn a_limit_is_read_as_it_was_written() {
        let limit = Limit { rate: parse_rate("3/m").unwrap(), burst: 7 };
        assert_eq!(read_limit(&format_limit(limit)), Ok(Some(limit)));
        assert_eq!(read_limit("none"), Ok(None));
        for text in ["", "3/m", "3/m, burst 0", "3/m, burst x", "x, burst 1", "one in 7d, burst 1"] {
            assert!(read_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_tell_what_is_set() {
        let mut config = Config::default();
        let before = config.shared_settings();
        assert_eq!(before["limits.total"], "none");
        config.limits.total = Some(Limit { rate: parse_rate("20/s").unwrap(), burst: 20 });
        config.xco.client_secret = Some(secrecy::SecretString::from("s3cret"));
        let after = config.shared_settings();
        assert_eq!(after["limits.total"], "20/s, burst 20");
        assert_eq!(after.iter().filter(|(key, value)| before.get(*key) != Some(value)).count(), 1);
        assert!(!format!("{after:?}").contains("s3cret"));
    }
}
