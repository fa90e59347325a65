//! Overrides: limits and concurrency that operators changed while workers run. Pure. `queue/overrides.rs` stores them.
//!
//! An override holds on every worker, whatever its own configuration says, until an operator resets it.

use crate::{
    config::{Limit, LimitsConfig, Rate, check_value, format_rate, parse_rate},
    contract::is_unprintable,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The value of a rate that limits nothing.
const OFF: &str = "off";

/// Maximum length of an override in Redis, in bytes.
pub const MAX_OVERRIDE_BYTES: usize = 4096;

/// Maximum length of a reason, in characters.
pub const MAX_REASON_CHARS: usize = 200;

/// Maximum length of an operator's name and origin, in characters.
const MAX_NAME_CHARS: usize = 120;

/// A limit that operators can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitName {
    /// Of each caller.
    Caller,
    /// Of all calls without a caller.
    Client,
    /// Of all calls.
    Total,
}

impl LimitName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Caller, Self::Client, Self::Total];

    /// Its name in the configuration, below `limits`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Client => "client",
            Self::Total => "total",
        }
    }

    /// The limit of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The setting of its rate.
    pub const fn rate(self) -> LimitSetting {
        match self {
            Self::Caller => LimitSetting::CallerRate,
            Self::Client => LimitSetting::ClientRate,
            Self::Total => LimitSetting::TotalRate,
        }
    }

    /// The setting of its burst.
    pub const fn burst(self) -> LimitSetting {
        match self {
            Self::Caller => LimitSetting::CallerBurst,
            Self::Client => LimitSetting::ClientBurst,
            Self::Total => LimitSetting::TotalBurst,
        }
    }

    /// The limit in a configuration.
    pub const fn of(self, config: &LimitsConfig) -> Option<Limit> {
        match self {
            Self::Caller => config.caller,
            Self::Client => config.client,
            Self::Total => config.total,
        }
    }
}

/// A setting that operators can change while workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitSetting {
    /// `limits.caller.rate`
    CallerRate,
    /// `limits.caller.burst`
    CallerBurst,
    /// `limits.client.rate`
    ClientRate,
    /// `limits.client.burst`
    ClientBurst,
    /// `limits.total.rate`
    TotalRate,
    /// `limits.total.burst`
    TotalBurst,
    /// `worker.concurrency`
    Concurrency,
}

impl LimitSetting {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CallerRate,
        Self::CallerBurst,
        Self::ClientRate,
        Self::ClientBurst,
        Self::TotalRate,
        Self::TotalBurst,
        Self::Concurrency,
    ];

    /// The name that operators use: `caller.rate`, `concurrency`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallerRate => "caller.rate",
            Self::CallerBurst => "caller.burst",
            Self::ClientRate => "client.rate",
            Self::ClientBurst => "client.burst",
            Self::TotalRate => "total.rate",
            Self::TotalBurst => "total.burst",
            Self::Concurrency => "concurrency",
        }
    }

    /// The key of the configuration that it overrides.
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::CallerRate => "limits.caller.rate",
            Self::CallerBurst => "limits.caller.burst",
            Self::ClientRate => "limits.client.rate",
            Self::ClientBurst => "limits.client.burst",
            Self::TotalRate => "limits.total.rate",
            Self::TotalBurst => "limits.total.burst",
            Self::Concurrency => "worker.concurrency",
        }
    }

    /// The setting of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    const fn is_rate(self) -> bool {
        matches!(self, Self::CallerRate | Self::ClientRate | Self::TotalRate)
    }
}

impl fmt::Display for LimitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideValue {
    /// `off`: no rate, so only a 429 closes the bucket.
    NoRate,
    /// A rate.
    Rate(Rate),
    /// A burst, or a number of worker slots.
    Count(u32),
}

impl OverrideValue {
    /// Reads a value of `setting`, with the type and the bounds that the configuration gives it. A rate can also be `off`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(setting: LimitSetting, text: &str) -> Result<Self, String> {
        if setting.is_rate() && text == OFF {
            return Ok(Self::NoRate);
        }
        let or_off = if setting.is_rate() { ", or off" } else { "" };
        check_value(setting.config_key(), text).map_err(|fault| format!("{fault}{or_off}"))?;
        if setting.is_rate() {
            return parse_rate(text).map(Self::Rate).map_err(|fault| format!("{fault}{or_off}"));
        }
        text.trim().parse().map(Self::Count).map_err(|_| "not a whole number".to_owned())
    }
}

impl fmt::Display for OverrideValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRate => f.write_str(OFF),
            Self::Rate(rate) => f.write_str(&format_rate(*rate)),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A changed setting: its value, and who changed it, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The value in force.
    pub value: OverrideValue,
    /// The operator who set it.
    pub who: String,
    /// The host or address from which it was set.
    pub from: String,
    /// When it was set, in milliseconds on Redis's clock.
    pub at_ms: u64,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// The form in Redis.
#[derive(Serialize, Deserialize)]
struct Stored {
    value: String,
    who: String,
    from: String,
    at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Override {
    /// The text that Redis stores.
    pub fn to_json(&self) -> String {
        let stored = Stored {
            value: self.value.to_string(),
            who: cut(&self.who, MAX_NAME_CHARS),
            from: cut(&self.from, MAX_NAME_CHARS),
            at_ms: self.at_ms,
            reason: self.reason.as_deref().map(|reason| cut(reason, MAX_REASON_CHARS)),
        };
        // Text and a number: serialisation cannot fail.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads an override from Redis, where anything may have written it. `None` if it is not one.
    fn from_json(setting: LimitSetting, text: &str) -> Option<Self> {
        if text.len() > MAX_OVERRIDE_BYTES {
            return None;
        }
        let stored: Stored = serde_json::from_str(text).ok()?;
        Some(Self {
            value: OverrideValue::parse(setting, &stored.value).ok()?,
            who: cut(&stored.who, MAX_NAME_CHARS),
            from: cut(&stored.from, MAX_NAME_CHARS),
            at_ms: stored.at_ms,
            reason: stored.reason.map(|reason| cut(&reason, MAX_REASON_CHARS)),
        })
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| !is_unprintable(*c)).take(most).collect()
}

/// All overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<LimitSetting, Override>);

impl Overrides {
    /// Reads the overrides from Redis. Returns also the settings whose stored text is not an override: they are ignored, and the
    /// configuration holds.
    pub fn read<'a>(stored: impl IntoIterator<Item = (LimitSetting, &'a str)>) -> (Self, Vec<LimitSetting>) {
        let (mut overrides, mut invalid) = (Self::default(), Vec::new());
        for (setting, text) in stored {
            match Override::from_json(setting, text) {
                Some(found) => overrides.insert(setting, found),
                None => invalid.push(setting),
            }
        }
        (overrides, invalid)
    }

    /// Adds or replaces one.
    pub fn insert(&mut self, setting: LimitSetting, set: Override) {
        self.0.insert(setting, set);
    }

    /// Removes one.
    pub fn remove(&mut self, setting: LimitSetting) -> Option<Override> {
        self.0.remove(&setting)
    }

    /// The override of a setting.
    pub fn get(&self, setting: LimitSetting) -> Option<&Override> {
        self.0.get(&setting)
    }

    /// All of them, by setting.
    pub fn all(&self) -> impl Iterator<Item = (LimitSetting, &Override)> {
        self.0.iter().map(|(setting, set)| (*setting, set))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The limit that results for a configured one. Rate and burst are overridden each for itself. If neither the configuration nor
    /// an override has a burst, it is what the rate allows in one second. Without a rate there is no limit.
    pub fn limit(&self, name: LimitName, configured: Option<Limit>) -> Option<Limit> {
        let rate = match self.get(name.rate()).map(|set| set.value) {
            Some(OverrideValue::Rate(rate)) => Some(rate),
            Some(OverrideValue::NoRate) => None,
            Some(OverrideValue::Count(_)) | None => configured.map(|limit| limit.rate),
        }?;
        let burst = match self.get(name.burst()).map(|set| set.value) {
            Some(OverrideValue::Count(burst)) => burst,
            _ => configured.map_or_else(|| rate.one_second_burst(), |limit| limit.burst),
        };
        Some(Limit { rate, burst })
    }

    /// The limits that result for the configured ones.
    #[must_use]
    pub fn apply(&self, configured: &LimitsConfig) -> LimitsConfig {
        LimitsConfig {
            caller: self.limit(LimitName::Caller, configured.caller),
            client: self.limit(LimitName::Client, configured.client),
            total: self.limit(LimitName::Total, configured.total),
            ..configured.clone()
        }
    }

    /// The number of worker slots that results for the configured one.
    pub fn concurrency(&self, configured: usize) -> usize {
        match self.get(LimitSetting::Concurrency).map(|set| set.value) {
            Some(OverrideValue::Count(count)) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => configured,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(setting: LimitSetting, text: &str) -> Override {
        let value = OverrideValue::parse(setting, text).unwrap();
        Override { value, who: "ada".to_owned(), from: "ops".to_owned(), at_ms: 7, reason: None }
    }

    fn overrides(list: &[(LimitSetting, &str)]) -> Overrides {
        let mut all = Overrides::default();
        for (setting, text) in list {
            all.insert(*setting, set(*setting, text));
        }
        all
    }

    fn limit(rate: &str, burst: u32) -> Limit {
        Limit { rate: parse_rate(rate).unwrap(), burst }
    }

    #[test]
    fn rate_and_burst_are_overridden_each_for_itself() {
        use LimitSetting::{CallerBurst, CallerRate};
        let file = Some(limit("10/s", 20));
        for (list, configured, wanted) in [
            (vec![], file, file),
            (vec![(CallerRate, "5/s")], file, Some(limit("5/s", 20))),
            (vec![(CallerBurst, "3")], file, Some(limit("10/s", 3))),
            (vec![(CallerRate, "5/s"), (CallerBurst, "3")], file, Some(limit("5/s", 3))),
            (vec![(CallerRate, "off")], file, None),
            (vec![(CallerRate, "7/s")], None, Some(limit("7/s", 7))),
            (vec![(CallerBurst, "3")], None, None),
        ] {
            assert_eq!(overrides(&list).limit(LimitName::Caller, configured), wanted, "{list:?}");
        }
    }

    #[test]
    fn an_override_survives_redis() {
        let reason = Some("XCO asked".to_owned());
        for (setting, text) in
            [(LimitSetting::TotalRate, "100/s"), (LimitSetting::TotalRate, "off"), (LimitSetting::Concurrency, "9")]
        {
            let written = Override { reason: reason.clone(), ..set(setting, text) };
            let json = written.to_json();
            let (read, invalid) = Overrides::read([(setting, json.as_str())]);
            assert_eq!((read.get(setting), invalid), (Some(&written), vec![]), "{json}");
        }
    }

    #[test]
    fn what_is_no_override_is_ignored() {
        let value = |value: &str| format!(r#"{{"value":"{value}","who":"a","from":"b","at_ms":1}}"#);
        let long = value(&"9".repeat(MAX_OVERRIDE_BYTES));
        for text in ["", "7", "{}", "null", &value("0"), &value("4097"), &value("off"), &value("3/s"), &long] {
            let (read, invalid) = Overrides::read([(LimitSetting::Concurrency, text)]);
            assert!(read.is_empty() && invalid == [LimitSetting::Concurrency], "{text}");
        }
        let dirty = r#"{"value":"3","who":"a\u001b[2J","from":"b\n","at_ms":1,"reason":"\u202ec"}"#;
        let (read, _) = Overrides::read([(LimitSetting::Concurrency, dirty)]);
        let read = read.get(LimitSetting::Concurrency).unwrap();
        assert_eq!((read.who.as_str(), read.from.as_str(), read.reason.as_deref()), ("a[2J", "b", Some("c")));
        assert_eq!(overrides(&[(LimitSetting::Concurrency, "3")]).concurrency(64), 3);
    }

    #[test]
    fn a_bad_value_names_what_is_allowed() {
        for (setting, text, said) in [
            (LimitSetting::TotalRate, "fast", "or off"),
            (LimitSetting::CallerBurst, "off", "from 1 to 1000000"),
            (LimitSetting::Concurrency, "0", "from 1 to 4096"),
        ] {
            let fault = OverrideValue::parse(setting, text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
