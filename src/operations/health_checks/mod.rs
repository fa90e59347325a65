//! Health checks: whether a worker of this configuration would work, and what to do where it would not.

mod check;
mod completions;
mod limits;
mod redis;
mod removed_jobs;
mod server;
mod stray_keys;
mod workers;
mod xco;

pub use check::{HealthCheck, HealthStatus};

use limits::shared_limits;

use crate::config::{Config, GatewayConfig};
use std::time::{Duration, SystemTime};

/// What the checks need to know of the machine on which they run.
#[derive(Debug)]
pub struct Host {
    /// Reads the machine's clock, which is compared with Redis's.
    pub clock: fn() -> SystemTime,
    /// Checks of the machine itself, which the caller made. The report repeats them.
    pub checks: Vec<HealthCheck>,
}

/// All checks, in the order in which a person would look at them. Its JSON is the list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct HealthReport {
    /// The results.
    pub checks: Vec<HealthCheck>,
}

impl HealthReport {
    /// How many checks have this status.
    pub fn count(&self, status: HealthStatus) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// What a valid configuration asks for and does not get.
pub fn configuration_warnings(config: &Config) -> Vec<HealthCheck> {
    shared_limits(config).into_iter().chain(gateway(&config.gateway)).collect()
}

/// A warning if a gateway could be reached from other machines without a token.
fn gateway(gateway: &GatewayConfig) -> Option<HealthCheck> {
    let listen = gateway.listen.filter(|listen| !listen.ip().is_loopback() && gateway.tokens.is_empty())?;
    let detail = format!("gateway.listen {listen} can be reached from other machines, and no gateway.tokens are set");
    Some(HealthCheck::warn(
        "gateway",
        detail,
        "set gateway.tokens, or listen on 127.0.0.1: a gateway does not start like this",
    ))
}

/// Checks Redis and XCO side by side, then the host and the limits. A fault of any of them is a result and not an error.
///
/// Changes nothing but the keys of a write test, and takes at most a few times the timeouts of `redis.*` and `xco.*`.
pub async fn run(config: &Config, host: Host) -> HealthReport {
    // A fault of the configuration ends every program before it can ask for a check.
    let mut checks = vec![HealthCheck::ok("configuration", "read, and every value is valid")];
    let longest = config.redis.connect_timeout + config.redis.response_timeout + Duration::from_secs(1);
    let of_xco = async { if xco::is_unset(&config.xco) { None } else { Some(xco::checks(&config.xco).await) } };
    let (of_redis, of_xco) = tokio::join!(redis::checks(config, host.clock, longest), of_xco);
    checks.extend(of_redis.checks);
    checks.extend(of_xco.unwrap_or_else(|| vec![xco::unset(of_redis.running)]));
    checks.extend(host.checks);
    checks.extend(configuration_warnings(config));
    HealthReport { checks }
}
