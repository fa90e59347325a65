//! How the simulator behaves, above all where XCO's public pages leave it open.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// A bucket's rate and burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SandboxLimit {
    /// Calls a second.
    pub per_second: f64,
    /// Calls at once after a pause; at least 1.
    pub burst: u32,
}

/// How long an answer takes: drawn evenly between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// At least.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Latency {
    /// Always the same.
    pub const fn fixed(latency: Duration) -> Self {
        Self { min: latency, max: latency }
    }
}

/// What create-user answers for a customer who has an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConflictStyle {
    /// 409
    #[default]
    Conflict,
    /// 400 with this problem `type`.
    BadRequest(String),
}

/// The simulator's configuration.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Where to listen; default `127.0.0.1:0`, a free port.
    pub listen: SocketAddr,
    /// The `OAuth2` client; default `sandbox-client`.
    pub client_id: String,
    /// Its secret, made up like everything here; default `sandbox-secret`.
    pub client_secret: String,
    /// `x-api-key`: checked when set.
    pub api_key: Option<String>,
    /// The only merchant there is; `None`: any UUID.
    pub merchant_id: Option<String>,
    /// How long a token lives, in whole seconds; default 5 min.
    pub token_life: Duration,
    /// Codes, challenges, latencies and chance follow from it.
    pub seed: u64,
    /// Of each `caller_id`; default none.
    pub caller_limit: Option<SandboxLimit>,
    /// Of all calls without a `caller_id`; default none.
    pub client_limit: Option<SandboxLimit>,
    /// Whether a 429 says `Retry-After`; default true.
    pub send_retry_after: bool,
    /// Of the API, not of the token endpoint; default none.
    pub latency: Latency,
    /// Maximum number of API calls worked on at once; further calls wait their turn. Default: no maximum.
    pub capacity: Option<usize>,
    /// What verify answers to a wrong code (400, 401, 403, 404 or 422); default 400.
    pub wrong_code_status: u16,
    /// The problem `type` of that answer; default one that does not speak of the code, the harder case.
    pub wrong_code_type: String,
    /// Whether that answer's `title` and `detail` quote the code: an upstream that echoes; default false.
    pub echo_code: bool,
    /// What create answers for an existing account; default 409.
    pub conflict: ConflictStyle,
    /// How often a code may be tried; default 3.
    pub max_code_attempts: u32,
    /// How long a code is good for; default 10 min.
    pub code_life: Duration,
    /// Whether calls and effects are recorded one by one; default true. Counts are kept either way.
    pub record_calls: bool,
    /// How many calls, and how many effects, are kept; default 100,000.
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
