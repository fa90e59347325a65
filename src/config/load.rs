//! File, environment and flags → [`Config`], or every fault at once.

use super::Config;
use std::path::PathBuf;

/// Where configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`; none: `config/xco-worker.toml` if it is there.
    pub file: Option<PathBuf>,
    /// The environment, as `(name, value)`: `XCO_WORKER__SECTION__KEY`.
    pub env: Vec<(String, String)>,
    /// Flags, as `(key, value, flag)`: `("redis.url", "redis://…", "--redis-url")`.
    pub flags: Vec<(String, String, String)>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// `worker.lease`
    pub key: String,
    /// `config/xco-worker.toml:12`, `XCO_WORKER__WORKER__LEASE`, `--lease`
    pub origin: String,
    /// What is wrong, and what would be right; never quotes a secret.
    pub detail: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} configuration fault(s)", .0.len())]
pub struct ConfigFaults(pub Vec<ConfigFault>);

/// Loads the configuration: defaults, then the file, then the environment, then flags.
pub fn load(sources: &Sources) -> Result<Config, ConfigFaults> {
    let _ = sources;
    todo!("config helper")
}
