//! What every command is given.

use crate::{config::Config, telemetry::Metrics};

/// The checked configuration, and the process's own state.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration, checked.
    pub config: Config,
    /// `--json`
    pub json: bool,
    /// The process's instruments.
    pub metrics: Metrics,
}
