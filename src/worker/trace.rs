//! Spans around the work on a job. They contain ids and types, never personal data, and cost almost nothing if neither
//! a `debug` log nor an exporter uses them.

use super::active_job::ActiveJob;
use crate::telemetry::{current_traceparent, parent_context};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The span of one attempt: a child of the producer's trace. Its attribute `waited_ms` is the wait before it.
pub(super) fn attempt(active: &ActiveJob, now_ms: u64) -> Span {
    let span = tracing::debug_span!(
        "attempt",
        id = active.id,
        r#type = active.job.job_type.as_str(),
        lane = active.lane.as_str(),
        attempt = active.state.attempts.saturating_add(1),
        waited_ms = now_ms.saturating_sub(active.state.enqueued_at_ms()),
    );
    if !span.is_disabled() && active.job.traceparent.is_some() {
        // Fails only if no exporter listens: then there is no trace to join.
        let _ = span.set_parent(parent_context(active.job.traceparent.as_deref(), active.job.tracestate.as_deref()));
    }
    span
}

/// The span's own `traceparent`, if spans are exported.
pub(super) fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() { None } else { current_traceparent(span) }
}
