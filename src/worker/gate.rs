//! Decides whether work may start: only if Redis permits every command, and every key has the right type.
//!
//! Otherwise a forbidden command or a key of the wrong type would be met in the middle of a job. All of it is therefore
//! checked in advance ([`crate::queue::preflight`]): at the start, every half minute, and soon after Redis has refused
//! a command. While the gate is closed no job is read or taken over. Jobs that are already running continue to their
//! end.

use super::{health::Pulse, shared::Shared};
use crate::queue::preflight::{self, Finding, Wanted};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Time between two checks while there are no findings.
const EVERY: Duration = Duration::from_secs(30);
/// Minimum time between two checks.
const LEAST: Duration = Duration::from_secs(1);
/// Maximum time between two checks while the gate is closed.
const WHILE_CLOSED: Duration = Duration::from_secs(4);

/// Whether jobs may be read and started. Closed until the first check has passed.
#[derive(Debug)]
pub(super) struct Gate {
    /// Copy of `state` that costs one atomic load.
    open: AtomicBool,
    state: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: AtomicBool::new(false), state: watch::Sender::new(false) }
    }
}

impl Gate {
    /// Whether work may start.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until work may start. Returns false if `stop` came first.
    pub(super) async fn opened(&self, stop: &CancellationToken) -> bool {
        if self.is_open() {
            return true;
        }
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            opened = state.wait_for(|open| *open) => opened.is_ok(),
        }
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::Release);
        self.state.send_replace(open);
    }
}

pub(super) struct Gatekeeper {
    shared: Arc<Shared>,
    pulse: Pulse,
    wanted: Wanted,
    told: BTreeSet<Finding>,
}

impl Gatekeeper {
    /// Creates a gatekeeper. The worker is not ready until the first check has passed.
    pub(super) fn new(shared: Arc<Shared>, wanted: Wanted) -> Self {
        let mut pulse = shared.health.pulse_of_gate();
        pulse.stopped("connecting to Redis".to_owned());
        Self { shared, pulse, wanted, told: BTreeSet::new() }
    }

    pub(super) async fn watch(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut link = shared.connector.link(false);
        let mut closed_for = LEAST;
        loop {
            let keys = shared.partitions.iter().map(|partition| &partition.keys);
            let checked = tokio::select! {
                () = stop.cancelled() => return,
                checked = preflight::check(&mut link, keys, &self.wanted) => checked,
            };
            let again = match checked {
                Ok(findings) => {
                    let open = self.tell(findings);
                    shared.gate.set(open);
                    closed_for = if open { LEAST } else { (closed_for * 2).min(WHILE_CLOSED) };
                    if open { EVERY } else { closed_for }
                }
                Err(error) => {
                    // Redis is unreachable or refuses writes. The other loops handle that, and there is no finding.
                    shared.metrics.redis_error("preflight");
                    let wait = self.pulse.ill("preflight", &error);
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
                    let _ = timeout_at(now + again, shared.health.refusal()).await;
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
        self.shared.metrics.preflight_findings(preflight::count(&findings));
        let mut forbidding = findings.iter().filter(|finding| finding.forbids_work());
        let reason = forbidding.next().map(|first| match forbidding.count() {
            0 => first.to_string(),
            more => format!("{first} (and {more} more)"),
        });
        self.told = findings;
        let open = reason.is_none();
        match reason {
            Some(reason) => self.pulse.stopped(reason),
            None => self.pulse.well(),
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_closed_at_first_and_lets_everybody_through_once_open() {
        let gate = Gate::default();
        let stop = CancellationToken::new();
        assert!(!gate.is_open());
        let (let_through, ()) = tokio::join!(gate.opened(&stop), async { gate.set(true) });
        assert!(let_through && gate.is_open());
        gate.set(false);
        let (let_through, ()) = tokio::join!(gate.opened(&stop), async { stop.cancel() });
        assert!(!let_through);
    }
}
