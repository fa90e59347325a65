//! Spans around what happens to a job. They carry ids and types, never personal data.

use super::delivery::Held;
use tracing::Span;

/// The span of one attempt. Made only where somebody listens.
pub(super) fn attempt(held: &Held) -> Span {
    tracing::debug_span!(
        "attempt",
        id = held.id,
        r#type = held.job.job_type.as_str(),
        lane = held.lane.as_str(),
        attempt = held.state.attempts + 1
    )
}

/// The span's own trace context, where spans are exported.
pub(super) fn traceparent(_span: &Span) -> Option<String> {
    None
}
