//! How each script is called, and what is checked afterwards.
//!
//! A scene prepares Redis, calls one script as a worker or a command does, and names the facts that show whether each
//! job's consequences have happened. The right result is not written down here: it is the result of the same call when
//! nothing fails.
//!
//! To cover a new script, write a [`Scene`] and add a line to the table at the end of this file.

mod admitting;
mod backfilling;
mod delaying;
mod facts;
mod finishing;
mod lending;
mod overriding;
mod replaying;
mod ruling;
mod running;
mod stage;
mod watching;

/// Whether the fact is a counter of batches or completions, or the expiry of one.
fn is_counter(fact: &str) -> bool {
    ["batch:", "expires batch:", "stats", "expires stats"].iter().any(|start| fact.starts_with(start))
}

pub(crate) use facts::{Facts, Snapshot};
pub(crate) use stage::{Job, Stage};

use xco_worker::queue::Link;

/// One script, and how it is called.
pub(crate) trait Scene: Sized {
    /// Whether half-done work is harmless because the next caller of the script completes it.
    const RESUMES: bool = false;

    /// Fills Redis and chooses the request. All random choices use `stage.rng`.
    async fn prepare(stage: &mut Stage) -> Self;

    /// Calls the script once, with the same request each time. Returns whether the caller considers it done, or the
    /// error after which it calls again.
    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String>;

    /// The jobs that are checked one by one.
    fn jobs(&self) -> &[Job] {
        &[]
    }

    /// Adds facts of a job or (with an empty name) of the whole.
    fn more_facts(&self, _snapshot: &Snapshot, _facts: &mut Facts) {}

    /// Facts that may be ahead of others between a failed call and the next one, because they are harmless alone.
    fn may_run_ahead(_fact: &str) -> bool {
        false
    }

    /// Facts that a failed command may lose for good: counters, expiries and replies. No job depends on them, and their
    /// failure is reported.
    fn may_be_lost(_fact: &str) -> bool {
        false
    }

    /// Asserts that the scene tests something: what must have happened when nothing failed.
    fn check(&self, calm: &Facts);
}

/// The table: name of the test, the script, its scene.
macro_rules! scenes {
    ($($test:ident, $script:literal, $scene:ty;)*) => {
        /// The scripts that have a scene.
        pub(crate) const SCRIPTS: &[&str] = &[$($script),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::systematic::play::<$scene>($script).await;
            }
        )*
    };
}

scenes! {
    finish, "finish.lua", finishing::Finishing;
    admit, "admit.lua", admitting::Admitting;
    forget_ids, "forget_ids.lua", admitting::Forgetting;
    forget_slice, "forget_slice.lua", admitting::ForgettingSlices;
    defer, "defer.lua", delaying::Deferring;
    hold, "delay_paused.lua", delaying::Holding;
    release, "resume_paused.lua", delaying::Releasing;
    call_up, "cancel_delayed.lua", delaying::CallingUp;
    promote, "promote.lua", delaying::Promoting;
    renew, "renew.lua", lending::Renewing;
    retire, "remove_consumer.lua", lending::Retiring;
    rule_set, "rule_set.lua", ruling::SettingRules;
    rule_drop, "rule_drop.lua", ruling::DroppingRules;
    limits_change, "limits_change.lua", overriding::ChangingLimits;
    bring_forward, "bring_forward.lua", overriding::BringingForward;
    replay, "replay.lua", replaying::Replaying;
    run_claim, "run_claim.lua", running::Claiming;
    run_beat, "run_beat.lua", running::Beating;
    feed, "backfill_enqueue.lua", backfilling::Feeding;
    record, "backfill_record.lua", backfilling::Recording;
    rescue, "rescue.lua", lending::Rescuing;
    find_adrift, "find_adrift.lua", lending::FindingAdrift;
    count_removed, "count_removed.lua", lending::CountingRemoved;
    read_cut, "read_cut.lua", lending::ReadingCut;
    clock, "clock.lua", watching::LookingAtTheClock;
    clock_put_back, "clock_put_back.lua", watching::PuttingBack;
    preflight, "preflight.lua", watching::Checking;
}
