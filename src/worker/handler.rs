//! One delivery, one call, one verdict.

use super::{delivery::Delivery, shared::Shared};
use crate::{
    jobs::{Doubt, Verdict, judge, plan},
    xco::{CallContext, XcoApi},
};
use std::sync::Arc;
use tracing::Instrument;

/// Runs admitted deliveries against XCO.
pub(super) struct Handler<A> {
    shared: Arc<Shared>,
    api: Arc<A>,
}

impl<A> Clone for Handler<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), api: Arc::clone(&self.api) }
    }
}

impl<A: XcoApi> Handler<A> {
    pub(super) const fn new(shared: Arc<Shared>, api: Arc<A>) -> Self {
        Self { shared, api }
    }

    /// Makes the delivery's call and settles it. Cancelled or panicking at any point, the delivery hands itself on.
    pub(super) async fn run(self, mut delivery: Delivery) {
        let Some(held) = delivery.held() else { return };
        let lease_ms = i64::try_from(self.shared.lease.as_millis()).unwrap_or(i64::MAX);
        if held.doubt != Doubt::Harmless && !held.lease.holds(self.shared.clock.elapsed_ms(), lease_ms) {
            // This process was asleep: another may have the job by now. No call is made on a lease that may be over.
            delivery.settle(Verdict::Release);
            return;
        }
        let span = super::trace::attempt(held, self.shared.clock.now_ms());
        let traceparent = super::trace::traceparent(&span);
        held.calling = true;
        let planned = plan(&held.job, &held.state, held.around());
        let rate_class = planned.rate_class;
        let context = CallContext {
            traceparent: traceparent.as_deref().or(held.job.traceparent.as_deref()),
            tracestate: held.job.tracestate.as_deref(),
        };
        let report = self.api.call(planned.call, context).instrument(span).await;
        held.calling = false;

        let http_status = match &report.result {
            Ok(_) => 200,
            Err(failure) => failure.http_status.unwrap_or(0),
        };
        self.shared.metrics.xco_call(rate_class, http_status, report.elapsed);
        let policy = self.shared.policy(held.job.job_type);
        let verdict = {
            let super::delivery::Held { job, state, merchant, .. } = held;
            judge(job, state, crate::jobs::Surroundings { merchant }, policy, report, rand::random())
        };
        delivery.settle(verdict);
    }
}
