//! What all event streams have in common.

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use std::{convert::Infallible, time::Duration};

/// A comment is sent after this time without an event, so that neither side takes the connection for dead.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a client that lost the stream connects again.
const RETRY: Duration = Duration::from_secs(2);

/// An answer that is a stream of events. It begins with the time after which a client connects again.
pub(super) fn event_stream(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    heartbeat: Option<Duration>,
) -> Response {
    let retry = stream::once(async { Ok(Event::default().retry(RETRY)) });
    let sse = Sse::new(retry.chain(events));
    let mut response = match heartbeat {
        Some(heartbeat) => sse.keep_alive(KeepAlive::new().interval(heartbeat)).into_response(),
        None => sse.into_response(),
    };
    // nginx would otherwise hold events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Completions of a partition before `lost_before` were trimmed before they could be read.
pub(super) fn gap_event(partition: u16, lost_before: &str) -> Event {
    let gap = json!({"partition": partition, "lost_before": lost_before});
    Event::default().event("gap").data(gap.to_string())
}
