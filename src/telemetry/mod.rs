//! Logs, traces and metrics, and the worker's small HTTP endpoint.
//!
//! Logs go to stderr, and never wait for whoever reads it. Metrics are counted with OpenTelemetry and scraped at `/metrics`; they, and traces, also go out by
//! OTLP where the standard `OTEL_*` environment variables ask for it. Nothing about a person is in any of the three.

mod callers;
mod error;
mod exports;
mod http;
mod init;
mod lines;
mod metrics;
mod readiness;
mod series;
mod trace;

pub use error::TelemetryError;
pub use http::HttpEndpoint;
pub use init::{TelemetryGuard, init};
pub use lines::{flush_logs, say_at_end};
pub use metrics::{LimitFigures, Metrics};
pub use readiness::Readiness;
pub use trace::{current_traceparent, parent_context};
