//! `Default` of the sections of the configuration: the defaults of the table, applied through the setters of their keys.

use super::{
    CompletionsConfig, Config, GatewayConfig, HttpConfig, LimitsConfig, QueueConfig, RedisConfig, TelemetryConfig,
    WorkerConfig, XcoConfig,
    schema::{ConfigDraft, keys},
    value::{Input, Value},
};
use std::{collections::BTreeMap, sync::LazyLock};
use toml::de::DeValue;

static DEFAULTS: LazyLock<Config> = LazyLock::new(|| {
    let config = Config::blank();
    let mut draft = ConfigDraft {
        config,
        buckets: BTreeMap::new(),
        client_secret_file: None,
        api_key_file: None,
        ticket_key_files: Vec::new(),
    };
    for key in keys() {
        let Some(Ok(value)) = key.default.map(DeValue::parse) else { continue };
        let value = Value::from_toml(value.get_ref());
        let applied = key.apply(&mut draft, &Input { value: &value, secret: key.secret });
        debug_assert!(applied.is_ok(), "the default of {} is refused: {applied:?}", key.name);
    }
    draft.config
});

/// What the table's defaults amount to, those of `retry.*` included.
pub(super) fn defaults() -> &'static Config {
    &DEFAULTS
}

// Not of `RetryConfig`: it holds what was set, and `RetryConfig::policy` resolves the rest by job type.
macro_rules! default_of_section {
    ($($section:ident: $name:ident),*) => {
        $(impl Default for $name {
            fn default() -> Self {
                defaults().$section.clone()
            }
        })*
    };
}

default_of_section! {
    redis: RedisConfig,
    xco: XcoConfig,
    worker: WorkerConfig,
    limits: LimitsConfig,
    queue: QueueConfig,
    completions: CompletionsConfig,
    http: HttpConfig,
    gateway: GatewayConfig,
    telemetry: TelemetryConfig
}
