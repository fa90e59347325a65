//! The environment: Redis, a simulated XCO and a worker, with HTTP between them.

use crate::{
    jobs::{self, Running},
    redis_server::RedisServer,
    server,
};
use secrecy::SecretString;
use std::time::Duration;
use tokio::runtime::Runtime;
use xco_worker::{
    config::{Config, Limit, Rate},
    sandbox::{Latency, Sandbox, SandboxConfig, SandboxLimit},
    xco::XcoClient,
};

/// Latency of the simulated XCO. With less, the two cores of the machine would be the limit.
pub(crate) const XCO_LATENCY: Duration = Duration::from_millis(20);

pub(crate) struct Stage {
    running: Option<Running>,
    pub(crate) sandbox: Sandbox,
    // Serves the sandbox; must outlive it.
    _sandbox_runtime: Runtime,
    pub(crate) redis: redis::Connection,
    pub(crate) server: RedisServer,
}

impl Stage {
    /// Starts everything. `limits` are XCO's own, of callers and of the client.
    pub(crate) fn start(
        limits: (Option<SandboxLimit>, Option<SandboxLimit>),
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_with_latency(XCO_LATENCY, limits, adjust)
    }

    /// As [`Stage::start`], with an XCO that takes `latency` to answer.
    pub(crate) fn start_with_latency(
        latency: Duration,
        limits: (Option<SandboxLimit>, Option<SandboxLimit>),
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let (server, redis) = server::start();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let sandbox = SandboxConfig {
            latency: Latency::fixed(latency),
            caller_limit: limits.0,
            client_limit: limits.1,
            max_records: 2_000_000,
            token_life: Duration::from_secs(3600),
            ..SandboxConfig::default()
        };
        let sandbox = runtime.block_on(Sandbox::start(sandbox)).unwrap();
        let credentials = SandboxConfig::default();
        let mut config = jobs::config(server.url(), 64);
        config.xco.base_url = Some(sandbox.base_url());
        config.xco.token_url = Some(sandbox.token_url());
        config.xco.client_id = Some(credentials.client_id);
        config.xco.client_secret = Some(SecretString::from(credentials.client_secret));
        adjust(&mut config);
        let running = Running::start(config, |config| XcoClient::new(&config.xco).unwrap());
        Self { running: Some(running), sandbox, _sandbox_runtime: runtime, redis, server }
    }

    /// Number of jobs that are still in the lane.
    pub(crate) fn lane_length(&mut self) -> usize {
        redis::cmd("XLEN").arg(jobs::LANE).query(&mut self.redis).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// The same limit in the worker's configuration.
pub(crate) fn worker_limit(limit: SandboxLimit) -> Limit {
    Limit { rate: Rate { interval_us: (1e6 / limit.per_second) as u64 }, burst: limit.burst }
}
