//! Logs, traces and metrics, and the worker's small HTTP endpoint.

mod metrics;

pub use metrics::Metrics;
