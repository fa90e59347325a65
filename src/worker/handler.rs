//! One delivery, one call, one verdict.

use super::{
    delivery::Delivery,
    shared::Shared,
    weather::{Observation, Outlook},
};
use crate::{
    jobs::{Circumstances, Doubt, Verdict, judge, plan},
    xco::{CallContext, CallReport, XcoApi},
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
        if held.state.attempts == 0 {
            self.shared.weather.first_attempt();
        }
        let report = self.api.call(planned.call, context).instrument(span).await;
        held.calling = false;
        let outlook = self.observe(&report);

        let http_status = match &report.result {
            Ok(_) => 200,
            Err(failure) => failure.http_status.unwrap_or(0),
        };
        self.shared.metrics.xco_call(rate_class, http_status, report.elapsed);
        let policy = self.shared.policy(held.job.job_type);
        let circumstances = Circumstances { policy, jitter: rand::random(), outage: outlook.outage };
        let mut verdict = {
            let super::delivery::Held { job, state, merchant, .. } = held;
            judge(job, state, crate::jobs::Surroundings { merchant }, circumstances, report)
        };
        if let Verdict::Retry { delay_ms, .. } = &mut verdict {
            *delay_ms = self.shared.weather.retry(*delay_ms);
        }
        delivery.settle(verdict);
    }

    /// What the end of a call says of XCO, and what follows for the slots.
    fn observe(&self, report: &CallReport) -> Outlook {
        let (in_flight, _) = self.shared.slots.in_use();
        let outlook = self.shared.weather.observe(Observation {
            latency: report.elapsed,
            failed: report.result.as_ref().is_err_and(|failure| failure.kind.is_outage()),
            in_flight,
            now_ms: u64::try_from(self.shared.clock.elapsed_ms()).unwrap_or(0),
        });
        self.shared.slots.allow(outlook.allowed);
        outlook
    }
}
