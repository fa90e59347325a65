//! Every key of the configuration, once: its name, what it takes, its default, and where it goes.
//!
//! The file and the environment are read with this table, a misspelt key is compared with it, and a test holds
//! `config/xco-worker.toml` against it.

use super::{
    Config, Durability, LogFormat, Rate, TokenAuth,
    tokens::read_tokens,
    urls::{RedisUrl, parse_http_url, parse_redis_url},
    value::{Input, Problems, Separator},
};
use crate::contract::JobType;
use secrecy::SecretString;
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

/// Configuration under way: what is complete, and what needs a second look when all sources are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) buckets: BTreeMap<Bucket, BucketDraft>,
    pub(super) client_secret_file: Option<String>,
    pub(super) api_key_file: Option<String>,
}

/// A bucket that `limits.*` may give a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bucket {
    Caller,
    Client,
    Total,
    Type(JobType),
}

#[derive(Default, Clone, Copy)]
pub(super) struct BucketDraft {
    pub(super) rate: Option<Rate>,
    pub(super) burst: Option<u32>,
}

impl Draft {
    fn bucket(&mut self, bucket: Bucket) -> &mut BucketDraft {
        self.buckets.entry(bucket).or_default()
    }
}

type Set = fn(&mut Draft, JobType, &Input<'_>) -> Result<(), Problems>;

/// One key, or with a `*` in its name one for each job type.
struct Spec {
    name: &'static str,
    /// As in `config/xco-worker.toml`; `None`: not set.
    default: Option<&'static str>,
    /// For each job type another default.
    default_of: Option<fn(JobType) -> &'static str>,
    secret: bool,
    set: Set,
}

/// One key.
pub(super) struct Key {
    pub(super) name: String,
    /// The default in TOML's spelling; `None`: not set unless it is set.
    #[cfg_attr(not(test), allow(dead_code, reason = "the reference configuration is held against it"))]
    pub(super) default: Option<&'static str>,
    pub(super) secret: bool,
    job_type: JobType,
    set: Set,
}

impl Key {
    pub(super) fn apply(&self, draft: &mut Draft, input: &Input<'_>) -> Result<(), Problems> {
        (self.set)(draft, self.job_type, input)
    }
}

/// All keys.
pub(super) fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| SPECS.iter().flat_map(expand).collect())
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.name == name)
}

/// Whether keys live below that name: `limits`, `limits.caller`.
pub(super) fn is_section(name: &str) -> bool {
    keys().iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn expand(spec: &Spec) -> Vec<Key> {
    let key = |name: String, job_type: JobType| Key {
        name,
        default: spec.default_of.map(|of| of(job_type)).or(spec.default),
        secret: spec.secret,
        job_type,
        set: spec.set,
    };
    if spec.name.contains('*') {
        JobType::ALL.into_iter().map(|t| key(spec.name.replace('*', t.config_key()), t)).collect()
    } else {
        // A key without a `*` does not look at the type.
        vec![key(spec.name.to_owned(), JobType::CheckUser)]
    }
}

const fn plain(name: &'static str, default: &'static str, set: Set) -> Spec {
    Spec { name, default: Some(default), default_of: None, secret: false, set }
}

const fn unset(name: &'static str, set: Set) -> Spec {
    Spec { name, default: None, default_of: None, secret: false, set }
}

const fn secret(name: &'static str, default: Option<&'static str>, set: Set) -> Spec {
    Spec { name, default, default_of: None, secret: true, set }
}

const fn by_type(name: &'static str, default_of: fn(JobType) -> &'static str, set: Set) -> Spec {
    Spec { name, default: None, default_of: Some(default_of), secret: false, set }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MAX_BURST: i64 = 1_000_000;

/// Reads with `$read` and stores at `$place`.
macro_rules! to {
    ($($place:ident).+, $read:expr) => {
        |draft, _, input| {
            let read: fn(&Input<'_>) -> Result<_, String> = $read;
            draft.config.$($place).+ = read(input)?;
            Ok(())
        }
    };
}

/// Reads with `$read` and stores `Some` at `$place`.
macro_rules! to_some {
    ($($place:ident).+, $read:expr) => {
        |draft, _, input| {
            let read: fn(&Input<'_>) -> Result<_, String> = $read;
            draft.config.$($place).+ = Some(read(input)?);
            Ok(())
        }
    };
}

static SPECS: &[Spec] = &[
    secret("redis.url", Some("\"redis://127.0.0.1:6379\""), |draft, _, input| {
        draft.config.redis.url = read_redis_urls(input)?;
        draft.config.redis.url_is_set = true;
        Ok(())
    }),
    plain("redis.namespace", "\"xco\"", to!(redis.namespace, read_namespace)),
    plain("redis.partitions", "1", to!(redis.partitions, |i| i.integer(1..=256))),
    plain("redis.response_timeout", "\"2s\"", to!(redis.response_timeout, |i| i.duration(100 * MS..=5 * MINUTE))),
    plain("redis.connect_timeout", "\"2s\"", to!(redis.connect_timeout, |i| i.duration(100 * MS..=MINUTE))),
    plain(
        "redis.durability",
        "\"single\"",
        to!(redis.durability, |i| i.word(&[("single", Durability::Single), ("replicated", Durability::Replicated)])),
    ),
    plain("redis.strict", "false", to!(redis.strict, |i| i.boolean())),
    unset("redis.sentinel.username", to_some!(redis.sentinel.username, |i| i.text())),
    secret("redis.sentinel.password", None, to_some!(redis.sentinel.password, |i| i.secret_text())),
    unset("redis.tls.ca_file", to_some!(redis.tls.ca_file, |i| i.text().map(Into::into))),
    unset("redis.tls.cert_file", to_some!(redis.tls.cert_file, |i| i.text().map(Into::into))),
    unset("redis.tls.key_file", to_some!(redis.tls.key_file, |i| i.text().map(Into::into))),
    unset("xco.base_url", to_some!(xco.base_url, |i| parse_http_url(&i.text()?))),
    unset("xco.token_url", to_some!(xco.token_url, |i| parse_http_url(&i.text()?))),
    unset("xco.client_id", to_some!(xco.client_id, |i| i.text())),
    secret("xco.client_secret", None, to_some!(xco.client_secret, |i| i.secret_text())),
    unset("xco.client_secret_file", |draft, _, input| {
        draft.client_secret_file = Some(input.text()?);
        Ok(())
    }),
    secret("xco.api_key", None, to_some!(xco.api_key, |i| i.secret_text())),
    unset("xco.api_key_file", |draft, _, input| {
        draft.api_key_file = Some(input.text()?);
        Ok(())
    }),
    unset("xco.merchant_id", to_some!(xco.merchant_id, |i| i.merchant())),
    plain("xco.scope", "\"xco-api\"", to!(xco.scope, |i| i.text())),
    plain(
        "xco.token_auth",
        "\"body\"",
        to!(xco.token_auth, |i| i.word(&[("body", TokenAuth::Body), ("basic", TokenAuth::Basic)])),
    ),
    plain("xco.timeout", "\"10s\"", to!(xco.timeout, |i| i.duration(100 * MS..=5 * MINUTE))),
    plain("xco.connect_timeout", "\"3s\"", to!(xco.connect_timeout, |i| i.duration(100 * MS..=MINUTE))),
    plain("xco.already_exists_types", "[]", |draft, _, input| {
        draft.config.xco.already_exists_types = input.each(Separator::Comma, text_item)?;
        Ok(())
    }),
    plain("xco.invalid_code_statuses", "[400, 401, 403, 404, 422]", |draft, _, input| {
        draft.config.xco.invalid_code_statuses = input.each(Separator::Comma, |i| i.integer(400..=499))?;
        Ok(())
    }),
    plain("xco.allow_insecure_http", "false", to!(xco.allow_insecure_http, |i| i.boolean())),
    plain("xco.max_response_bytes", "262144", to!(xco.max_response_bytes, |i| i.integer(1024..=16 << 20))),
    plain("xco.pool_idle", "256", to!(xco.pool_idle, |i| i.integer(0..=65_536))),
    plain("xco.connection_max_age", "\"2m\"", to!(xco.connection_max_age, |i| i.duration(SECOND..=DAY))),
    unset("xco.tls.ca_file", to_some!(xco.tls.ca_file, |i| i.text().map(Into::into))),
    unset("xco.tls.cert_file", to_some!(xco.tls.cert_file, |i| i.text().map(Into::into))),
    unset("xco.tls.key_file", to_some!(xco.tls.key_file, |i| i.text().map(Into::into))),
    plain("worker.concurrency", "64", to!(worker.concurrency, |i| i.integer(1..=4096))),
    plain("worker.shutdown_grace", "\"25s\"", to!(worker.shutdown_grace, |i| i.duration(Duration::ZERO..=HOUR))),
    plain("worker.lease", "\"15s\"", to!(worker.lease, |i| i.duration(SECOND..=HOUR))),
    plain("worker.max_deliveries", "5", to!(worker.max_deliveries, |i| i.integer(1..=1000))),
    plain("worker.bulk_max_share", "50", to!(worker.bulk_max_share, |i| i.integer(1..=100))),
    plain("worker.bulk_min_share", "10", to!(worker.bulk_min_share, |i| i.integer(0..=100))),
    plain("worker.adaptive", "true", to!(worker.adaptive, |i| i.boolean())),
    plain("worker.min_concurrency", "4", to!(worker.min_concurrency, |i| i.integer(1..=4096))),
    plain("worker.breaker", "true", to!(worker.breaker, |i| i.boolean())),
    unset("limits.caller.rate", |d, _, i| set_rate(d, Bucket::Caller, i)),
    unset("limits.caller.burst", |d, _, i| set_burst(d, Bucket::Caller, i)),
    unset("limits.client.rate", |d, _, i| set_rate(d, Bucket::Client, i)),
    unset("limits.client.burst", |d, _, i| set_burst(d, Bucket::Client, i)),
    unset("limits.total.rate", |d, _, i| set_rate(d, Bucket::Total, i)),
    unset("limits.total.burst", |d, _, i| set_burst(d, Bucket::Total, i)),
    unset("limits.types.*.rate", |d, job_type, i| set_rate(d, Bucket::Type(job_type), i)),
    unset("limits.types.*.burst", |d, job_type, i| set_burst(d, Bucket::Type(job_type), i)),
    plain("limits.allow_missing_caller_id", "false", to!(limits.allow_missing_caller_id, |i| i.boolean())),
    plain("limits.learn", "true", to!(limits.learn, |i| i.boolean())),
    plain("limits.margin", "\"20ms\"", to!(limits.margin, |i| i.duration(Duration::ZERO..=10 * SECOND))),
    plain("retry.base", "\"500ms\"", to_some!(retry.base, |i| i.duration(MS..=HOUR))),
    plain("retry.cap", "\"60s\"", to_some!(retry.cap, |i| i.duration(MS..=DAY))),
    unset("retry.max_attempts", to_some!(retry.max_attempts, |i| i.integer(1..=100))),
    plain("retry.budget", "20", to_some!(retry.budget, |i| i.integer(0..=1000))),
    unset("retry.*.base", |draft, job_type, input| {
        draft.config.retry.types.entry(job_type).or_default().base = Some(input.duration(MS..=HOUR)?);
        Ok(())
    }),
    unset("retry.*.cap", |draft, job_type, input| {
        draft.config.retry.types.entry(job_type).or_default().cap = Some(input.duration(MS..=DAY)?);
        Ok(())
    }),
    by_type("retry.*.max_attempts", default_attempts_text, |draft, job_type, input| {
        draft.config.retry.types.entry(job_type).or_default().max_attempts = Some(input.integer(1..=100)?);
        Ok(())
    }),
    plain("queue.dedupe_window", "\"1h\"", to!(queue.dedupe_window, |i| i.duration(SECOND..=30 * DAY))),
    plain("queue.index_retention", "\"0s\"", to!(queue.index_retention, |i| i.duration(Duration::ZERO..=365 * DAY))),
    by_type("queue.ttl.*", default_ttl_text, |draft, job_type, input| {
        if input.text().is_ok_and(|text| text == "off") {
            draft.config.queue.ttl.remove(&job_type);
        } else {
            draft.config.queue.ttl.insert(job_type, input.duration(MS..=30 * DAY)?);
        }
        Ok(())
    }),
    plain("queue.reply_ttl", "\"5m\"", to!(queue.reply_ttl, |i| i.duration(SECOND..=DAY))),
    plain("queue.dead_retention", "\"30d\"", to!(queue.dead_retention, |i| i.duration(MINUTE..=3650 * DAY))),
    plain("queue.max_pending", "1000000", to!(queue.max_pending, |i| i.integer(0..=1_000_000_000))),
    plain("completions.retention", "\"24h\"", to!(completions.retention, |i| i.duration(SECOND..=365 * DAY))),
    plain("completions.max_bytes", "1073741824", to!(completions.max_bytes, |i| i.integer(1 << 20..=1 << 40))),
    plain("http.listen", "\"127.0.0.1:9464\"", to!(http.listen, |i| i.listen())),
    unset("gateway.listen", to!(gateway.listen, |i| i.listen())),
    // The digests are no secrets, but they are nobody's business either: never quoted.
    secret("gateway.tokens", Some("[]"), |draft, _, input| {
        draft.config.gateway.tokens = read_tokens(input)?;
        Ok(())
    }),
    plain("telemetry.log", "\"info\"", to!(telemetry.log, read_filter)),
    plain(
        "telemetry.format",
        "\"text\"",
        to!(telemetry.format, |i| i.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])),
    ),
];

fn set_rate(draft: &mut Draft, bucket: Bucket, input: &Input<'_>) -> Result<(), Problems> {
    draft.bucket(bucket).rate = Some(input.rate()?);
    Ok(())
}

fn set_burst(draft: &mut Draft, bucket: Bucket, input: &Input<'_>) -> Result<(), Problems> {
    draft.bucket(bucket).burst = Some(input.integer(1..=MAX_BURST)?);
    Ok(())
}

fn read_redis_urls(input: &Input<'_>) -> Result<Vec<SecretString>, Problems> {
    let is_text = matches!(input.value, super::value::Value::Text(_));
    let urls = if is_text { vec![input.text()?] } else { input.each(Separator::CommaBeforeUrl, text_item)? };
    if urls.is_empty() || urls.len() > 64 {
        return Err("from 1 to 64 URLs are wanted".to_owned().into());
    }
    let mut faults = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let fault = match parse_redis_url(url) {
            Ok(RedisUrl::Sentinel(_)) if urls.len() > 1 => "a sentinel URL stands alone, not in an array".to_owned(),
            Ok(_) => continue,
            Err(fault) => fault,
        };
        faults.push(if urls.len() > 1 { format!("item {}: {fault}", index + 1) } else { fault });
    }
    if faults.is_empty() { Ok(urls.into_iter().map(SecretString::from).collect()) } else { Err(Problems(faults)) }
}

fn read_namespace(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    // It stands within a hash tag, `{xco:0}`: a brace or colon would move keys to other slots.
    if text.len() > 64 || !text.bytes().all(allowed) {
        return Err("a namespace is 1 to 64 of A-Z a-z 0-9 _ . -".to_owned());
    }
    Ok(text)
}

fn read_filter(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    match tracing_subscriber::EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err("not a filter such as info, debug or info,xco_worker=debug".to_owned()),
    }
}

fn default_attempts_text(job_type: JobType) -> &'static str {
    match job_type {
        JobType::CheckUser | JobType::CreateUser => "8",
        JobType::StartOtp | JobType::VerifyOtp => "3",
        JobType::FinalizeConsent => "5",
    }
}

fn default_ttl_text(job_type: JobType) -> &'static str {
    match job_type {
        JobType::StartOtp => "\"2m\"",
        JobType::VerifyOtp => "\"1m\"",
        _ => "\"off\"",
    }
}

/// A function of its own: a method's path is not general enough over lifetimes to be passed on.
fn text_item(item: &Input<'_>) -> Result<String, String> {
    item.text()
}
