//! Worker slots: which lane may call XCO now. Interactive jobs go first, and bulk jobs keep a small share.
//!
//! A slot is taken from admission until the call has ended, never while a job waits. A second bound limits the
//! deliveries whose end is not yet written, so that a Redis that refuses writes stops the reading and memory stays
//! bounded.

use crate::{config::WorkerConfig, contract::Lane};
use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long after the last interactive job more are expected.
const PRESENCE: Duration = Duration::from_secs(10);

/// The bulk lane's share of the slots, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BulkShare {
    /// Minimum share of the currently allowed slots, however many interactive jobs wait.
    pub(super) min: u8,
    /// Maximum share while interactive jobs arrive. Slots are then free before those jobs need them, and bulk work does
    /// not slow them down.
    pub(super) max: u8,
}

impl BulkShare {
    /// The configured share.
    pub(super) const fn of(config: &WorkerConfig) -> Self {
        Self { min: config.bulk_min_share, max: config.bulk_max_share }
    }
}

#[derive(Debug, Default)]
struct Ledger {
    interactive_at: Option<Instant>,
    running: usize,
    bulk_running: usize,
    unwritten: usize,
    interactive_demands: usize,
    bulk_demands: usize,
}

/// Number of slots that may be in use now: fewer than all while XCO is slow, none while it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    /// For both lanes together.
    pub(super) calls: usize,
    /// As `calls`, but lower while the load is reduced to measure XCO's usual latency. Only bulk jobs make room for
    /// that: interactive jobs may use this many besides the running bulk jobs.
    pub(super) light: usize,
}

impl Allowed {
    /// The same number for both lanes.
    pub(super) const fn evenly(calls: usize) -> Self {
        Self { calls, light: calls }
    }
}

/// The worker slots of one process.
#[derive(Debug)]
pub(super) struct Slots {
    total: AtomicUsize,
    bulk_min_percent: u8,
    bulk_max_percent: usize,
    /// [`Allowed::calls`]
    calls: AtomicUsize,
    /// [`Allowed::light`]
    light: AtomicUsize,
    ledger: Mutex<Ledger>,
    changed: [Notify; 2],
}

impl Slots {
    /// Creates `total` slots, of which bulk jobs have their share.
    pub(super) fn new(total: usize, bulk: BulkShare) -> Self {
        let total = total.max(1);
        Self {
            total: AtomicUsize::new(total),
            bulk_min_percent: bulk.min,
            bulk_max_percent: usize::from(bulk.max.min(100)),
            calls: AtomicUsize::new(total),
            light: AtomicUsize::new(total),
            ledger: Mutex::default(),
            changed: [Notify::new(), Notify::new()],
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Plain counters: they are consistent even if a thread panicked while holding the lock.
        self.ledger.lock()
    }

    /// Number of slots that a lane could take now.
    fn free(&self, ledger: &Ledger, lane: Lane) -> usize {
        if ledger.unwritten >= self.most_unwritten() {
            return 0;
        }
        let allowed = self.allowed();
        // A share of the slots allowed now: if only few are, bulk jobs must not have them all.
        let bulk_min = bulk_min(allowed, self.bulk_min_percent);
        let calls = allowed.saturating_sub(ledger.running);
        let light = self.total().min(self.light.load(Ordering::Relaxed));
        let free = match lane {
            Lane::Interactive => calls.min(light.saturating_sub(ledger.running.saturating_sub(ledger.bulk_running))),
            Lane::Bulk => {
                let free = calls.min(light.saturating_sub(ledger.running));
                let people = ledger.interactive_at.is_some_and(|at| at.elapsed() < PRESENCE);
                let most = (allowed * self.bulk_max_percent / 100).max(bulk_min).max(1);
                if people { free.min(most.saturating_sub(ledger.bulk_running)) } else { free }
            }
        };
        let bulk_owed = bulk_min.saturating_sub(ledger.bulk_running);
        match lane {
            Lane::Interactive if ledger.bulk_demands > 0 => free.saturating_sub(bulk_owed),
            Lane::Bulk if ledger.interactive_demands > 0 => free.min(bulk_owed),
            Lane::Interactive | Lane::Bulk => free,
        }
    }

    /// Waits until the lane could take a slot and returns how many: a hint for how many jobs to read, not a claim.
    ///
    /// With `batch` above 1 it waits up to 1 ms for more to come free, because one round trip for many is cheaper.
    pub(super) async fn available(&self, lane: Lane, batch: usize) -> usize {
        loop {
            let changed = self.changed[lane as usize].notified();
            let free = self.free(&self.ledger(), lane);
            if free >= batch {
                return free;
            }
            if free > 0 {
                let free = self.gathered(lane, batch).await;
                if free > 0 {
                    return free;
                }
            } else {
                changed.await;
            }
        }
    }

    /// Number of slots that the lane could take, as soon as it reaches `batch` and after 1 ms at the latest.
    async fn gathered(&self, lane: Lane, batch: usize) -> usize {
        let mut patience = std::pin::pin!(tokio::time::sleep(Duration::from_millis(1)));
        loop {
            let changed = self.changed[lane as usize].notified();
            let free = self.free(&self.ledger(), lane);
            if free >= batch {
                return free;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = &mut patience => return self.free(&self.ledger(), lane),
            }
        }
    }

    /// Signals that the lane has, or may have, waiting jobs, until the returned guard is dropped.
    pub(super) fn demand(&self, lane: Lane) -> SlotDemand<'_> {
        *SlotDemand::count(&mut self.ledger(), lane) += 1;
        SlotDemand { slots: self, lane }
    }

    /// Number of slots that the lane could take now. A hint, not a claim.
    pub(super) fn free_now(&self, lane: Lane) -> usize {
        self.free(&self.ledger(), lane)
    }

    /// Takes between 1 and `want` slots. Waits for the first.
    pub(super) async fn acquire(&self, lane: Lane, want: usize) -> usize {
        let demand = self.demand(lane);
        loop {
            let changed = self.changed[lane as usize].notified();
            {
                let mut ledger = self.ledger();
                let taken = self.free(&ledger, lane).min(want);
                if taken > 0 {
                    ledger.running += taken;
                    match lane {
                        Lane::Bulk => ledger.bulk_running += taken,
                        Lane::Interactive => ledger.interactive_at = Some(Instant::now()),
                    }
                    drop(ledger);
                    drop(demand);
                    return taken;
                }
            }
            changed.await;
        }
    }

    /// Sets the number of slots that may be in use. Slots in use stay taken.
    pub(super) fn allow(&self, allowed: Allowed) {
        let more = self.calls.swap(allowed.calls, Ordering::Relaxed) < allowed.calls;
        if self.light.swap(allowed.light, Ordering::Relaxed) < allowed.light || more {
            self.notify();
        }
    }

    pub(super) fn release(&self, lane: Lane, count: usize) {
        {
            let mut ledger = self.ledger();
            ledger.running = ledger.running.saturating_sub(count);
            if lane == Lane::Bulk {
                ledger.bulk_running = ledger.bulk_running.saturating_sub(count);
            }
        }
        self.notify();
    }

    /// Counts `count` deliveries whose end must be written.
    pub(super) fn unwritten(&self, count: usize) {
        self.ledger().unwritten += count;
    }

    /// Counts `count` ends as written.
    pub(super) fn written(&self, count: usize) {
        {
            let mut ledger = self.ledger();
            ledger.unwritten = ledger.unwritten.saturating_sub(count);
        }
        self.notify();
    }

    /// Whether so many ends are unwritten that nothing more may be read.
    pub(super) fn is_backed_up(&self) -> bool {
        self.ledger().unwritten >= self.most_unwritten()
    }

    /// Whether enough calls are running for several to end at about the same time.
    pub(super) fn is_busy(&self) -> bool {
        self.ledger().running >= (self.total() / 4).max(8)
    }

    /// Whether jobs wait, or may wait, for a slot.
    pub(super) fn is_wanted(&self) -> bool {
        let ledger = self.ledger();
        ledger.interactive_demands + ledger.bulk_demands > 0
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Sets the number of slots. With fewer than are in use, none is taken until enough have come free.
    pub(super) fn set_total(&self, total: usize) {
        self.total.store(total.max(1), Ordering::Relaxed);
        self.notify();
    }

    /// Maximum number of deliveries whose end is not yet written.
    fn most_unwritten(&self) -> usize {
        self.total().saturating_mul(2).max(1024)
    }

    /// Number of slots in use, and of ends not yet written.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let ledger = self.ledger();
        (ledger.running, ledger.unwritten)
    }

    /// Number of running calls, interactive and bulk.
    pub(super) fn running(&self) -> (usize, usize) {
        let ledger = self.ledger();
        (ledger.running.saturating_sub(ledger.bulk_running), ledger.bulk_running)
    }

    /// Number of slots that may be in use now.
    pub(super) fn allowed(&self) -> usize {
        self.total().min(self.calls.load(Ordering::Relaxed))
    }

    /// Waits until every end is written.
    pub(super) async fn all_written(&self) {
        loop {
            let changed = self.changed[0].notified();
            if self.ledger().unwritten == 0 {
                return;
            }
            changed.await;
        }
    }

    fn notify(&self) {
        for changed in &self.changed {
            changed.notify_waiters();
        }
    }
}

/// Signals a lane's demand for slots while it exists: the other lane then leaves the lane its share.
#[derive(Debug)]
pub(super) struct SlotDemand<'a> {
    slots: &'a Slots,
    lane: Lane,
}

impl SlotDemand<'_> {
    fn count(ledger: &mut Ledger, lane: Lane) -> &mut usize {
        match lane {
            Lane::Interactive => &mut ledger.interactive_demands,
            Lane::Bulk => &mut ledger.bulk_demands,
        }
    }
}

impl Drop for SlotDemand<'_> {
    fn drop(&mut self) {
        {
            let mut ledger = self.slots.ledger();
            let count = Self::count(&mut ledger, self.lane);
            *count = count.saturating_sub(1);
        }
        self.slots.notify();
    }
}

/// Bulk's share as a number of slots. Rounded down, but at least 1 of several: constant interactive demand must slow
/// bulk jobs down, not stop them.
fn bulk_min(total: usize, percent: u8) -> usize {
    let share = total * usize::from(percent.min(100)) / 100;
    if share == 0 && percent > 0 && total >= 4 { 1 } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const ALL_AND_A_FIFTH: BulkShare = BulkShare { min: 20, max: 100 };

    #[tokio::test(start_paused = true)]
    async fn while_people_come_bulk_leaves_room_for_them() {
        let slots = Slots::new(10, BulkShare { min: 20, max: 50 });
        assert_eq!(slots.acquire(Lane::Bulk, 100).await, 10, "nobody has come");
        slots.release(Lane::Bulk, 10);
        assert_eq!(slots.acquire(Lane::Interactive, 1).await, 1);
        slots.release(Lane::Interactive, 1);
        assert_eq!(slots.acquire(Lane::Bulk, 100).await, 5);
        assert_eq!((slots.free_now(Lane::Bulk), slots.free_now(Lane::Interactive)), (0, 5));
        tokio::time::advance(PRESENCE).await;
        assert_eq!(slots.free_now(Lane::Bulk), 5, "nobody comes any more");
    }

    #[tokio::test]
    async fn interactive_goes_first_and_bulk_keeps_its_share() {
        let slots = Slots::new(10, ALL_AND_A_FIFTH);
        assert_eq!(slots.acquire(Lane::Bulk, 100).await, 10, "alone, bulk may use everything");
        let interactive = slots.acquire(Lane::Interactive, 4);
        tokio::pin!(interactive);
        assert_eq!(interactive.as_mut().now_or_never(), None);
        let bulk = slots.acquire(Lane::Bulk, 4);
        tokio::pin!(bulk);
        slots.release(Lane::Bulk, 3);
        assert_eq!(bulk.as_mut().now_or_never(), None, "interactive waits, and bulk has more than its share");
        assert_eq!(interactive.await, 3);
        slots.release(Lane::Bulk, 7);
        assert_eq!(bulk.await, 4, "nobody else waits any more");
    }

    #[tokio::test]
    async fn what_is_owed_to_waiting_bulk_is_left_to_it() {
        let slots = Slots::new(10, ALL_AND_A_FIFTH);
        assert_eq!(slots.acquire(Lane::Interactive, 10).await, 10);
        let bulk = slots.acquire(Lane::Bulk, 5);
        tokio::pin!(bulk);
        assert_eq!(bulk.as_mut().now_or_never(), None);
        slots.release(Lane::Interactive, 1);
        assert_eq!(slots.acquire(Lane::Interactive, 1).now_or_never(), None, "the slot is owed to bulk");
        assert_eq!(bulk.await, 1);
    }

    #[tokio::test]
    async fn a_demand_keeps_what_comes_free_from_the_other_lane() {
        let slots = Slots::new(10, ALL_AND_A_FIFTH);
        assert_eq!(slots.acquire(Lane::Bulk, 10).await, 10);
        assert_eq!(slots.free_now(Lane::Interactive), 0);
        let demand = slots.demand(Lane::Interactive);
        slots.release(Lane::Bulk, 1);
        assert_eq!(slots.available(Lane::Bulk, 1).now_or_never(), None, "it has more than its share");
        assert_eq!(slots.available(Lane::Interactive, 1).await, 1);
        drop(demand);
        assert_eq!(slots.available(Lane::Bulk, 1).await, 1);
    }

    #[tokio::test]
    async fn a_load_is_lightened_at_the_expense_of_bulk() {
        let slots = Slots::new(16, BulkShare { min: 0, max: 100 });
        assert_eq!(slots.acquire(Lane::Bulk, 16).await, 16);
        slots.allow(Allowed { calls: 16, light: 4 });
        slots.release(Lane::Bulk, 6);
        assert_eq!((slots.free_now(Lane::Bulk), slots.free_now(Lane::Interactive)), (0, 4));
        assert_eq!(slots.acquire(Lane::Interactive, 9).await, 4);
        slots.release(Lane::Bulk, 10);
        assert_eq!(
            (slots.free_now(Lane::Bulk), slots.free_now(Lane::Interactive)),
            (0, 0),
            "alone it is lightened, too"
        );
        slots.allow(Allowed::evenly(16));
        assert_eq!((slots.free_now(Lane::Bulk), slots.free_now(Lane::Interactive)), (12, 12));
    }

    #[tokio::test]
    async fn of_a_few_slots_people_have_most() {
        let slots = Slots::new(64, BulkShare { min: 10, max: 50 });
        for (allowed, bulk) in [(40, 4), (4, 1), (1, 0)] {
            slots.allow(Allowed::evenly(allowed));
            let demand = (slots.demand(Lane::Interactive), slots.demand(Lane::Bulk));
            let free = (slots.free_now(Lane::Interactive), slots.free_now(Lane::Bulk));
            assert_eq!(free, (allowed - bulk, bulk), "of {allowed}");
            drop(demand);
        }
    }

    #[tokio::test]
    async fn fewer_slots_hold_at_once_and_more_wake_who_waits() {
        let slots = Slots::new(4, BulkShare { min: 0, max: 100 });
        assert_eq!(slots.acquire(Lane::Interactive, 4).await, 4);
        slots.set_total(2);
        slots.allow(Allowed::evenly(2));
        slots.release(Lane::Interactive, 2);
        let waiting = slots.acquire(Lane::Interactive, 3);
        tokio::pin!(waiting);
        assert_eq!(waiting.as_mut().now_or_never(), None, "two are in use, and two are allowed");
        slots.set_total(8);
        slots.allow(Allowed::evenly(8));
        assert_eq!(waiting.await, 3);
        assert_eq!((slots.total(), slots.allowed()), (8, 8));
    }

    #[tokio::test]
    async fn unwritten_ends_stop_the_reading() {
        let slots = Slots::new(1, BulkShare { min: 0, max: 100 });
        slots.unwritten(1024);
        assert_eq!(slots.available(Lane::Interactive, 1).now_or_never(), None);
        slots.written(1);
        assert_eq!(slots.available(Lane::Interactive, 1).await, 1);
    }
}
