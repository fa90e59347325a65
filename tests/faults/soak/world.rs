//! The shared state of a soak: the ledger, the present faults and the violations found.

use super::{
    admissions::Admissions,
    ledger::{Ended, Ledger},
    limits::Held,
    schedule::{Event, Kind},
};
use crate::support::Rig;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// Number of violations kept in full; further ones are only counted.
const KEPT: usize = 20;

/// A violation of the rules.
#[derive(Debug)]
pub(crate) struct Accusation {
    /// The job it is about, if any.
    pub(crate) number: Option<usize>,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) namespace: String,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) admissions: RefCell<Admissions>,
    pub(crate) accusations: RefCell<Vec<Accusation>>,
    pub(crate) accused: CancellationToken,
    /// The faults so far, in order.
    pub(crate) struck: RefCell<Vec<Event>>,
    /// Times at which calls may have been delayed.
    pub(crate) held: RefCell<Held>,
    /// Times at which calls may not have reached XCO, or not been made without a token: in milliseconds since 1970.
    lossy_ms: RefCell<VecDeque<(u64, u64)>>,
    /// Time until which replies, counters and expiries may be refused, in milliseconds since 1970. A completion does
    /// not depend on them.
    courtesies_refused_until_ms: Cell<u64>,
    /// Ends of jobs from which further jobs may follow.
    pub(crate) ended: RefCell<VecDeque<Ended>>,
    /// Jobs whose completion must also be in a reply list.
    pub(crate) replies_wanted: RefCell<HashSet<usize>>,
    pub(crate) replies_checked: Cell<u64>,
    /// Whether the reply lists of new jobs get a wrong type before they are written to.
    pub(crate) spoil_replies: Cell<bool>,
    /// Jobs whose reply list had a wrong type.
    pub(crate) replies_spoiled: RefCell<HashSet<usize>>,
    /// Cancelled when no more jobs are to be enqueued.
    pub(crate) enough: CancellationToken,
    /// Cancelled when nothing more will come, so that all readers finish.
    pub(crate) over: CancellationToken,
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl World {
    pub(crate) fn new(rig: &Rig) -> Self {
        Self { namespace: rig.config.redis.namespace.clone(), ..Self::default() }
    }

    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{{{}:0}}:{rest}", self.namespace)
    }

    /// Reports a violation, which ends the soak.
    pub(crate) fn accuse(&self, number: Option<usize>, text: impl Into<String>) {
        let mut accusations = self.accusations.borrow_mut();
        if accusations.len() < KEPT {
            accusations.push(Accusation { number, text: text.into() });
        }
        self.accused.cancel();
    }

    /// Records the start of a fault.
    pub(crate) fn strikes(&self, event: Event) {
        self.struck.borrow_mut().push(event);
        let from_ms = now_ms();
        if event.kind == Kind::ClockStepped {
            let mut admissions = self.admissions.borrow_mut();
            for at_ms in [from_ms, from_ms + event.lasting_ms] {
                admissions.stepped(at_ms, event.step_ms());
            }
        }
        if event.kind.refuses_commands() {
            // The fault is reported a little before its end, and work that started before may end after it.
            let until_ms = from_ms + event.lasting_ms + 3_000;
            self.courtesies_refused_until_ms.set(self.courtesies_refused_until_ms.get().max(until_ms));
        }
        if let Some(longer_ms) = event.kind.holds_calls_back() {
            let until_ms = from_ms + event.lasting_ms + longer_ms;
            self.held.borrow_mut().add(from_ms * 1_000, until_ms * 1_000);
        }
        if event.kind.loses_calls() {
            let mut lossy = self.lossy_ms.borrow_mut();
            lossy.push_back((from_ms, from_ms + event.lasting_ms + 4_000));
            // No job lives longer, except jobs from which nothing is concluded.
            while lossy.front().is_some_and(|(_, until_ms)| until_ms + 600_000 < from_ms) {
                lossy.pop_front();
            }
        }
    }

    /// Whether a reply may be missing whose completion was written after this time.
    pub(crate) fn may_miss_a_reply(&self, written_after_ms: u64) -> bool {
        written_after_ms < self.courtesies_refused_until_ms.get()
    }

    /// Whether counters may be missing.
    pub(crate) fn may_miss_counts(&self) -> bool {
        self.courtesies_refused_until_ms.get() > 0
    }

    /// Whether every call made between these times arrived.
    pub(crate) fn all_arrived(&self, from: jiff::Timestamp, until: jiff::Timestamp) -> bool {
        let ms = |at: jiff::Timestamp| u64::try_from(at.as_millisecond()).unwrap_or(0);
        let (from_ms, until_ms) = (ms(from), ms(until));
        until_ms < from_ms + 300_000
            && self.lossy_ms.borrow().iter().all(|(begun_ms, ended_ms)| *ended_ms < from_ms || *begun_ms > until_ms)
    }

    pub(crate) fn struck_by_kind(&self) -> BTreeMap<Kind, usize> {
        let mut by_kind: BTreeMap<Kind, usize> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for event in self.struck.borrow().iter() {
            *by_kind.entry(event.kind).or_default() += 1;
        }
        by_kind
    }

    /// Waits for `so_long`, or until there is a violation.
    pub(crate) async fn pause(&self, so_long: Duration) {
        tokio::select! {
            () = self.accused.cancelled() => {}
            () = tokio::time::sleep(so_long) => {}
        }
    }
}
