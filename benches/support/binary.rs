//! The binary, run by a benchmark.

use super::redis_server::RedisServer;
use std::process::{Child, Command, Stdio};
use xco_worker::sandbox::{Sandbox, SandboxConfig};

/// The merchant of all jobs.
pub(crate) const MERCHANT: &str = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";

/// A child process, killed at the latest when its owner is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command of the binary, configured for Redis and the sandbox.
pub(crate) fn program(redis: &RedisServer, sandbox: &Sandbox, args: &[&str]) -> Command {
    let credentials = SandboxConfig::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xco-worker"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for (key, value) in [
        ("REDIS__URL", redis.url()),
        ("XCO__BASE_URL", sandbox.base_url().as_str()),
        ("XCO__TOKEN_URL", sandbox.token_url().as_str()),
        ("XCO__CLIENT_ID", &credentials.client_id),
        ("XCO__CLIENT_SECRET", &credentials.client_secret),
        ("XCO__MERCHANT_ID", MERCHANT),
    ] {
        command.env(format!("XCO_WORKER__{key}"), value);
    }
    command
}

/// Maximum memory of a process so far in KiB, or 0 if the system does not report it.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
