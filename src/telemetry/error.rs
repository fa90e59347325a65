//! Why telemetry cannot be set up.

use opentelemetry_sdk::error::OTelSdkError;

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log` is no filter.
    #[error("telemetry.log is not a filter such as info or info,xco_worker=debug")]
    Filter,
    /// An `OTEL_*` variable names an exporter or protocol that is not built in.
    #[error("{variable} names what is not built in; known: {known}")]
    Exporter {
        /// The variable.
        variable: &'static str,
        /// What it may name.
        known: String,
    },
    /// The OTLP exporter refuses its environment variables.
    #[error("OTLP export cannot start; check the OTEL_EXPORTER_OTLP_* variables")]
    Otlp(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The metrics cannot be registered.
    #[error("metrics cannot start")]
    Metrics(#[source] OTelSdkError),
    /// Another subscriber is there already: `init` was called twice.
    #[error("logging is set up already")]
    Twice,
}
