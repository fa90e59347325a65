//! Executes one delivery: one call, one verdict.

use super::{
    active_job::Delivery,
    context::WorkerContext,
    upstream_health::{CallObservation, CallPermits},
};
use crate::{
    contract::{JobType, MerchantId, millis},
    jobs::{CallCircumstances, NextStep, RepeatSafety, decide, next_call},
    limits::{LoadSign, RouteEnd},
    xco::{Call, CallContext, CallReport, FailureKind, XcoApi},
};
use jiff::Timestamp;
use std::sync::Arc;
use tracing::Instrument;

/// Executes admitted deliveries against XCO.
pub(super) struct Executor<A> {
    context: Arc<WorkerContext>,
    api: Arc<A>,
}

impl<A> Clone for Executor<A> {
    fn clone(&self) -> Self {
        Self { context: Arc::clone(&self.context), api: Arc::clone(&self.api) }
    }
}

impl<A: XcoApi> Executor<A> {
    pub(super) const fn new(context: Arc<WorkerContext>, api: Arc<A>) -> Self {
        Self { context, api }
    }

    /// Makes the delivery's call and settles it. If this is cancelled or panics, the delivery hands itself to the
    /// finisher.
    pub(super) async fn run(self, mut delivery: Delivery) {
        let Some(active) = delivery.active() else { return };
        let lease_ms = i64::try_from(self.context.lease.as_millis()).unwrap_or(i64::MAX);
        if active.repeat_safety != RepeatSafety::Safe && !active.lease.holds(self.context.clock.elapsed_ms(), lease_ms)
        {
            // This process was asleep, and another may have the job. No call is made on a lease that may have ended.
            delivery.settle(NextStep::Release);
            return;
        }
        let span = super::trace::attempt(active, self.context.clock.now_ms());
        let traceparent = super::trace::traceparent(&span);
        active.calling = true;
        let planned = next_call(&active.job, &active.state, active.around());
        let rate_class = planned.rate_class;
        let context = CallContext {
            traceparent: traceparent.as_deref().or(active.job.traceparent.as_deref()),
            tracestate: active.job.tracestate.as_deref(),
            now: i64::try_from(self.context.clock.now_ms()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        };
        if active.state.attempts == 0 {
            self.context.upstream_health.first_attempt(rate_class);
        }
        let of_merchant = is_of_a_merchant(&planned.call, self.context.default_merchant.as_ref());
        let began_ms = self.context.clock.now_ms();
        let report = self.api.call(planned.call, context).instrument(span).await;
        let permits = self.observe(rate_class, &report, of_merchant);
        let awaits_token = report.result.as_ref().is_err_and(crate::xco::CallFailure::awaits_token);

        let http_status = report.result.as_ref().map_or_else(|failure| failure.http_status, |_| Some(200));
        let took_ms = millis(report.elapsed);
        self.context.metrics.xco_call(rate_class, http_status.unwrap_or(0), report.elapsed);
        let policy = self.context.policy(active.job.job_type);
        let circumstances =
            CallCircumstances { policy, jitter: rand::random(), outage: permits.outage, refusal: permits.refusal };
        let mut verdict = {
            let super::active_job::ActiveJob { job, state, merchant, .. } = active;
            decide(job, state, crate::jobs::CallInputs { merchant }, circumstances, report)
        };
        active.calling = false;
        active.state.remember(verdict.attempt(began_ms, took_ms, http_status));
        if let NextStep::Retry { delay_ms, .. } = &mut verdict
            && !awaits_token
            && !permits.outage
        {
            // In an outage few calls are made anyway, and the failures say nothing about the job.
            let cap_ms = millis(policy.cap);
            let now_ms = self.context.clock.monotonic_ms();
            *delay_ms = self.context.upstream_health.retry(rate_class, (*delay_ms, cap_ms), now_ms);
        }
        delivery.settle(verdict);
    }

    /// Evaluates the end of a call: what it says about XCO, and how many calls are allowed next.
    fn observe(&self, route: JobType, report: &CallReport, of_merchant: bool) -> CallPermits {
        let (in_flight, _) = self.context.slots.in_use();
        let wanted = self.context.slots.is_wanted();
        let now_ms = self.context.clock.monotonic_ms();
        let permits = match call_end(report, of_merchant) {
            Some(end) => {
                if let (RouteEnd::Refused { .. }, Err(failure)) = (end, &report.result) {
                    self.context.metrics.client_refused(failure.http_status.unwrap_or(0));
                }
                let (latency, sign) = (report.elapsed, load_sign(report, end));
                self.context.upstream_health.observe(CallObservation {
                    route,
                    latency,
                    end,
                    sign,
                    in_flight,
                    wanted,
                    now_ms,
                })
            }
            None => self.context.upstream_health.permits(route, now_ms),
        };
        self.context.slots.allow(permits.allowed);
        permits
    }
}

/// Number of 401s in a row, each with a fresh token, that count as a refusal of the client instead of one job.
const UNAUTHORIZED_IN_A_ROW: u32 = 5;

/// Number of 403s in a row that count as a refusal of the client. Higher, because some 403s may be about customers.
const FORBIDDEN_IN_A_ROW: u32 = 20;

/// Whether a call is for a merchant that its job named and the configuration does not.
fn is_of_a_merchant(call: &Call<'_>, configured: Option<&MerchantId>) -> bool {
    call.merchant().is_some_and(|merchant| configured != Some(merchant))
}

/// What the end of a call says about XCO. `None` if no request was made, because there is no token yet: the jobs are
/// then delayed, so that those with a deadline end in time and the lanes need not stop.
///
/// A 401 that a fresh token does not cure is about the client, whatever was requested. A 403 is about the client only
/// if the configuration chose everything that may be forbidden. A merchant that a job named may be forbidden by itself,
/// and must not stop the others.
fn call_end(report: &CallReport, of_merchant: bool) -> Option<RouteEnd> {
    let Err(failure) = &report.result else { return Some(RouteEnd::Accepted) };
    Some(match failure.kind {
        _ if failure.awaits_token() => return None,
        FailureKind::Network => RouteEnd::Unreached,
        FailureKind::Timeout | FailureKind::Broken => RouteEnd::Unanswered,
        kind if kind.is_outage() => RouteEnd::Failed,
        FailureKind::Unauthorized => RouteEnd::Refused { in_a_row: UNAUTHORIZED_IN_A_ROW },
        FailureKind::Forbidden if !of_merchant => RouteEnd::Refused { in_a_row: FORBIDDEN_IN_A_ROW },
        // These may come from a point before the token was checked, or mean a wrong code.
        _ if matches!(failure.http_status, None | Some(401 | 403 | 429)) => RouteEnd::Answered,
        _ => RouteEnd::Accepted,
    })
}

/// What the end of a call says about the load on XCO. A 500 says nothing: it is as frequent under a light load.
fn load_sign(report: &CallReport, end: RouteEnd) -> LoadSign {
    match &report.result {
        _ if end == RouteEnd::Accepted => LoadSign::Worked,
        Err(failure) if matches!(failure.http_status, Some(503 | 504)) => LoadSign::Overloaded,
        Err(failure) if failure.kind == FailureKind::Timeout && failure.http_status.is_none() => LoadSign::Overloaded,
        _ => LoadSign::None,
    }
}
