//! The configuration, typed and checked. The table in `schema` has the meaning and the default of every key.

use super::{Rate, SentinelConfig, TlsConfig, urls::redis_user};
use crate::contract::{JobType, MerchantId, Partitions};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use url::Url;

/// A section of the configuration, and its `blank` value, on which the table's defaults are applied.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl $name {
            fn blank() -> Self {
                Self { $($field: Default::default(),)* }
            }
        }
    };
}

/// The whole configuration.
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
    /// `gateway.*`
    pub gateway: GatewayConfig,
    /// `telemetry.*`
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Every value zero or empty. The table's defaults make a configuration of it.
    pub(super) fn blank() -> Self {
        Self {
            redis: RedisConfig::blank(),
            xco: XcoConfig::blank(),
            worker: WorkerConfig::blank(),
            limits: LimitsConfig::blank(),
            retry: RetryConfig::default(),
            queue: QueueConfig::blank(),
            completions: CompletionsConfig::blank(),
            http: HttpConfig::blank(),
            gateway: GatewayConfig::blank(),
            telemetry: TelemetryConfig::blank(),
        }
    }
}

section! {
    /// `redis.*`: where the queue lives.
    pub struct RedisConfig {
        /// `redis.url`: one URL, or several for a cluster. A URL may contain a password.
        pub url: Vec<SecretString>,
        /// Whether a source set `redis.url`.
        pub url_is_set: bool,
        /// `redis.namespace`: prefix of every Redis key.
        pub namespace: String,
        /// `redis.partitions`
        pub partitions: Partitions,
        /// `redis.response_timeout`
        pub response_timeout: Duration,
        /// `redis.connect_timeout`
        pub connect_timeout: Duration,
        /// `redis.durability`
        pub durability: Durability,
        /// `redis.strict`: whether workers take no jobs while Redis may delete keys to free memory.
        pub strict: bool,
        /// `redis.tls.*`: for `rediss://` and `rediss+sentinel://`
        pub tls: TlsConfig,
        /// `redis.sentinel.*`: the login to the Sentinels. What is not set is taken from `redis.url`.
        pub sentinel: SentinelConfig,
    }
}

impl RedisConfig {
    /// The Redis user that `redis.url` names, for messages.
    pub fn user(&self) -> String {
        let named = self.url.first().and_then(|url| redis_user(url.expose_secret()));
        named.unwrap_or_else(|| "default".to_owned())
    }
}

/// When a completion counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the master has it.
    #[default]
    Single,
    /// When a replica has it too (`WAIT 1`). A call that is not safe to repeat is then made only after a replica has its call
    /// marker, so a failover loses nothing that counted as stored.
    Replicated,
}

/// How the client authenticates to the token endpoint. XCO's public pages do not specify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenAuth {
    /// `client_id` and `client_secret` in the form body.
    #[default]
    Body,
    /// HTTP Basic (RFC 6749 §2.3.1).
    Basic,
}

section! {
    /// `xco.*`: the XCO API and the credentials for it.
    pub struct XcoConfig {
        /// `xco.base_url`. It has no default, so that customers' data goes nowhere by accident.
        pub base_url: Option<Url>,
        /// `xco.token_url`
        pub token_url: Option<Url>,
        /// `xco.client_id`
        pub client_id: Option<String>,
        /// `xco.client_secret`, or the content of `xco.client_secret_file`
        pub client_secret: Option<SecretString>,
        /// `xco.api_key`, or the content of `xco.api_key_file`: the header `x-api-key`
        pub api_key: Option<SecretString>,
        /// `xco.merchant_id`: merchant of the jobs that name none
        pub merchant_id: Option<MerchantId>,
        /// `xco.scope`
        pub scope: String,
        /// `xco.token_auth`
        pub token_auth: TokenAuth,
        /// `xco.timeout`: of one call, connecting included
        pub timeout: Duration,
        /// `xco.connect_timeout`
        pub connect_timeout: Duration,
        /// `xco.already_exists_types`: problem types that mean, for `CreateUser`, that the customer has an account already
        pub already_exists_types: Vec<String>,
        /// `xco.invalid_code_statuses`: HTTP statuses that mean, for `VerifyOtp`, that the code is wrong
        pub invalid_code_statuses: Vec<u16>,
        /// `xco.allow_insecure_http`: whether `http://` URLs to other machines are allowed
        pub allow_insecure_http: bool,
        /// `xco.max_response_bytes`
        pub max_response_bytes: usize,
        /// `xco.pool_idle`: maximum number of idle connections for each host
        pub pool_idle: usize,
        /// `xco.connection_max_age`: maximum age of a connection that takes further calls
        pub connection_max_age: Duration,
        /// `xco.tls.*`
        pub tls: TlsConfig,
    }
}

section! {
    /// `worker.*`: how many jobs a worker runs, and for how long it holds them.
    pub struct WorkerConfig {
        /// `worker.concurrency`: number of worker slots, which is the maximum number of calls to XCO at once
        pub concurrency: usize,
        /// Maximum number of worker slots that the process's open files allow; `None`: unknown. No source sets it, but the program that
        /// runs the worker.
        pub open_files_allow: Option<usize>,
        /// `worker.shutdown_grace`: maximum time to finish the calls in flight at shutdown
        pub shutdown_grace: Duration,
        /// `worker.lease`: time without a sign of life after which other workers take over a worker's jobs
        pub lease: Duration,
        /// `worker.max_deliveries`: number of lost workers after which a job fails as `crash_loop`
        pub max_deliveries: u32,
        /// `worker.bulk_min_share`: percentage of the allowed worker slots that bulk jobs may always use
        pub bulk_min_share: u8,
        /// `worker.bulk_max_share`: maximum percentage of the worker slots for bulk jobs while interactive jobs arrive
        pub bulk_max_share: u8,
        /// `worker.adaptive`: whether the number of calls at once follows what XCO can take
        pub adaptive: bool,
        /// `worker.min_concurrency`: minimum number of worker slots that `worker.adaptive` leaves
        pub min_concurrency: usize,
        /// `worker.breaker`: whether no jobs are taken while XCO fails completely
        pub breaker: bool,
    }
}

/// A bucket's rate and burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The sustained rate.
    pub rate: Rate,
    /// Number of calls that may be made at once after a pause; at least 1.
    pub burst: u32,
}

section! {
    /// `limits.*`. XCO publishes no limits: a bucket without a rate is unlimited until a 429 closes it.
    pub struct LimitsConfig {
        /// `limits.caller.rate`, `limits.caller.burst`: of each caller
        pub caller: Option<Limit>,
        /// `limits.client.rate`, `limits.client.burst`: of all calls without a caller
        pub client: Option<Limit>,
        /// `limits.total.rate`, `limits.total.burst`: of all calls
        pub total: Option<Limit>,
        /// `limits.types.<type>.rate|burst` (`check_user`, …): of each caller, for the calls of one job type
        pub types: BTreeMap<JobType, Limit>,
        /// `limits.allow_missing_caller_id`: whether jobs that need a caller and have none run
        pub allow_missing_caller_id: bool,
        /// `limits.learn`: whether a 429 lowers the rate of its bucket
        pub learn: bool,
        /// `limits.margin`: safety margin for network jitter, so that a limit equal to XCO's is never exceeded
        pub margin: Duration,
    }
}

/// When a failed job is tried again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// Number of failed attempts after which the job fails.
    pub max_attempts: u32,
}

/// `retry.*`, and `retry.<type>.base|cap|max_attempts`, which override it for one type. Holds what a source has set;
/// `RetryConfig::policy` has the defaults.
#[derive(Debug, Clone, Default)]
pub struct RetryConfig {
    /// `retry.base`, if set
    pub base: Option<Duration>,
    /// `retry.cap`, if set
    pub cap: Option<Duration>,
    /// `retry.max_attempts`, if set
    pub max_attempts: Option<u32>,
    /// `retry.budget`, if set: maximum number of retries as a percentage of first attempts; 0: no budget
    pub budget: Option<u32>,
    /// `retry.<type>.*`, if set
    pub types: BTreeMap<JobType, RetryOverride>,
}

/// `retry.<type>.*`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOverride {
    /// `retry.<type>.base`, if set
    pub base: Option<Duration>,
    /// `retry.<type>.cap`, if set
    pub cap: Option<Duration>,
    /// `retry.<type>.max_attempts`, if set
    pub max_attempts: Option<u32>,
}

section! {
    /// `queue.*`: how long things are kept, and when a lane counts as overloaded.
    pub struct QueueConfig {
        /// `queue.dedupe_window`: a second job with the same id within this window is a duplicate
        pub dedupe_window: Duration,
        /// `queue.index_retention`: how long the end of a job can be looked up by its id, if longer than the window
        pub index_retention: Duration,
        /// `queue.ttl.<type>`: deadlines of interactive jobs that name none; a type that is `off` has no entry
        pub ttl: BTreeMap<JobType, Duration>,
        /// `queue.reply_ttl`: how long a reply is kept if no program reads it
        pub reply_ttl: Duration,
        /// `queue.dead_retention`: how long dead letters are kept
        pub dead_retention: Duration,
        /// `queue.max_pending`: number of jobs from which a lane counts as overloaded, over all partitions; 0: no bound
        pub max_pending: u64,
    }
}

section! {
    /// `completions.*`: how long completions are kept, and how many.
    pub struct CompletionsConfig {
        /// `completions.retention`
        pub retention: Duration,
        /// `completions.max_bytes`: over all partitions; each gets an equal share
        pub max_bytes: u64,
    }
}

section! {
    /// `http.*`: the worker's `/healthz`, `/readyz` and `/metrics`.
    pub struct HttpConfig {
        /// `http.listen`; `None` if it is `off`
        pub listen: Option<SocketAddr>,
    }
}

section! {
    /// `gateway.*`
    pub struct GatewayConfig {
        /// `gateway.listen`; `None` if it is `off`
        pub listen: Option<SocketAddr>,
        /// `gateway.probe_listen`; `None` if it is `off` or not set
        pub probe_listen: Option<SocketAddr>,
        /// `gateway.public_url`: its address as browsers see it, without a slash at the end
        pub public_url: Option<String>,
        /// `gateway.environment`
        pub environment: String,
        /// `gateway.allowed_origins`
        pub allowed_origins: Vec<String>,
        /// `gateway.ticket_keys`: the first signs, all verify
        pub ticket_keys: Vec<TicketKey>,
        /// `gateway.ticket_ttl`
        pub ticket_ttl: Duration,
        /// `gateway.tokens`
        pub tokens: Vec<GatewayToken>,
    }
}

/// One bearer token of the gateway.
#[derive(Debug, Clone)]
pub struct GatewayToken {
    /// Name of the token's user, for the audit.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What the token may do.
    pub roles: Vec<GatewayRole>,
    /// Merchants that the token may act for; empty: all.
    pub merchants: Vec<MerchantId>,
}

/// What a token of the gateway may do. No role includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayRole {
    /// Enqueue jobs and wait for them.
    Enqueue,
    /// Look at jobs, completions and everything that the commands show.
    Read,
    /// Cancel, pause, replay, discard, change limits, and see personal data one by one.
    Operate,
}

impl GatewayRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Enqueue, Self::Read, Self::Operate];

    /// The role's name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// A key that signs tickets.
#[derive(Debug, Clone)]
pub struct TicketKey {
    /// Name of the key, part of each ticket: 1 to 16 of `A-Z a-z 0-9 _ -`.
    pub id: String,
    /// The content of the key's file.
    pub secret: SecretSlice<u8>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// `telemetry.*`. Export by OTLP follows the standard `OTEL_*` environment variables.
    pub struct TelemetryConfig {
        /// `telemetry.log`: a filter such as `info` or `xco_worker=debug`
        pub log: String,
        /// `telemetry.format`
        pub format: LogFormat,
    }
}
