//! Whether Redis is usable, for the readiness endpoint and the log.
//!
//! Each loop that uses Redis has its own [`LoopHealth`]. A loop that works does not hide one that does not: a replica
//! answers reads and refuses writes, and a full Redis accepts completions and refuses admissions.

use crate::{
    net::Backoff,
    queue::{explain, is_transient},
};
use parking_lot::Mutex;
use redis::RedisError;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// The health of a worker. Every loop that uses Redis updates it; `/readyz` and tests read it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<Result<(), String>>,
    /// The reason of each loop that cannot work, by its number.
    ill: Mutex<BTreeMap<usize, String>>,
    loops: AtomicUsize,
    /// Notified when a reachable Redis refuses a command.
    refusal: Notify,
    /// The breakers that are not closed.
    breakers: watch::Sender<Breakers>,
}

/// Breakers that are not closed, by the job type whose call they cover (`all` for the one of all calls), each with one
/// word for its state.
pub type Breakers = BTreeMap<&'static str, &'static str>;

impl Default for Health {
    fn default() -> Self {
        let state = watch::Sender::new(Err("connecting to Redis".to_owned()));
        Self(Arc::new(Inner {
            state,
            ill: Mutex::default(),
            loops: AtomicUsize::new(1),
            refusal: Notify::new(),
            breakers: watch::Sender::default(),
        }))
    }
}

impl Health {
    /// A receiver of the readiness: `Ok`, or the reason why the worker is not ready.
    pub fn watch(&self) -> watch::Receiver<Result<(), String>> {
        self.0.state.subscribe()
    }

    /// A receiver of the breakers that are not closed. They do not affect readiness.
    pub fn breakers(&self) -> watch::Receiver<Breakers> {
        self.0.breakers.subscribe()
    }

    /// Sets the breakers that are not closed.
    pub(super) fn tell_breakers(&self, breakers: Breakers) {
        self.0.breakers.send_if_modified(|told| {
            let changed = *told != breakers;
            *told = breakers;
            changed
        });
    }

    /// Creates the health of a loop that readiness depends on.
    pub(super) fn loop_health(&self) -> LoopHealth {
        let number = self.0.loops.fetch_add(1, Ordering::Relaxed);
        LoopHealth::new(self.clone(), Some(number))
    }

    /// Creates the gate's loop health. If there are several reasons not to be ready, the gate's comes first, because it names
    /// the cause.
    pub(super) fn pulse_of_gate(&self) -> LoopHealth {
        LoopHealth::new(self.clone(), Some(0))
    }

    /// Creates the health of a loop that may fail for a while. Its failures are only logged.
    pub(super) fn pulse_aside(&self) -> LoopHealth {
        LoopHealth::new(self.clone(), None)
    }

    /// Records that Redis refused a command, and that waiting alone does not cure this.
    pub(super) fn refused(&self) {
        self.0.refusal.notify_one();
    }

    /// Waits until Redis has refused a command since the last wait.
    pub(super) async fn refusal(&self) {
        self.0.refusal.notified().await;
    }

    fn tell(&self, number: usize, reason: Option<String>) {
        let mut ill = self.0.ill.lock();
        match reason {
            Some(reason) => ill.insert(number, reason),
            None => ill.remove(&number),
        };
        let state = ill.values().next().map_or(Ok(()), |reason| Err(reason.clone()));
        // Under the lock, so that of two simultaneous changes the later one is reported last.
        self.0.state.send_if_modified(|told| {
            if told.is_err() && state.is_ok() {
                tracing::info!("Redis is usable: ready");
            }
            let changed = *told != state;
            *told = state;
            changed
        });
    }
}

/// Delays between commands that fail.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(1_600);

/// The state of one loop's work with Redis.
#[derive(Debug)]
pub(super) struct LoopHealth {
    health: Health,
    /// `None` if readiness does not depend on this loop.
    number: Option<usize>,
    failures: u32,
    backoff: Backoff,
    heard: bool,
}

impl LoopHealth {
    fn new(health: Health, number: Option<usize>) -> Self {
        Self { health, number, failures: 0, backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY), heard: false }
    }

    /// Records that a command worked.
    pub(super) fn ok(&mut self) {
        if self.failures == 0 && self.heard {
            return;
        }
        (self.failures, self.heard) = (0, true);
        self.backoff.reset();
        if let Some(number) = self.number {
            self.health.tell(number, None);
        }
    }

    /// Records that a command failed. Returns the wait before the next one, which grows from 50 ms to 1.6 s. Logs the
    /// first failure of a row and then every tenth.
    pub(super) fn failed(&mut self, what: &'static str, error: &RedisError) -> Duration {
        let reason = explain(error);
        if is_transient(error) {
            return self.blocked(what, reason);
        }
        if self.is_worth_a_line() {
            tracing::error!(what, reason, failures = self.failures + 1, "Redis refuses a command");
        }
        self.health.refused();
        self.back_off(reason)
    }

    /// Records that Redis answered but cannot do what is needed. Returns the wait and logs like [`LoopHealth::failed`].
    pub(super) fn blocked(&mut self, what: &'static str, reason: String) -> Duration {
        if self.is_worth_a_line() {
            tracing::warn!(what, reason, failures = self.failures + 1, "Redis is not usable; retrying");
        }
        self.back_off(reason)
    }

    /// Records that work must not start, for a reason that the caller logs.
    pub(super) fn stopped(&mut self, reason: String) {
        self.back_off(reason);
    }

    const fn is_worth_a_line(&self) -> bool {
        self.failures.is_multiple_of(10)
    }

    fn back_off(&mut self, reason: String) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if let Some(number) = self.number {
            self.health.tell(number, Some(reason));
        }
        self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_loop_works() {
        let health = Health::default();
        let (mut reading, mut admitting, mut trimming) =
            (health.loop_health(), health.loop_health(), health.pulse_aside());
        let state = health.watch();
        assert!(state.borrow().is_err(), "nothing was heard yet");
        reading.ok();
        assert!(state.borrow().is_ok());
        admitting.blocked("admit", "OOM".to_owned());
        trimming.blocked("trim", "NOPERM".to_owned());
        reading.ok();
        assert_eq!(*state.borrow(), Err("OOM".to_owned()), "a loop that works hides none that does not");
        let mut gate = health.pulse_of_gate();
        gate.stopped("Redis forbids XADD to user worker".to_owned());
        assert_eq!(*state.borrow(), Err("Redis forbids XADD to user worker".to_owned()), "the cause comes first");
        gate.ok();
        admitting.ok();
        assert!(state.borrow().is_ok(), "what may fail for a while is not asked");
    }

    #[test]
    fn a_row_of_failures_is_tried_ever_more_slowly() {
        let health = Health::default();
        let mut loop_health = health.loop_health();
        let waits: Vec<_> = (0..8).map(|_| loop_health.blocked("read", "LOADING".to_owned()).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 1600, 1600]);
        loop_health.ok();
        assert_eq!(loop_health.blocked("read", "LOADING".to_owned()).as_millis(), 50);
    }
}
