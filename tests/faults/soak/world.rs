//! What the parts of a soak share: the accounts, the faults of the time, and the accusations.

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

/// Accusations kept in full; beyond, they are counted.
const KEPT: usize = 20;

/// Something that must not be.
#[derive(Debug)]
pub(crate) struct Accusation {
    /// Which job, where it is about one.
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
    /// What struck, in order.
    pub(crate) struck: RefCell<Vec<Event>>,
    /// When calls may have been held back.
    pub(crate) held: RefCell<Held>,
    /// When calls may have been lost on their way to XCO, or never been made for want of a token: in milliseconds since 1970.
    lossy_ms: RefCell<VecDeque<(u64, u64)>>,
    /// Until when replies, counters and expiries may be refused: milliseconds since 1970. They are courtesies: a completion does
    /// not wait for them.
    courtesies_refused_until_ms: Cell<u64>,
    /// Ends of which something may follow.
    pub(crate) ended: RefCell<VecDeque<Ended>>,
    /// Jobs whose completion is to be found in a reply list, too.
    pub(crate) replies_wanted: RefCell<HashSet<usize>>,
    pub(crate) replies_checked: Cell<u64>,
    /// Reply lists of jobs that are enqueued now are of a wrong type before they are written to.
    pub(crate) spoil_replies: Cell<bool>,
    /// Jobs of which that is so.
    pub(crate) replies_spoiled: RefCell<HashSet<usize>>,
    /// No more jobs are to be enqueued.
    pub(crate) enough: CancellationToken,
    /// Nothing more will come: everybody finishes reading.
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

    /// Says that something is wrong: the soak ends.
    pub(crate) fn accuse(&self, number: Option<usize>, text: impl Into<String>) {
        let mut accusations = self.accusations.borrow_mut();
        if accusations.len() < KEPT {
            accusations.push(Accusation { number, text: text.into() });
        }
        self.accused.cancel();
    }

    /// A fault begins.
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
            // It is told a little before it is over, and what was begun before may end after it.
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
            // Jobs do not live for longer, but for those that nothing is concluded from.
            while lossy.front().is_some_and(|(_, until_ms)| until_ms + 600_000 < from_ms) {
                lossy.pop_front();
            }
        }
    }

    /// Whether a reply may have been refused whose completion was written after this.
    pub(crate) fn may_miss_a_reply(&self, written_after_ms: u64) -> bool {
        written_after_ms < self.courtesies_refused_until_ms.get()
    }

    /// Whether counters may have been refused.
    pub(crate) fn may_miss_counts(&self) -> bool {
        self.courtesies_refused_until_ms.get() > 0
    }

    /// Whether every call made between these moments arrived.
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

    /// Waits so long, or until somebody is accused.
    pub(crate) async fn pause(&self, so_long: Duration) {
        tokio::select! {
            () = self.accused.cancelled() => {}
            () = tokio::time::sleep(so_long) => {}
        }
    }
}
