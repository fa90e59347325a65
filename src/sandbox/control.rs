//! The control endpoints, under `/_sandbox/`.

use super::{
    CallRecord, Effect, Fault, FaultOrder, NewSandboxUser, Route, Stats,
    reply::{Problem, Reply},
    state::{Outage, Shared},
};
use axum::{
    Json, Router,
    extract::{Query, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Maximum number of records in one answer.
const MAX_LISTED: usize = 10_000;

type App = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sandbox/otp", get(otp))
        .route("/_sandbox/state", get(state))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/effects", get(effects))
        .route("/_sandbox/faults", post(order).delete(withdraw))
        .route("/_sandbox/outage", post(outage))
        .route("/_sandbox/tokens/revoke", post(revoke))
        .route("/_sandbox/users", post(seed))
        .route("/_sandbox/reset", post(reset))
}

#[derive(Deserialize)]
struct OtpQuery {
    email: Option<String>,
    phone_number: Option<String>,
}

async fn otp(State(app): App, Query(query): Query<OtpQuery>) -> Response {
    let contact = query.email.or(query.phone_number).unwrap_or_default();
    let code = app.lock().model.code(&contact, &app.config).map(str::to_owned);
    match code {
        Some(code) => Json(json!({ "verification_code": code })).into_response(),
        None => Problem::new(404, "no-code", "No code is valid for this contact").into_reply().into_response(),
    }
}

async fn state(State(app): App) -> Json<Stats> {
    Json(app.lock().stats())
}

#[derive(Deserialize)]
struct ListQuery {
    route: Option<Route>,
    caller_id: Option<String>,
    key: Option<String>,
    limit: Option<usize>,
}

/// The last `limit` records that satisfy `fits`, in order.
fn latest<'a, T: Clone + 'a>(
    records: impl DoubleEndedIterator<Item = &'a T>,
    limit: Option<usize>,
    fits: impl Fn(&T) -> bool,
) -> Vec<T> {
    let mut latest: Vec<T> =
        records.rev().filter(|record| fits(record)).take(limit.unwrap_or(1000).min(MAX_LISTED)).cloned().collect();
    latest.reverse();
    latest
}

async fn calls(State(app): App, Query(query): Query<ListQuery>) -> Json<Vec<CallRecord>> {
    let fits = |call: &CallRecord| {
        query.route.is_none_or(|route| call.route == route)
            && query.caller_id.is_none_or_same(call.caller_id.as_ref())
            && query.key.is_none_or_same(call.key.as_ref())
    };
    Json(latest(app.lock().log.calls(), query.limit, fits))
}

async fn effects(State(app): App, Query(query): Query<ListQuery>) -> Json<Vec<Effect>> {
    Json(latest(app.lock().log.effects(), query.limit, |effect| query.key.is_none_or_same(Some(&effect.key))))
}

/// A filter that accepts every value when it is absent.
trait Filter {
    fn is_none_or_same(&self, value: Option<&String>) -> bool;
}

impl Filter for Option<String> {
    fn is_none_or_same(&self, value: Option<&String>) -> bool {
        self.is_none() || self.as_ref() == value
    }
}

fn done() -> Response {
    Reply::no_content().into_response()
}

fn wrong(why: &str) -> Response {
    Problem::validation(vec![(String::new(), why.to_owned())]).into_reply().into_response()
}

async fn order(State(app): App, order: Result<Json<FaultOrder>, JsonRejection>) -> Response {
    match order.map_err(|error| error.body_text()).and_then(|Json(order)| Fault::try_from(order).map_err(str::to_owned))
    {
        Ok(fault) => {
            app.lock().faults.order(fault);
            done()
        }
        Err(why) => wrong(&why),
    }
}

async fn withdraw(State(app): App) -> Response {
    app.lock().faults.clear();
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageOrder {
    on: Option<bool>,
    for_ms: Option<u64>,
    status: Option<u16>,
}

async fn outage(State(app): App, order: Result<Json<OutageOrder>, JsonRejection>) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(error) => return wrong(&error.body_text()),
    };
    let status = order.status.unwrap_or(503);
    if !(300..=999).contains(&status) {
        return wrong("a status is 300 to 999");
    }
    let outage = match (order.on, order.for_ms) {
        (None | Some(true), Some(for_ms)) => Some(Outage { until: Some(later(for_ms)), status }),
        (Some(true), None) => Some(Outage { until: None, status }),
        (Some(false), None) => None,
        _ => return wrong("on, or for_ms"),
    };
    app.lock().outage = outage;
    done()
}

/// The time `for_ms` from now, at most a day.
pub(super) fn later(for_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(for_ms.min(86_400_000))
}

async fn revoke(State(app): App) -> Response {
    app.lock().tokens.clear();
    done()
}

async fn seed(State(app): App, user: Result<Json<NewSandboxUser>, JsonRejection>) -> Response {
    match user {
        Ok(Json(user)) => {
            app.lock().model.seed_user(&user);
            done()
        }
        Err(error) => wrong(&error.body_text()),
    }
}

async fn reset(State(app): App) -> Response {
    app.reset();
    done()
}
