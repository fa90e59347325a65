//! Ends that Redis refuses to write. While there is one, the worker is not ready, and its readiness names the command
//! and the key.

use super::{lease::LeaseKey, redis_health::LoopHealth};
use crate::{net::Backoff, queue::ScriptFailure};
use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, time::Duration};

/// Delays between tries to write an end that Redis refuses.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_millis(1_600);

/// Refused ends of one partition, with the delays before each is tried again.
#[derive(Debug)]
pub(super) struct RefusedEnds(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    loop_health: LoopHealth,
    refusals: HashMap<LeaseKey, Backoff>,
}

impl RefusedEnds {
    /// Starts without refused ends. `loop_health` reports them to readiness.
    pub(super) fn new(loop_health: LoopHealth) -> Self {
        Self(Mutex::new(Inner { loop_health, refusals: HashMap::new() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    /// Records that Redis refused the end of this delivery. Returns the wait before the next try.
    pub(super) fn refused(&self, key: LeaseKey, why: &ScriptFailure) -> Duration {
        let mut inner = self.inner();
        inner.loop_health.blocked(why.script, why.to_string());
        inner.refusals.entry(key).or_insert_with(|| Backoff::new(FIRST_DELAY, LONGEST_DELAY)).next_delay()
    }

    /// Records that these ends are written.
    pub(super) fn written(&self, keys: impl Iterator<Item = LeaseKey>) {
        let mut inner = self.inner();
        if inner.refusals.is_empty() {
            inner.loop_health.ok();
            return;
        }
        for key in keys {
            inner.refusals.remove(&key);
        }
        if inner.refusals.is_empty() {
            inner.loop_health.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        contract::{EntryId, Lane},
        queue::Source,
        worker::Health,
    };

    #[test]
    fn a_worker_is_not_ready_while_an_end_is_refused_and_says_why() {
        let health = Health::default();
        let stuck = RefusedEnds::new(health.loop_health());
        let key = |ms| (Lane::Bulk, Source::Jobs, EntryId { ms, seq: 0 });
        stuck.written(std::iter::empty());
        assert!(health.watch().borrow().is_ok());
        let detail = "XADD {xco:0}:dead: WRONGTYPE".to_owned();
        let why = ScriptFailure { script: "finish", reason: "WRONGTYPE", detail };
        let waits: Vec<_> = (0..6).map(|_| stuck.refused(key(1), &why).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 1600]);
        stuck.refused(key(2), &why);
        stuck.written([key(1), key(3)].into_iter());
        assert_eq!(*health.watch().borrow(), Err("finish.lua: XADD {xco:0}:dead: WRONGTYPE".to_owned()));
        stuck.written([key(2)].into_iter());
        assert!(health.watch().borrow().is_ok());
    }
}
