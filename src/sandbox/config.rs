//! The simulator's configuration, above all for behaviour that XCO's public documentation does not specify.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Rate and burst of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SandboxLimit {
    /// Calls per second.
    pub per_second: f64,
    /// Calls at once after a pause; at least 1.
    pub burst: u32,
}

/// Duration of an answer: a uniformly random time between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Minimum duration.
    pub min: Duration,
    /// Maximum duration.
    pub max: Duration,
}

impl Latency {
    /// A constant latency.
    pub const fn fixed(latency: Duration) -> Self {
        Self { min: latency, max: latency }
    }
}

/// Answer to `create` for a customer who has an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConflictStyle {
    /// Status 409.
    #[default]
    Conflict,
    /// Status 400 with this problem `type`.
    BadRequest(String),
}

/// The simulator's configuration.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Address to listen on; default `127.0.0.1:0`, a free port.
    pub listen: SocketAddr,
    /// Id of the `OAuth2` client; default `sandbox-client`.
    pub client_id: String,
    /// Secret of the `OAuth2` client; default `sandbox-secret`. Not a real secret.
    pub client_secret: String,
    /// Required value of the `x-api-key` header; `None` means that it is not checked.
    pub api_key: Option<String>,
    /// The only existing merchant; `None` means that any UUID is one.
    pub merchant_id: Option<String>,
    /// Lifetime of a token, in whole seconds; default 5 min.
    pub token_life: Duration,
    /// Seed of codes, challenges, latencies and random faults; default 42.
    pub seed: u64,
    /// Limit of each `caller_id`; default none.
    pub caller_limit: Option<SandboxLimit>,
    /// Limit of all calls without a `caller_id`; default none.
    pub client_limit: Option<SandboxLimit>,
    /// Whether a 429 has a `Retry-After` header; default true.
    pub send_retry_after: bool,
    /// Latency of the API, without the token endpoint; default none.
    pub latency: Latency,
    /// Maximum number of API calls worked on at once; further calls wait their turn. Default: no maximum.
    pub capacity: Option<usize>,
    /// Status of the answer to a wrong code (400, 401, 403, 404 or 422); default 400.
    pub wrong_code_status: u16,
    /// Problem `type` of the answer to a wrong code. The default does not mention the code, which is the harder case.
    pub wrong_code_type: String,
    /// Whether the `title` and `detail` of that answer quote the code, like an upstream that echoes its input; default
    /// false.
    pub echo_code: bool,
    /// Answer to `create` for an existing account; default 409.
    pub conflict: ConflictStyle,
    /// Maximum number of tries of a code; default 3.
    pub max_code_attempts: u32,
    /// Lifetime of a code; default 10 min.
    pub code_life: Duration,
    /// Whether calls and effects are recorded one by one; default true. Counts are always kept.
    pub record_calls: bool,
    /// Maximum number of recorded calls, and of recorded effects; default 100,000.
    pub max_records: usize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            client_id: "sandbox-client".to_owned(),
            client_secret: "sandbox-secret".to_owned(),
            api_key: None,
            merchant_id: None,
            token_life: Duration::from_secs(300),
            seed: 42,
            caller_limit: None,
            client_limit: None,
            send_retry_after: true,
            latency: Latency::default(),
            capacity: None,
            wrong_code_status: 400,
            wrong_code_type: "https://api.purse.eu/problems/request-refused".to_owned(),
            echo_code: false,
            conflict: ConflictStyle::Conflict,
            max_code_attempts: 3,
            code_life: Duration::from_secs(600),
            record_calls: true,
            max_records: 100_000,
        }
    }
}
