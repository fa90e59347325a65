//! How each script is called, and what is looked at afterwards.
//!
//! A scene sets a world up, calls one script as a worker or a command does, and names the facts that tell whether each job's
//! consequences have happened. What is right is not written down here: it is what the same call does when nothing fails.
//!
//! To cover a new script, write a [`Scene`] and add a line to the table at the end of this file.

mod admitting;
mod backfilling;
mod delaying;
mod facts;
mod finishing;
mod lending;
mod replaying;
mod ruling;
mod stage;
mod watching;

/// Counters of batches and of completions, and how long they are kept.
fn is_counter(fact: &str) -> bool {
    ["batch:", "expires batch:", "stats", "expires stats"].iter().any(|start| fact.starts_with(start))
}

pub(crate) use facts::{Facts, Snapshot};
pub(crate) use stage::{Job, Stage};

use xco_worker::queue::Link;

/// One script, and how it is called.
pub(crate) trait Scene: Sized {
    /// What is half done does no harm: whoever calls the script next, and somebody does, brings it to its end.
    const RESUMES: bool = false;

    /// Fills Redis, and decides what is asked for. All that is drawn is drawn from `stage.rng`.
    async fn prepare(stage: &mut Stage) -> Self;

    /// Calls the script once, with the same request each time. Whether its caller believes that it is done; or why it failed
    /// and is to be called again.
    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String>;

    /// The jobs that are looked at one by one.
    fn jobs(&self) -> &[Job] {
        &[]
    }

    /// More facts, of a job or (with an empty name) of the whole.
    fn more_facts(&self, _snapshot: &Snapshot, _facts: &mut Facts) {}

    /// Facts that may run ahead of others between a call that failed and the next: they do no harm where nothing follows.
    fn may_run_ahead(_fact: &str) -> bool {
        false
    }

    /// Facts that a command which fails may cost for good: counters, expiries and replies are a courtesy, which no job waits
    /// for and whose failure is reported.
    fn may_be_lost(_fact: &str) -> bool {
        false
    }

    /// That the scene is one: what must have happened when nothing failed.
    fn check(&self, calm: &Facts);
}

/// The table: a test's name, the script, its scene.
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
    defer, "defer.lua", delaying::Deferring;
    hold, "hold.lua", delaying::Holding;
    release, "release.lua", delaying::Releasing;
    call_up, "call_up.lua", delaying::CallingUp;
    promote, "promote.lua", delaying::Promoting;
    renew, "renew.lua", lending::Renewing;
    retire, "retire.lua", lending::Retiring;
    rule_set, "rule_set.lua", ruling::SettingRules;
    rule_drop, "rule_drop.lua", ruling::DroppingRules;
    replay, "replay.lua", replaying::Replaying;
    feed, "feed.lua", backfilling::Feeding;
    record, "record.lua", backfilling::Recording;
    rescue, "rescue.lua", lending::Rescuing;
    find_adrift, "find_adrift.lua", lending::FindingAdrift;
    count_removed, "count_removed.lua", lending::CountingRemoved;
    read_cut, "read_cut.lua", lending::ReadingCut;
    clock, "clock.lua", watching::LookingAtTheClock;
    clock_put_back, "clock_put_back.lua", watching::PuttingBack;
    preflight, "preflight.lua", watching::Checking;
}
