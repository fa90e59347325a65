//! `GET /v1/jobs/{id}/wait`: a customer's own browser waits for one job, with a ticket.

use super::{events::event_stream, media, query::Parameters};
use crate::{
    gateway::{
        layers::refuse_if_draining,
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    net::ConnectionHandle,
    operations::enqueue::{Awaited, await_completion},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response, sse::Event},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// How long one answer waits for the completion.
const LONGEST: Duration = Duration::from_secs(25);
/// How long a stream waits before it sends `pending` again, which keeps the connection alive.
const PENDING_EVERY: Duration = Duration::from_secs(15);
/// Longest stream. The browser then connects again, while its ticket is valid.
const LONGEST_STREAM: Duration = Duration::from_secs(10 * 60);

#[derive(Deserialize)]
pub(crate) struct WaitQuery {
    #[serde(default)]
    ticket: String,
}

/// Waits for a job with its ticket. Answers `status`, `outcome` and `error.kind` alone: `pending` after 25 s. With
/// `Accept: text/event-stream` it streams `pending` and then `completed`.
#[utoipa::path(get, path = "/v1/jobs/{id}/wait", tag = "jobs",
    params(("id" = String, Path), ("ticket" = String, Query, description = "From the wait_url of the job")),
    responses((status = 200, description = "The status", body = Object), (status = 401, description = "The ticket is not valid")))]
pub(crate) async fn wait(
    State(state): State<Arc<GatewayState>>,
    Path(id): Path<String>,
    Parameters(query): Parameters<WaitQuery>,
    connection: Option<Extension<ConnectionHandle>>,
    headers: HeaderMap,
) -> Response {
    let origin = headers.get(header::ORIGIN).cloned();
    let answer = answer(Arc::clone(&state), id, &query.ticket, connection, &headers).await;
    allow_origin(&state, origin, answer.unwrap_or_else(IntoResponse::into_response))
}

/// Lets a page of a configured origin wait with headers of its own, such as those of an event stream: a browser asks first.
pub(crate) async fn preflight(State(state): State<Arc<GatewayState>>, headers: HeaderMap) -> Response {
    let origin = headers.get(header::ORIGIN).cloned();
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, cache-control, last-event-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    allow_origin(&state, origin, (StatusCode::NO_CONTENT, allowed).into_response())
}

async fn answer(
    state: Arc<GatewayState>,
    id: String,
    ticket: &str,
    connection: Option<Extension<ConnectionHandle>>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    refuse_if_draining(&state)?;
    // One answer for every cause: a forged ticket must not learn why.
    let ticket = state.tickets.verify(ticket, &id, GatewayState::now_s());
    let ticket = ticket.ok_or_else(|| Problem::new(ProblemKind::Unauthorized).detail("the ticket is not valid"))?;
    if ticket.partition >= state.config.redis.partitions.get() {
        return Err(Problem::new(ProblemKind::Unauthorized).detail("the ticket is not valid"));
    }
    let use_of_ticket = state.ticket_uses.begin(&ticket)?;
    if let Some(Extension(connection)) = connection {
        connection.trust();
    }
    if !media::accepts(headers, media::EVENTS) {
        let shown = tokio::select! {
            shown = look(&state, &id, ticket.partition, LONGEST) => shown?,
            // The browser asks another gateway.
            () = state.draining.cancelled() => json!({"status": "pending"}),
        };
        return Ok(Json(shown).into_response());
    }
    let stream_until = tokio::time::Instant::now() + LONGEST_STREAM;
    let first = event("pending", &json!({"status": "pending"}));
    let events =
        stream::unfold((Some(first), state, id, Some(use_of_ticket)), move |(first, state, id, in_use)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, state, id, in_use)));
            }
            // Without its place in the count the stream has ended.
            let in_use = in_use?;
            if tokio::time::Instant::now() > stream_until || state.draining.is_cancelled() {
                return None;
            }
            let looked = tokio::select! {
                looked = look(&state, &id, ticket.partition, PENDING_EVERY) => looked,
                () = state.draining.cancelled() => return None,
            };
            let shown = looked.ok()?;
            if shown["status"] == "pending" {
                return Some((Ok(event("pending", &shown)), (None, state, id, Some(in_use))));
            }
            Some((Ok::<_, Infallible>(event("completed", &shown)), (None, state, id, None)))
        });
    Ok(event_stream(events, None))
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// What a browser may know of its job.
async fn look(state: &GatewayState, id: &str, partition: u16, longest: Duration) -> Result<Value, Problem> {
    let mut backend = state.shared.backend();
    let awaited = await_completion(&mut backend, &state.hub, id, partition, longest).await?;
    Ok(match awaited {
        Awaited::Completion(completion) => shown(&completion.event),
        Awaited::Trimmed => json!({"status": "unknown"}),
        Awaited::Pending | Awaited::Unknown => json!({"status": "pending"}),
    })
}

/// `status`, `outcome` and `error.kind` of a completion, and nothing about the person.
fn shown(event: &Value) -> Value {
    let mut shown = json!({"status": event["status"]});
    if !event["outcome"].is_null() {
        shown["outcome"] = event["outcome"].clone();
    }
    if !event["error"]["kind"].is_null() {
        shown["error"] = json!({"kind": event["error"]["kind"]});
    }
    shown
}

/// Lets pages of the configured origins read the answer. The ticket is the credential, so no cookies are sent.
fn allow_origin(state: &GatewayState, origin: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let allowed = &state.config.gateway.allowed_origins;
    if let Some(origin) = origin.filter(|origin| allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()))
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
    }
    response
}
