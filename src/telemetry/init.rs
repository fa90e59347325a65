//! Sets up logs, traces and metrics for a process.

use super::{
    Metrics, TelemetryError,
    exports::Exports,
    lines::{LinesGuard, LogLines, report_panics_as_lines},
};
use crate::config::{LogFormat, TelemetryConfig};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use std::{io::IsTerminal, sync::mpsc, time::Duration};
use tracing_subscriber::{EnvFilter, Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Time for exporting the last spans and metrics when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps telemetry running. When dropped, it writes and exports what is still buffered, for at most four seconds.
#[must_use = "dropping it ends telemetry"]
#[derive(Debug)]
pub struct TelemetryGuard {
    metrics: Metrics,
    tracer: Option<SdkTracerProvider>,
    exports: Exports,
    /// Dropped last, because the others may log while they are dropped.
    _lines: LinesGuard,
}

impl TelemetryGuard {
    /// The process's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Sets up logs (to stderr), metrics, and OTLP export if the environment asks for it. Must be called once in a process.
///
/// OTLP over `https://` needs an installed rustls crypto provider.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let exports = Exports::read(|name| std::env::var(name).ok())?;
    let resource = resource(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));

    let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
    if exports.metrics {
        let exporter = MetricExporter::builder().with_http().build().map_err(TelemetryError::Otlp)?;
        meters = meters.with_reader(PeriodicReader::builder(exporter).build());
    }
    let tracer = if exports.traces {
        let exporter = SpanExporter::builder().with_http().build().map_err(TelemetryError::Otlp)?;
        Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
    } else {
        None
    };
    let metrics = Metrics::with_provider(meters).map_err(TelemetryError::Metrics)?;
    let (lines, lines_guard) = LogLines::to_stderr();
    let dropped = lines.clone();
    metrics.log_lines_dropped(move || dropped.dropped());
    let guard = TelemetryGuard { metrics, tracer, exports, _lines: lines_guard };

    let filter = EnvFilter::builder().parse(&config.log).map_err(|_| TelemetryError::Filter)?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = match config.format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(colour).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().with_writer(lines).json().boxed(),
    };
    let spans = guard.tracer.as_ref().map(|provider| {
        // Only this program's own spans: the exporter's HTTP client has spans, too, and would export them endlessly.
        // Down to `debug`, the level of an attempt's span, which ties a call to its producer's trace.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("xco-worker"))
            .with_filter(Targets::new().with_target("xco_worker", tracing::Level::DEBUG))
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(logs.with_filter(filter))
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    report_panics_as_lines();
    Ok(guard)
}

/// The OpenTelemetry resource. Its service name comes from the environment, or is `xco-worker`.
fn resource(is_set: impl Fn(&str) -> bool) -> Resource {
    let builder = Resource::builder();
    if is_set("OTEL_SERVICE_NAME") || is_set("OTEL_RESOURCE_ATTRIBUTES") {
        builder.build()
    } else {
        builder.with_service_name("xco-worker").build()
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        let tracer = self.tracer.take();
        let meters = self.metrics.provider().filter(|_| self.exports.metrics);
        if tracer.is_none() && meters.is_none() {
            return;
        }
        // In a thread of its own, because an exporter that waits for an unreachable collector ignores its timeout.
        let (done, finished) = mpsc::channel::<()>();
        let flush = std::thread::Builder::new().name("telemetry-flush".to_owned()).spawn(move || {
            // No one can act on a failed farewell to a collector.
            let _ = tracer.map(|provider| provider.shutdown_with_timeout(FLUSH_TIMEOUT));
            let _ = meters.map(|provider| provider.shutdown_with_timeout(FLUSH_TIMEOUT));
            drop(done);
        });
        if flush.is_ok() {
            // Returns an error either way: the sender is dropped, or the time is over.
            let _ = finished.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}
