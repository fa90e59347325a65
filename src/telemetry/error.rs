//! Why telemetry cannot be set up.

use opentelemetry_sdk::error::OTelSdkError;

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log` is not a valid filter.
    #[error("telemetry.log is not a filter such as info or info,xco_worker=debug")]
    Filter,
    /// An `OTEL_*` variable names an exporter or a protocol that is not supported.
    #[error("{variable} names what is not built in; known: {known}")]
    Exporter {
        /// Name of the variable.
        variable: &'static str,
        /// The supported values, separated by commas.
        known: String,
    },
    /// The OTLP exporter rejects its environment variables.
    #[error("OTLP export cannot start; check the OTEL_EXPORTER_OTLP_* variables")]
    Otlp(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The metrics cannot be registered.
    #[error("metrics cannot start")]
    Metrics(#[source] OTelSdkError),
    /// Another log subscriber is installed: `init` was called twice.
    #[error("logging is set up already")]
    Twice,
}
