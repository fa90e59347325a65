//! The configuration, typed and checked. Defaults are those of `Config::default`.

use super::{Rate, SentinelConfig, TlsConfig};
use crate::contract::{JobType, MerchantId};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use url::Url;

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `redis.*`
    pub redis: RedisConfig,
    /// `xco.*`
    pub xco: XcoConfig,
    /// `worker.*`
    pub worker: WorkerConfig,
    /// `limits.*`
    pub limits: LimitsConfig,
    /// `retry.*`
    pub retry: RetryConfig,
    /// `queue.*`
    pub queue: QueueConfig,
    /// `completions.*`
    pub completions: CompletionsConfig,
    /// `http.*`
    pub http: HttpConfig,
    /// `gateway.*`: read and checked here, used by the gateway.
    pub gateway: GatewayConfig,
    /// `telemetry.*`
    pub telemetry: TelemetryConfig,
}

/// `redis.*`
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis.url`: one URL, or an array of them for a cluster. A URL may carry a password: `SecretString`.
    pub url: Vec<SecretString>,
    /// Whether anybody set `redis.url`; the default otherwise.
    pub url_is_set: bool,
    /// `redis.namespace`: default `xco`.
    pub namespace: String,
    /// `redis.partitions`: default 1, at most 256.
    pub partitions: u16,
    /// `redis.response_timeout`: default 2 s.
    pub response_timeout: Duration,
    /// `redis.connect_timeout`: default 2 s.
    pub connect_timeout: Duration,
    /// `redis.durability`: when a completion is taken as done; default `single`
    pub durability: Durability,
    /// `redis.strict`: no job is taken while Redis may throw keys away (`maxmemory-policy`); default false
    pub strict: bool,
    /// `redis.tls.*`: for `rediss://` and `rediss+sentinel://`
    pub tls: TlsConfig,
    /// `redis.sentinel.*`: where not set, what `redis.url` says of the servers
    pub sentinel: SentinelConfig,
}

/// When a completion is taken as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the master has it.
    #[default]
    Single,
    /// When a replica has it, too (`WAIT 1`), and an unsafe call is made only when one has its mark: a failover then loses
    /// nothing that was taken as done.
    Replicated,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: vec![SecretString::from("redis://127.0.0.1:6379")],
            url_is_set: false,
            namespace: "xco".to_owned(),
            partitions: 1,
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            durability: Durability::Single,
            strict: false,
            tls: TlsConfig::default(),
            sentinel: SentinelConfig::default(),
        }
    }
}

/// How the client authenticates to the token endpoint (not public: assumed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenAuth {
    /// `client_id` and `client_secret` in the form body.
    #[default]
    Body,
    /// HTTP Basic (RFC 6749 §2.3.1).
    Basic,
}

/// `xco.*`
#[derive(Debug, Clone)]
pub struct XcoConfig {
    /// `xco.base_url`: no default, so that customers' data never goes where nobody pointed
    pub base_url: Option<Url>,
    /// `xco.token_url`
    pub token_url: Option<Url>,
    /// `xco.client_id`
    pub client_id: Option<String>,
    /// `xco.client_secret`, or the content of `xco.client_secret_file`
    pub client_secret: Option<SecretString>,
    /// `xco.api_key`, or the content of `xco.api_key_file`: sent as `x-api-key` when set
    pub api_key: Option<SecretString>,
    /// `xco.merchant_id`: for jobs that name none
    pub merchant_id: Option<MerchantId>,
    /// `xco.scope`: default `xco-api`
    pub scope: String,
    /// `xco.token_auth`: `body` or `basic`
    pub token_auth: TokenAuth,
    /// `xco.timeout`: a call in all; default 10 s
    pub timeout: Duration,
    /// `xco.connect_timeout`: default 3 s
    pub connect_timeout: Duration,
    /// `xco.already_exists_types`: problem types that mean, at `CreateUser`, that the customer has an account
    pub already_exists_types: Vec<String>,
    /// `xco.invalid_code_statuses`: which statuses to verify mean a wrong code; default 400, 401, 403, 404, 422
    pub invalid_code_statuses: Vec<u16>,
    /// `xco.allow_insecure_http`: `http://` base URLs beyond loopback; default false
    pub allow_insecure_http: bool,
    /// `xco.max_response_bytes`: default 256 KiB
    pub max_response_bytes: usize,
    /// `xco.pool_idle`: keep-alive connections kept per host; default 256
    pub pool_idle: usize,
    /// `xco.connection_max_age`: a connection older than this takes no further call; default 2 min
    pub connection_max_age: Duration,
    /// `xco.tls.*`
    pub tls: TlsConfig,
}

impl Default for XcoConfig {
    fn default() -> Self {
        Self {
            base_url: None,
            token_url: None,
            client_id: None,
            client_secret: None,
            api_key: None,
            merchant_id: None,
            scope: "xco-api".to_owned(),
            token_auth: TokenAuth::Body,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            already_exists_types: Vec::new(),
            invalid_code_statuses: vec![400, 401, 403, 404, 422],
            allow_insecure_http: false,
            max_response_bytes: 256 * 1024,
            pool_idle: 256,
            connection_max_age: Duration::from_secs(120),
            tls: TlsConfig::default(),
        }
    }
}

/// `worker.*`
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `worker.concurrency`: calls to XCO at once; default 64, at most 4096
    pub concurrency: usize,
    /// `worker.shutdown_grace`: default 25 s
    pub shutdown_grace: Duration,
    /// `worker.lease`: after this long without a sign of life a worker's jobs are taken over; default 15 s, at least 1 s
    pub lease: Duration,
    /// `worker.max_deliveries`: a job whose worker was lost this many times is `crash_loop`; default 5
    pub max_deliveries: u32,
    /// `worker.bulk_min_share`: the share of the slots allowed at the moment that bulk may always use, in percent; default 10
    pub bulk_min_share: u8,
    /// `worker.bulk_max_share`: the share of slots that bulk uses at most while interactive jobs come, in percent; default 50
    pub bulk_max_share: u8,
    /// `worker.adaptive`: whether the calls at once follow what XCO takes; default true
    pub adaptive: bool,
    /// `worker.min_concurrency`: never fewer at once, but for the breaker; default 4
    pub min_concurrency: usize,
    /// `worker.breaker`: whether no jobs are taken while XCO fails; default true
    pub breaker: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            shutdown_grace: Duration::from_secs(25),
            lease: Duration::from_secs(15),
            max_deliveries: 5,
            bulk_min_share: 10,
            bulk_max_share: 50,
            adaptive: true,
            min_concurrency: 4,
            breaker: true,
        }
    }
}

/// A bucket's rate and burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The sustained rate.
    pub rate: Rate,
    /// How many calls at once after a pause; at least 1.
    pub burst: u32,
}

/// `limits.*`. XCO publishes no limits: a bucket without a rate here is unlimited until a 429 closes it.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// `limits.caller.rate`, `limits.caller.burst` (burst defaults to one second's worth, at least 1)
    pub caller: Option<Limit>,
    /// `limits.client.rate`, `limits.client.burst`: calls that carry no caller
    pub client: Option<Limit>,
    /// `limits.total.rate`, `limits.total.burst`: all calls
    pub total: Option<Limit>,
    /// `limits.types.<type>.rate|burst` (`check_user`, …): a caller bucket of its own for the calls of one type
    pub types: BTreeMap<JobType, Limit>,
    /// `limits.allow_missing_caller_id`: default false
    pub allow_missing_caller_id: bool,
    /// `limits.learn`: whether 429s teach a bucket its rate; default true
    pub learn: bool,
    /// `limits.margin`: by how much the ways of two calls to XCO may differ without a limit being overrun; default 20 ms
    pub margin: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            caller: None,
            client: None,
            total: None,
            types: BTreeMap::new(),
            allow_missing_caller_id: false,
            learn: true,
            margin: Duration::from_millis(20),
        }
    }
}

/// One retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// First delay's upper bound; default 500 ms.
    pub base: Duration,
    /// Any delay's upper bound; default 60 s.
    pub cap: Duration,
    /// Failed attempts before giving up.
    pub max_attempts: u32,
}

/// `retry.*`, with `retry.<type>.base|cap|max_attempts` overriding by type.
#[derive(Debug, Clone, Default)]
pub struct RetryConfig {
    /// `retry.base`, where set
    pub base: Option<Duration>,
    /// `retry.cap`, where set
    pub cap: Option<Duration>,
    /// `retry.max_attempts`, where set
    pub max_attempts: Option<u32>,
    /// `retry.budget`: retries are at most this share of first attempts, in percent; `None`: 20; 0: no budget
    pub budget: Option<u32>,
    /// `retry.<type>.*`, where set
    pub types: BTreeMap<JobType, RetryOverride>,
}

/// What `retry.<type>` may say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOverride {
    /// `retry.<type>.base`
    pub base: Option<Duration>,
    /// `retry.<type>.cap`
    pub cap: Option<Duration>,
    /// `retry.<type>.max_attempts`
    pub max_attempts: Option<u32>,
}

/// `queue.*`
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// `queue.dedupe_window`: default 1 h
    pub dedupe_window: Duration,
    /// `queue.index_retention`: how long the end of a job can be looked up by its id, if longer than the window;
    /// default 0
    pub index_retention: Duration,
    /// `queue.ttl.<type>`: deadlines of interactive jobs that name none; default `start_otp` 2 min, `verify_otp` 1 min;
    /// `off` takes a default away
    pub ttl: BTreeMap<JobType, Duration>,
    /// `queue.reply_ttl`: default 5 min
    pub reply_ttl: Duration,
    /// `queue.dead_retention`: how long dead letters are kept; default 30 d
    pub dead_retention: Duration,
    /// `queue.max_pending`: how many jobs a lane may hold, over all partitions, before it counts as overloaded; default
    /// 1,000,000; 0: any number
    pub max_pending: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            dedupe_window: Duration::from_secs(3600),
            index_retention: Duration::ZERO,
            ttl: BTreeMap::from([
                (JobType::StartOtp, Duration::from_secs(120)),
                (JobType::VerifyOtp, Duration::from_secs(60)),
            ]),
            reply_ttl: Duration::from_secs(300),
            dead_retention: Duration::from_secs(30 * 86_400),
            max_pending: 1_000_000,
        }
    }
}

/// `completions.*`
#[derive(Debug, Clone)]
pub struct CompletionsConfig {
    /// `completions.retention`: default 24 h
    pub retention: Duration,
    /// `completions.max_bytes`, a partition's share being an even part: default 1 GiB
    pub max_bytes: u64,
}

impl Default for CompletionsConfig {
    fn default() -> Self {
        Self { retention: Duration::from_secs(86_400), max_bytes: 1 << 30 }
    }
}

/// `http.*`
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `http.listen`: `/healthz`, `/readyz`, `/metrics`; default `127.0.0.1:9464`; `off` (here: `None`) turns it off
    pub listen: Option<SocketAddr>,
}

impl HttpConfig {
    /// Where it listens where nobody said.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464));
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: Some(Self::DEFAULT_LISTEN) }
    }
}

/// `gateway.*`
#[derive(Debug, Clone, Default)]
pub struct GatewayConfig {
    /// `gateway.listen`: `None` where it is `off` or not set
    pub listen: Option<SocketAddr>,
    /// `gateway.tokens`
    pub tokens: Vec<GatewayToken>,
}

/// One bearer token of the gateway.
#[derive(Debug, Clone)]
pub struct GatewayToken {
    /// Whose it is, for the audit.
    pub name: String,
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub sha256: String,
    /// `enqueue`, `read`, `operate`
    pub roles: Vec<String>,
    /// Merchants it may act for; empty: all.
    pub merchants: Vec<MerchantId>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `telemetry.*`. OTLP export follows the standard `OTEL_*` environment variables.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `telemetry.log`: a filter such as `info` or `xco_worker=debug`; default `info`
    pub log: String,
    /// `telemetry.format`: `text` or `json`
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Text }
    }
}
