//! Whether Redis can be worked with, as the readiness endpoint and the log tell it.
//!
//! Each loop that talks to Redis has a [`Pulse`] of its own. One that still works does not hide one that does not: a replica
//! answers what reads and refuses what writes, a full Redis takes ends and refuses admissions.

use crate::queue::{explain, is_transient};
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

/// Told by every loop that talks to Redis; read by `/readyz` and the tests.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<Result<(), String>>,
    /// Why each loop that cannot work does not, by its number.
    ill: Mutex<BTreeMap<usize, String>>,
    loops: AtomicUsize,
    /// Redis refused a command although it could be reached.
    refusal: Notify,
    /// The breakers that are not closed.
    breakers: watch::Sender<Breakers>,
}

/// Breakers that are not closed, by the type whose call they are about (`all` for that of all calls), each with a word.
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
    /// Ready, or why not; changes can be awaited.
    pub fn watch(&self) -> watch::Receiver<Result<(), String>> {
        self.0.state.subscribe()
    }

    /// Which breakers are not closed; changes can be awaited. A worker is ready all the same.
    pub fn breakers(&self) -> watch::Receiver<Breakers> {
        self.0.breakers.subscribe()
    }

    /// These breakers are not closed.
    pub(super) fn tell_breakers(&self, breakers: Breakers) {
        self.0.breakers.send_if_modified(|told| {
            let changed = *told != breakers;
            *told = breakers;
            changed
        });
    }

    /// The pulse of a loop without which no job is done.
    pub(super) fn pulse(&self) -> Pulse {
        let number = self.0.loops.fetch_add(1, Ordering::Relaxed);
        Pulse { health: self.clone(), number: Some(number), failures: 0, heard: false }
    }

    /// The pulse of the gate: of several reasons not to be ready, its own names the cause.
    pub(super) fn pulse_of_gate(&self) -> Pulse {
        Pulse { health: self.clone(), number: Some(0), failures: 0, heard: false }
    }

    /// The pulse of a loop that may fail for a while: it is told in the log alone.
    pub(super) fn pulse_aside(&self) -> Pulse {
        Pulse { health: self.clone(), number: None, failures: 0, heard: false }
    }

    /// Redis refused a command that waiting alone does not cure.
    pub(super) fn refused(&self) {
        self.0.refusal.notify_one();
    }

    /// Waits until Redis has refused a command since this was awaited last.
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
        // Under the lock: of two changes at once the later must be told last.
        self.0.state.send_if_modified(|told| {
            if told.is_err() && state.is_ok() {
                tracing::info!("Redis answers: ready");
            }
            let changed = *told != state;
            *told = state;
            changed
        });
    }
}

/// How one loop fares with Redis.
#[derive(Debug)]
pub(super) struct Pulse {
    health: Health,
    /// `None`: readiness does not depend on it.
    number: Option<usize>,
    failures: u32,
    heard: bool,
}

impl Pulse {
    /// A command worked.
    pub(super) fn well(&mut self) {
        if self.failures == 0 && self.heard {
            return;
        }
        (self.failures, self.heard) = (0, true);
        if let Some(number) = self.number {
            self.health.tell(number, None);
        }
    }

    /// A command failed: how long to wait before the next. Grows from 50 ms to 1.6 s; the first failure of a row is logged,
    /// then every tenth.
    pub(super) fn ill(&mut self, what: &'static str, error: &RedisError) -> Duration {
        let reason = explain(error);
        if is_transient(error) {
            return self.hindered(what, reason);
        }
        if self.is_worth_a_line() {
            tracing::error!(what, reason, failures = self.failures + 1, "Redis refuses a command");
        }
        self.health.refused();
        self.failed(reason)
    }

    /// The same, where Redis answered and cannot do what is wanted.
    pub(super) fn hindered(&mut self, what: &'static str, reason: String) -> Duration {
        if self.is_worth_a_line() {
            tracing::warn!(what, reason, failures = self.failures + 1, "Redis cannot be used; trying again");
        }
        self.failed(reason)
    }

    /// Work must not begin for a reason that the caller logs.
    pub(super) fn stopped(&mut self, reason: String) {
        self.failed(reason);
    }

    const fn is_worth_a_line(&self) -> bool {
        self.failures.is_multiple_of(10)
    }

    fn failed(&mut self, reason: String) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if let Some(number) = self.number {
            self.health.tell(number, Some(reason));
        }
        Duration::from_millis(50 << self.failures.min(6).saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_loop_works() {
        let health = Health::default();
        let (mut reading, mut admitting, mut trimming) = (health.pulse(), health.pulse(), health.pulse_aside());
        let state = health.watch();
        assert!(state.borrow().is_err(), "nothing was heard yet");
        reading.well();
        assert!(state.borrow().is_ok());
        admitting.hindered("admit", "OOM".to_owned());
        trimming.hindered("trim", "NOPERM".to_owned());
        reading.well();
        assert_eq!(*state.borrow(), Err("OOM".to_owned()), "a loop that works hides none that does not");
        let mut gate = health.pulse_of_gate();
        gate.stopped("Redis forbids XADD to user worker".to_owned());
        assert_eq!(*state.borrow(), Err("Redis forbids XADD to user worker".to_owned()), "the cause comes first");
        gate.well();
        admitting.well();
        assert!(state.borrow().is_ok(), "what may fail for a while is not asked");
    }

    #[test]
    fn a_row_of_failures_is_tried_ever_more_slowly() {
        let health = Health::default();
        let mut pulse = health.pulse();
        let waits: Vec<_> = (0..8).map(|_| pulse.hindered("read", "LOADING".to_owned()).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 1600, 1600]);
        pulse.well();
        assert_eq!(pulse.hindered("read", "LOADING".to_owned()).as_millis(), 50);
    }
}
