//! The loop that opens and closes the gate.
//!
//! Redis is checked at start, every half minute, and soon after it has refused a command.

use super::super::{context::WorkerContext, redis_health::LoopHealth};
use crate::{
    net::Backoff,
    queue::preflight::{self, Finding, Wanted},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Time between two checks while there are no findings.
const EVERY: Duration = Duration::from_secs(30);
/// Minimum time between two checks.
const LEAST: Duration = Duration::from_secs(1);
/// Times between two checks while the gate is closed.
const FIRST_WHILE_CLOSED: Duration = Duration::from_secs(2);
const LONGEST_WHILE_CLOSED: Duration = Duration::from_secs(4);

/// Opens and closes the gate.
pub(in crate::worker) struct Gatekeeper {
    context: Arc<WorkerContext>,
    loop_health: LoopHealth,
    wanted: Wanted,
    told: BTreeSet<Finding>,
}

impl Gatekeeper {
    /// Creates a gatekeeper. The worker is not ready until the first check has passed.
    pub(in crate::worker) fn new(context: Arc<WorkerContext>, wanted: Wanted) -> Self {
        let mut loop_health = context.health.pulse_of_gate();
        loop_health.stopped("connecting to Redis".to_owned());
        Self { context, loop_health, wanted, told: BTreeSet::new() }
    }

    /// Checks until `stop`.
    pub(in crate::worker) async fn watch(mut self, stop: CancellationToken) {
        let context = Arc::clone(&self.context);
        let mut link = context.connector.link(false);
        let mut while_closed = Backoff::new(FIRST_WHILE_CLOSED, LONGEST_WHILE_CLOSED);
        loop {
            let keys = context.partitions.iter().map(|partition| &partition.keys);
            let checked = tokio::select! {
                () = stop.cancelled() => return,
                checked = preflight::check(&mut link, keys, &self.wanted) => checked,
            };
            let again = match checked {
                Ok(findings) => {
                    let open = self.tell(findings);
                    context.gate.set(open);
                    if open {
                        while_closed.reset();
                        EVERY
                    } else {
                        while_closed.next_delay()
                    }
                }
                Err(error) => {
                    // Redis is unreachable or refuses writes. The other loops handle that, and there is no finding.
                    context.metrics.redis_error("preflight");
                    let wait = self.loop_health.failed("preflight", &error);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => continue,
                    }
                }
            };
            let now = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    sleep_until(now + LEAST).await;
                    let _ = timeout_at(now + again, context.health.refusal()).await;
                } => {}
            }
        }
    }

    /// Logs what changed since the last check and updates readiness. Returns whether work may start.
    fn tell(&mut self, findings: BTreeSet<Finding>) -> bool {
        for finding in findings.difference(&self.told) {
            let remedy = finding.remedy();
            if finding.forbids_work() {
                tracing::error!(what = finding.what(), remedy, "no jobs are taken: {finding}");
            } else {
                tracing::warn!(what = finding.what(), remedy, "{finding}");
            }
        }
        for finding in self.told.difference(&findings) {
            tracing::info!(what = finding.what(), "resolved: {finding}");
        }
        self.context.metrics.preflight_findings(preflight::count(&findings));
        let mut forbidding = findings.iter().filter(|finding| finding.forbids_work());
        let reason = forbidding.next().map(|first| match forbidding.count() {
            0 => first.to_string(),
            more => format!("{first} (and {more} more)"),
        });
        self.told = findings;
        let open = reason.is_none();
        match reason {
            Some(reason) => self.loop_health.stopped(reason),
            None => self.loop_health.ok(),
        }
        open
    }
}
