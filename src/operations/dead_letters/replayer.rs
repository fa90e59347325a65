//! Moving dead letters back into the queue at a rate, a few at a time.

use super::{outcomes::Outcomes, scan::Patience};
use crate::{
    config::Rate,
    contract::EntryId,
    operations::Progress,
    queue::{
        Keys, Link,
        dead_letters::{MAX_REPLAY, Replay, ReplayRun, Replayed},
    },
};
use redis::RedisError;
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// One step moves what is due in this time, so that the rate is even.
const STEP: Duration = Duration::from_millis(200);

/// While a step is not due yet, the counts are published this often.
const PUBLISH: Duration = Duration::from_secs(1);

/// How far it is after a step.
#[derive(Debug, Clone, Default)]
pub(super) struct StepCounts {
    pub(super) tally: ReplayTally,
    /// Partition and entry of the last dead letter that was taken: those before need not be read again.
    pub(super) at: Option<(u16, EntryId)>,
    /// How the replayed jobs ended so far, and how many have not.
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) outstanding: usize,
}

/// What became of the dead letters so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReplayTally {
    pub(super) replayed: u64,
    pub(super) gone: u64,
    pub(super) superseded: u64,
}

/// Moves dead letters.
pub(super) struct Replayer<'a> {
    link: Link,
    keys: Vec<Keys>,
    run: ReplayRun,
    batch: Vec<Replay>,
    partition: u16,
    per_step: usize,
    interval_us: u64,
    /// When the next dead letter may move.
    due: Instant,
    progress: &'a dyn Progress,
    stop: &'a CancellationToken,
    tally: ReplayTally,
    outcomes: Option<Outcomes>,
    at: Option<(u16, EntryId)>,
    counts: Option<watch::Sender<StepCounts>>,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(
        (link, keys): (Link, Vec<Keys>),
        run: ReplayRun,
        rate: Rate,
        outcomes: Option<Outcomes>,
        progress: &'a dyn Progress,
        stop: &'a CancellationToken,
    ) -> Self {
        let interval_us = rate.interval_us.max(1);
        let in_step = u64::try_from(STEP.as_micros()).unwrap_or(u64::MAX) / interval_us;
        Self {
            link,
            keys,
            run,
            batch: Vec::new(),
            partition: 0,
            per_step: usize::try_from(in_step).unwrap_or(MAX_REPLAY).clamp(1, MAX_REPLAY),
            interval_us,
            due: Instant::now(),
            progress,
            stop,
            tally: ReplayTally::default(),
            outcomes,
            at: None,
            counts: None,
        }
    }

    /// Publishes the counts after each step, and about once a second.
    pub(super) fn publish_to(self, counts: watch::Sender<StepCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    fn publish(&mut self) {
        if let Some(outcomes) = &mut self.outcomes {
            outcomes.take_in();
        }
        if let Some(counts) = &self.counts {
            let outcomes = self.outcomes.as_ref();
            counts.send_replace(StepCounts {
                tally: self.tally,
                at: self.at,
                outcomes: outcomes.map(|outcomes| outcomes.counts().clone()).unwrap_or_default(),
                outstanding: outcomes.map_or(0, Outcomes::outstanding),
            });
        }
    }

    /// Waits until the next step is due. Whether it may be done.
    async fn wait(&mut self) -> bool {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep_until(due) => return true,
                () = tokio::time::sleep(PUBLISH), if self.counts.is_some() => self.publish(),
            }
        }
    }

    /// Whether nothing more is to be moved.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Adds a dead letter to the current step. A full step is moved.
    pub(super) async fn push(&mut self, partition: u16, replay: Replay) -> Result<(), RedisError> {
        if partition != self.partition {
            self.flush().await?;
            self.partition = partition;
        }
        self.batch.push(replay);
        if self.batch.len() == self.per_step { self.flush().await } else { Ok(()) }
    }

    /// Moves the current step when it is due. Moves nothing when it is stopped before.
    pub(super) async fn flush(&mut self) -> Result<(), RedisError> {
        let batch = std::mem::take(&mut self.batch);
        let Some(keys) = self.keys.get(usize::from(self.partition)).filter(|_| !batch.is_empty()) else {
            return Ok(());
        };
        // The keys are those of this partition, whatever is published meanwhile.
        let keys = keys.clone();
        if !self.wait().await {
            return Ok(());
        }
        // A slow Redis delays all that follows: the rate is a maximum, and time lost is not made up for.
        let interval = Duration::from_micros(self.interval_us.saturating_mul(batch.len() as u64));
        self.due = self.due.max(Instant::now()) + interval;
        self.run.next_step();
        let mut patience = Patience::default();
        let answers = loop {
            match self.run.replay(&mut self.link, &keys, &batch).await {
                Ok(answers) => break answers,
                Err(error) => patience.after(error).await?,
            }
        };
        self.at = batch.last().map(|last| (self.partition, last.entry));
        self.count(&batch, answers);
        self.publish();
        Ok(())
    }

    fn count(&mut self, batch: &[Replay], answers: Vec<Replayed>) {
        let before = self.tally.replayed;
        for (replay, answer) in batch.iter().zip(answers) {
            match answer {
                Replayed::Moved => {
                    self.tally.replayed += 1;
                    if let Some(outcomes) = &mut self.outcomes {
                        outcomes.expect(&replay.id);
                    }
                }
                Replayed::Gone => self.tally.gone += 1,
                Replayed::Superseded => self.tally.superseded += 1,
            }
        }
        self.progress.advance(self.tally.replayed - before);
    }

    /// What was done, and what to wait for.
    pub(super) fn finish(self) -> (ReplayTally, Option<Outcomes>) {
        (self.tally, self.outcomes)
    }
}
