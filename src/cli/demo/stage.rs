//! The stage: what every act needs to enqueue jobs, watch their completions and know what should have become of them.

use super::teller::Teller;
use crate::{
    completions::{Completed, Subscriber},
    contract::{JobType, Lane, Outcome, Status},
    operations::{Backend, enqueue, namespace},
    sandbox::Sandbox,
};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// Without a completion for so long, something is wrong.
const SILENCE: Duration = Duration::from_secs(20);

/// What is remembered of a completion.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) job_type: Option<JobType>,
    pub(super) status: Status,
    /// `outcome`, else `error.kind`.
    pub(super) outcome: String,
    pub(super) attempts: u64,
    pub(super) total_ms: u64,
    pub(super) limited_ms: u64,
    pub(super) retrying_ms: u64,
}

impl From<&Completed> for Ended {
    fn from(completed: &Completed) -> Self {
        let event = &completed.event;
        let outcome = event["outcome"].as_str().or_else(|| event["error"]["kind"].as_str());
        let ms = |name: &str| event["timings_ms"][name].as_u64().unwrap_or(0);
        Self {
            job_type: completed.job_type,
            status: completed.status,
            outcome: outcome.unwrap_or("-").to_owned(),
            attempts: event["attempts"].as_u64().unwrap_or(0),
            total_ms: ms("total"),
            limited_ms: ms("limited"),
            retrying_ms: ms("retrying"),
        }
    }
}

/// How a job should end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    status: Status,
    /// Of a success.
    outcome: Option<Outcome>,
}

/// A job, the lane it goes to, and how long after the one before.
pub(super) struct Cue {
    pub(super) lane: Lane,
    pub(super) job: Value,
    pub(super) after: Duration,
}

impl Cue {
    /// Into the interactive lane, at once.
    pub(super) const fn now(job: Value) -> Self {
        Self { lane: Lane::Interactive, job, after: Duration::ZERO }
    }

    /// Into the interactive lane, after a pause.
    pub(super) const fn after(job: Value, after: Duration) -> Self {
        Self { lane: Lane::Interactive, job, after }
    }

    /// Into the bulk lane.
    pub(super) const fn bulk(job: Value) -> Self {
        Self { lane: Lane::Bulk, job, after: Duration::ZERO }
    }
}

pub(super) struct Stage<'a> {
    pub(super) sandbox: Sandbox,
    pub(super) teller: Teller,
    backend: Backend<'a>,
    subscriber: Subscriber,
    /// By id.
    expected: BTreeMap<String, Expected>,
    /// By id, in the order in which they came.
    pub(super) seen: BTreeMap<String, Vec<Ended>>,
    waiting: usize,
}

/// What became of the promises.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) jobs: usize,
    pub(super) completions: u64,
    pub(super) missing: Vec<String>,
    pub(super) twice: Vec<String>,
    pub(super) otherwise: Vec<String>,
}

impl Tally {
    pub(super) fn is_good(&self) -> bool {
        let counted = u64::try_from(self.jobs).is_ok_and(|jobs| jobs == self.completions);
        counted && self.missing.is_empty() && self.twice.is_empty() && self.otherwise.is_empty()
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(sandbox: Sandbox, backend: Backend<'a>, subscriber: Subscriber, teller: Teller) -> Self {
        let (expected, seen) = (BTreeMap::new(), BTreeMap::new());
        Self { sandbox, teller, backend, subscriber, expected, seen, waiting: 0 }
    }

    /// From now on `id` should end so.
    pub(super) fn expect(&mut self, id: &str, outcome: Outcome) {
        self.expect_end(id, Expected { status: Status::Succeeded, outcome: Some(outcome) });
    }

    /// From now on `id` should not succeed.
    pub(super) fn expect_failure(&mut self, id: &str, status: Status) {
        self.expect_end(id, Expected { status, outcome: None });
    }

    fn expect_end(&mut self, id: &str, end: Expected) {
        if self.expected.insert(id.to_owned(), end).is_none() && !self.seen.contains_key(id) {
            self.waiting += 1;
        }
    }

    /// Enqueues, as a shop does, and tells completions as they come, until every job that was expected has ended.
    pub(super) async fn play(&mut self, cues: Vec<Cue>) -> anyhow::Result<()> {
        let Self { backend, subscriber, teller, expected, seen, waiting, .. } = self;
        let enqueueing = async {
            for cue in cues {
                tokio::time::sleep(cue.after).await;
                // Not checked before: what a worker makes of a faulty job is part of the sample.
                let (id, json) = (cue.job["id"].as_str(), cue.job.to_string());
                let added = enqueue::add_unchecked(backend, json, cue.lane, 0, id).await;
                added.context("a job cannot be enqueued")?;
            }
            anyhow::Ok(())
        };
        let watching = async {
            while *waiting > 0 {
                let batch = tokio::time::timeout(SILENCE, subscriber.next()).await;
                let Ok(batch) = batch else {
                    bail!("{} of the jobs have no completion, and none came for {} s", waiting, SILENCE.as_secs());
                };
                for completed in batch? {
                    if note(seen, expected, &completed) {
                        *waiting -= 1;
                    }
                    teller.completion(&completed.event)?;
                }
            }
            Ok(())
        };
        tokio::try_join!(enqueueing, watching)?;
        Ok(())
    }

    /// Compares what came with what should have come, and with what Redis has.
    pub(super) async fn tally(&mut self) -> anyhow::Result<Tally> {
        let completions = namespace::kept_completions(&mut self.backend).await?;
        let mut tally = Tally { jobs: self.expected.len(), completions, ..Tally::default() };
        for (id, expected) in &self.expected {
            match self.seen.get(id).map(Vec::as_slice) {
                None | Some([]) => tally.missing.push(id.clone()),
                Some([ended]) if fits(expected, ended) => {}
                Some([_]) => tally.otherwise.push(id.clone()),
                Some(_) => tally.twice.push(id.clone()),
            }
        }
        tally.otherwise.extend(self.seen.keys().filter(|id| !self.expected.contains_key(*id)).cloned());
        Ok(tally)
    }
}

/// Notes a completion; whether it was waited for.
fn note(seen: &mut BTreeMap<String, Vec<Ended>>, expected: &BTreeMap<String, Expected>, completed: &Completed) -> bool {
    let events = seen.entry(completed.id.clone()).or_default();
    events.push(Ended::from(completed));
    events.len() == 1 && expected.contains_key(&completed.id)
}

fn fits(expected: &Expected, ended: &Ended) -> bool {
    ended.status == expected.status && expected.outcome.is_none_or(|outcome| ended.outcome == outcome.as_str())
}
