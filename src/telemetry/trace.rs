//! Reads and writes the W3C trace context.

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The trace context in a job's `traceparent` and `tracestate`, for use as a span's parent. Empty if it is missing or
/// malformed.
pub fn parent_context(traceparent: Option<&str>, tracestate: Option<&str>) -> Context {
    match traceparent {
        Some(traceparent) => {
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers { traceparent, tracestate })
        }
        None => Context::new(),
    }
}

/// The `traceparent` of `span`. `None` if traces are not exported or the span is disabled.
pub fn current_traceparent(span: &tracing::Span) -> Option<String> {
    let context = span.context();
    let span_ref = context.span();
    format_traceparent(span_ref.span_context())
}

fn format_traceparent(span: &SpanContext) -> Option<String> {
    let flags = span.trace_flags().to_u8() & 1;
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn round_trip() {
        let context = parent_context(Some(PARENT), Some("a=b"));
        assert_eq!(format_traceparent(context.span().span_context()).as_deref(), Some(PARENT));
        assert_eq!(context.span().span_context().trace_state().get("a"), Some("b"));
    }

    #[test]
    fn malformed_is_none() {
        for text in ["", "x", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "é"] {
            assert!(!parent_context(Some(text), Some("\u{0}=,")).span().span_context().is_valid(), "{text:?}");
        }
        assert!(!parent_context(None, Some("a=b")).span().span_context().is_valid());
    }

    #[test]
    fn a_span_continues_its_parents_trace() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("job");
            span.set_parent(parent_context(Some(PARENT), None)).unwrap();
            let own = current_traceparent(&span).unwrap();
            assert!(own.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && own.ends_with("-01"), "{own}");
            assert_ne!(own, PARENT);
        });
    }

    #[test]
    fn without_export_there_is_none() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            assert_eq!(current_traceparent(&tracing::info_span!("job")), None);
        });
    }
}
