//! Checks the calls that arrived at XCO as they come: their jobs, the limits, and repetitions that must not happen.

use super::{
    ledger::{Nature, id, of_trace},
    limits::{CLEAR_US, Explained},
    world::{World, now_ms},
};
use std::{cell::RefCell, collections::HashMap, time::Duration};
use xco_worker::sandbox::{CallRecord, Route, Sandbox, SandboxLimit};

/// Age at which a call has certainly ended and can be checked.
const SETTLED_MS: u64 = 25_000;

/// The limit of a caller, in XCO and in the workers' configuration.
pub(crate) const CALLER: SandboxLimit = SandboxLimit { per_second: 2.0, burst: 4 };
/// The limit of all calls without a caller.
pub(crate) const CLIENT: SandboxLimit = SandboxLimit { per_second: 80.0, burst: 20 };

/// Microseconds between calls, and the burst, of a caller or of the client.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small figures")]
pub(crate) fn limit_of(caller: Option<&str>) -> (u64, u32) {
    let SandboxLimit { per_second, burst } = if caller.is_some() { CALLER } else { CLIENT };
    ((1_000_000.0 / per_second) as u64, burst)
}

/// Reads the simulator's record.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: u64,
    last_us: u64,
    buckets: HashMap<Option<String>, Explained>,
    pub(crate) seen: u64,
    pub(crate) by_status: std::collections::BTreeMap<u16, u64>,
    /// Calls that cannot have been admitted at any time.
    pub(crate) over_limit: u64,
    /// Maximum time by which a call was ahead of its bucket: without faults, and with faults that delay calls.
    pub(crate) ahead_us: [u64; 2],
    /// The call with that maximum without faults.
    pub(crate) worst: Option<String>,
    /// Calls that XCO's own buckets refused.
    pub(crate) refused_by_limit: u64,
    /// Calls that an outage refused.
    pub(crate) in_outage: u64,
    /// Unsafe calls repeated after one that may have taken effect.
    pub(crate) repeated: u64,
}

/// Reads until the soak is over.
pub(crate) async fn audit(calls: &RefCell<Calls>, world: &World, sandbox: &Sandbox) {
    while !world.over.is_cancelled() {
        calls.borrow_mut().read(world, sandbox, now_ms() - SETTLED_MS);
        tokio::select! {
            () = world.over.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    calls.borrow_mut().read(world, sandbox, u64::MAX);
}

impl Calls {
    fn read(&mut self, world: &World, sandbox: &Sandbox, until_ms: u64) {
        for call in sandbox.calls_from(self.next).into_iter().take_while(|call| call.at_ms < until_ms) {
            if call.seq != self.next {
                world.accuse(None, "the record of calls was not read in time: the harness is too slow");
            }
            self.next = call.seq + 1;
            if call.route != Route::Token {
                self.seen += 1;
                *self.by_status.entry(call.status.unwrap_or(0)).or_default() += 1;
                self.limit(world, &call);
                self.book(world, &call);
            }
        }
        world.held.borrow_mut().forget(self.last_us.saturating_sub(60_000_000));
    }

    fn limit(&mut self, world: &World, call: &CallRecord) {
        self.in_outage += u64::from(call.fault == Some("outage"));
        self.refused_by_limit += u64::from(call.status == Some(429) && call.fault.is_none());
        if call.status == Some(401) {
            // It spent nothing: the call is repeated with another token.
            return;
        }
        let at_us = (call.at_ms * 1_000).max(self.last_us);
        self.last_us = at_us;
        let earliest_us = world.held.borrow().earliest(at_us);
        let (interval_us, burst) = limit_of(call.caller_id.as_deref());
        let bucket = self.buckets.entry(call.caller_id.clone()).or_default();
        let Some(ahead_us) = bucket.call(at_us, earliest_us, interval_us, burst) else {
            self.over_limit += 1;
            let number = call.traceparent.as_deref().and_then(of_trace);
            return world.accuse(number, format!("over the limit of {:?}: {call:?}", call.caller_id));
        };
        let held_back = usize::from(at_us - earliest_us > CLEAR_US);
        if ahead_us > self.ahead_us[held_back] {
            self.ahead_us[held_back] = ahead_us;
            if held_back == 0 {
                self.worst = Some(format!("{call:?}"));
            }
        }
    }

    fn book(&mut self, world: &World, call: &CallRecord) {
        let Some(number) = call.traceparent.as_deref().and_then(of_trace) else {
            return world.accuse(None, format!("a call that is no job's: {call:?}"));
        };
        let mut ledger = world.ledger.borrow_mut();
        let Some(entry) = ledger.entry(number) else {
            return world.accuse(None, format!("a call for a job that never was: {call:?}"));
        };
        entry.calls = entry.calls.saturating_add(1);
        entry.limited += u16::from(call.status == Some(429));
        entry.refused += u16::from(call.status == Some(401));
        // With these answers nothing was done.
        let may_have_worked = !matches!(call.status, Some(401 | 429 | 500 | 503));
        let repeated = match call.route {
            Route::Start | Route::Verify => std::mem::replace(&mut entry.doubt, may_have_worked),
            Route::Create => {
                // Each POST except the first follows a check. They need not arrive in that order: a call that was
                // delayed on its way, and given up long ago, may arrive last.
                entry.posts = entry.posts.saturating_add(u8::from(may_have_worked));
                entry.posts > entry.looks.saturating_add(1)
            }
            Route::Exists if entry.nature == Nature::Create => {
                entry.looks = entry.looks.saturating_add(1);
                false
            }
            Route::Exists | Route::Consent | Route::Token => false,
        };
        if repeated {
            self.repeated += 1;
            world.accuse(Some(number), format!("{}: repeated in doubt: {call:?}", id(number)));
        }
    }
}
