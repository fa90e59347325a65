//! Moving letters at a pace, a step of a few at a time.

use super::{
    outcomes::Outcomes,
    replay::Task,
    scan::{Letters, TRIES, backoff},
};
use crate::queue::{
    IdIndex, Keys, Link,
    dead::{MAX_REPLAY, Replay, Replayed, Run},
    is_transient,
};
use redis::RedisError;
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A step holds what is due in this time, so that the pace is even.
const STEP: Duration = Duration::from_millis(200);

/// What became of the letters so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) replayed: u64,
    pub(super) gone: u64,
    pub(super) superseded: u64,
}

/// Moves letters.
pub(super) struct Mover {
    link: Link,
    keys: Vec<Keys>,
    run: Run,
    batch: Vec<Replay>,
    partition: u16,
    per_step: usize,
    interval_us: u64,
    /// When the next letter is due.
    due: Instant,
    told: Option<Instant>,
    stop: CancellationToken,
    most: u64,
    tally: Tally,
    outcomes: Option<Outcomes>,
}

impl Mover {
    pub(super) fn new(letters: &Letters, task: &Task, stop: CancellationToken, outcomes: Option<Outcomes>) -> Self {
        let interval_us = task.rate.interval_us.max(1);
        let in_step = u64::try_from(STEP.as_micros()).unwrap_or(u64::MAX) / interval_us;
        let who = letters.operator.name().to_owned();
        Self {
            link: letters.link(),
            keys: letters.keys.clone(),
            run: Run::new(who, IdIndex::of(&letters.context.config.queue)),
            batch: Vec::new(),
            partition: 0,
            per_step: usize::try_from(in_step).unwrap_or(MAX_REPLAY).clamp(1, MAX_REPLAY),
            interval_us,
            due: Instant::now(),
            told: std::io::stderr().is_terminal().then(Instant::now),
            stop,
            most: task.most,
            tally: Tally::default(),
            outcomes,
        }
    }

    /// Whether the operator wants no more.
    pub(super) fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Takes a letter along; a full step is moved.
    pub(super) async fn push(&mut self, partition: u16, letter: Replay) -> Result<(), RedisError> {
        if partition != self.partition {
            self.flush().await?;
            self.partition = partition;
        }
        self.batch.push(letter);
        if self.batch.len() == self.per_step { self.flush().await } else { Ok(()) }
    }

    /// Moves what there is, when it is due; nothing if stopped before.
    pub(super) async fn flush(&mut self) -> Result<(), RedisError> {
        let batch = std::mem::take(&mut self.batch);
        let Some(keys) = self.keys.get(usize::from(self.partition)).filter(|_| !batch.is_empty()) else {
            return Ok(());
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(self.due) => {}
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        // Time lost to a slow Redis is not made up for: the rate is a bound.
        self.due = self.due.max(Instant::now()) + Duration::from_micros(self.interval_us.saturating_mul(count));
        self.run.next_step();
        let mut tries = 0;
        let answers = loop {
            match self.run.replay(&mut self.link, keys, &batch).await {
                Ok(answers) => break answers,
                Err(error) if is_transient(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(backoff(tries)).await;
                }
                Err(error) => return Err(error),
            }
        };
        for (letter, answer) in batch.iter().zip(answers) {
            match answer {
                Replayed::Moved => {
                    self.tally.replayed += 1;
                    if let Some(outcomes) = &mut self.outcomes {
                        outcomes.expect(&letter.id);
                    }
                }
                Replayed::Gone => self.tally.gone += 1,
                Replayed::Superseded => self.tally.superseded += 1,
            }
        }
        if let Some(outcomes) = &mut self.outcomes {
            outcomes.take_in();
        }
        self.tell();
        Ok(())
    }

    /// On a terminal: how far it is, every now and then.
    fn tell(&mut self) {
        if let Some(told) = self.told.as_mut().filter(|told| told.elapsed() > Duration::from_millis(500)) {
            *told = Instant::now();
            let _ = write!(std::io::stderr(), "\r{} of {} replayed ", self.tally.replayed, self.most);
        }
    }

    /// What was done.
    pub(super) fn finish(self) -> (Tally, Option<Outcomes>) {
        if self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
        (self.tally, self.outcomes)
    }
}
