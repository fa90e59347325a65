//! The input that every command receives.

use crate::{config::Config, telemetry::Metrics};

/// The checked configuration, and the process's own state.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration, checked.
    pub config: Config,
    /// `--json`
    pub json: bool,
    /// Logs, traces and metrics of the process.
    pub metrics: Metrics,
}
