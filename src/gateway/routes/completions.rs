//! `GET /v1/completions`: the completions as Server-Sent Events.

use super::{
    events::{HEARTBEAT, event_stream, gap_event},
    query::{Parameters, faulty},
};
use crate::{
    completions::{Feed, FeedEvent, FeedStart, Filter, HubError},
    contract::{JobType, Status},
    gateway::{
        access::{Access, Read},
        layers::refuse_if_draining,
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::masked_completion,
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures::{Stream, stream};
use serde::Deserialize;
use serde_json::json;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

/// The header of a client that connects again.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionsQuery {
    from: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    status: Option<String>,
    batch: Option<String>,
    caller_id: Option<String>,
}

/// The completions as they come, as Server-Sent Events: `completion`, whose `id` is a cursor; `gap`, where completions were trimmed
/// unread; `too-slow`, after which the stream ends. It begins after `Last-Event-ID`, else at `from`: `beginning`, `now`, a cursor
/// or a time. A token with `read` and without `enqueue` gets them with personal data masked.
#[utoipa::path(get, path = "/v1/completions", tag = "completions", security(("token" = [])),
    params(("from" = Option<String>, Query, description = "beginning, now, a cursor, or RFC 3339"),
        ("Last-Event-ID" = Option<String>, Header, description = "Continue after this event"), ("type" = Option<String>, Query),
        ("status" = Option<String>, Query), ("batch" = Option<String>, Query), ("caller_id" = Option<String>, Query)),
    responses((status = 200, description = "text/event-stream"), (status = 400, description = "A parameter is not valid"),
        (status = 410, description = "The cursor is for another queue")))]
pub(crate) async fn follow(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<CompletionsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse_if_draining(&state)?;
    let permit = Arc::clone(&state.readers).try_acquire_owned();
    let permit =
        permit.map_err(|_| Problem::new(ProblemKind::RateLimited).detail("too many readers").retry_after(5))?;
    let last = headers.get(LAST_EVENT_ID).map(|last| last.to_str().unwrap_or_default().to_owned());
    let start = match last.or(query.from) {
        None => FeedStart::Now,
        Some(from) => from.parse().map_err(|error| faulty("from", &format!("{error}")))?,
    };
    let types = query.job_type.iter().flat_map(|names| names.split(',')).map(str::trim);
    let types = types.map(|name| JobType::from_name(name).ok_or_else(|| faulty("type", "is no job type")));
    let status = query.status.map(|name| Status::from_name(&name).ok_or_else(|| faulty("status", "is no status")));
    let filter = Filter {
        id: None,
        job_types: types.collect::<Result<_, _>>()?,
        status: status.transpose()?,
        batch: query.batch,
        caller_id: query.caller_id,
        merchants: principal.merchants().clone(),
    };
    let feed = state.hub.follow(start, filter).await.map_err(|error| Problem::from(&error))?;
    let reader = Reader {
        feed,
        is_masked: !principal.sees_personal_data(),
        has_ended: false,
        state: Arc::clone(&state),
        _permit: permit,
    };
    Ok(event_stream(events(reader), Some(HEARTBEAT)))
}

impl From<&HubError> for Problem {
    fn from(error: &HubError) -> Self {
        match error {
            HubError::NotReading => Self::new(ProblemKind::RedisUnavailable).retry_after(1),
            HubError::ForeignCursor { .. } => Self::new(ProblemKind::CursorTrimmed).detail(error.to_string()),
            HubError::TooManyExpectations => {
                Self::new(ProblemKind::RateLimited).detail(error.to_string()).retry_after(1)
            }
        }
    }
}

struct Reader {
    feed: Feed,
    is_masked: bool,
    has_ended: bool,
    state: Arc<GatewayState>,
    _permit: OwnedSemaphorePermit,
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(reader, |mut reader| async move {
        if reader.has_ended {
            return None;
        }
        let next = tokio::select! {
            next = reader.feed.next() => next,
            () = reader.state.draining.cancelled() => return None,
        };
        let event = match next {
            Ok(FeedEvent::Completion { cursor, completion }) => {
                let json = if reader.is_masked {
                    completion.other_text(|completed| masked_completion(&completed.event).to_string())
                } else {
                    completion.json()
                };
                Event::default().event("completion").id(cursor.to_string()).data(json)
            }
            Ok(FeedEvent::Gap { partition, lost_before }) => gap_event(partition, &lost_before.to_string()),
            Ok(FeedEvent::TooSlow { resume }) => {
                reader.has_ended = true;
                let resume = json!({"resume": resume.to_string()});
                Event::default().event("too-slow").data(resume.to_string())
            }
            Err(error) => {
                tracing::warn!(%error, "completions cannot be read");
                return None;
            }
        };
        Some((Ok(event), reader))
    })
}
