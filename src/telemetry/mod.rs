//! Logs, traces and metrics, and the worker's small HTTP endpoint.
//!
//! Logs go to stderr and never wait for its reader. Metrics are counted with OpenTelemetry and scraped at `/metrics`.
//! Metrics and traces are also exported over OTLP if the standard `OTEL_*` environment variables ask for it. None of
//! the three contains personal data.

mod error;
mod exports;
mod http;
mod init;
mod instruments;
mod lines;
mod metrics;
mod readiness;
mod series;
mod trace;

pub use error::TelemetryError;
pub use http::{HttpEndpoint, probe_routes};
pub use init::{TelemetryGuard, init};
pub use lines::{flush_logs, say_at_end};
pub use metrics::{LimitFigures, Metrics};
pub use readiness::Readiness;
pub use trace::{current_traceparent, parent_context};
