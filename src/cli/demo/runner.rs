//! Plays scenarios: enqueues their jobs, watches the completions, and compares these with what is expected.

use super::narrator::Narrator;
use crate::{
    completions::{Completed, Subscriber},
    contract::{JobType, Lane, Outcome, Status},
    operations::{Backend, enqueue, namespace},
    sandbox::Sandbox,
};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// After this long without a completion, the demo fails.
const SILENCE: Duration = Duration::from_secs(20);

/// The facts of a completion that the summary needs.
#[derive(Debug, Clone)]
pub(super) struct StepEnd {
    pub(super) job_type: Option<JobType>,
    pub(super) status: Status,
    /// `outcome` of a success, else `error.kind`.
    pub(super) outcome: String,
    pub(super) attempts: u64,
    pub(super) total_ms: u64,
    pub(super) limited_ms: u64,
    pub(super) retrying_ms: u64,
}

impl From<&Completed> for StepEnd {
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

/// The expected end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    status: Status,
    /// The outcome, if the job should succeed.
    outcome: Option<Outcome>,
}

/// A job to enqueue, its lane, and the delay after the job before.
pub(super) struct Step {
    pub(super) lane: Lane,
    pub(super) job: Value,
    pub(super) after: Duration,
}

impl Step {
    /// A job for the interactive lane, without a delay.
    pub(super) const fn now(job: Value) -> Self {
        Self { lane: Lane::Interactive, job, after: Duration::ZERO }
    }

    /// A job for the interactive lane, after a delay.
    pub(super) const fn after(job: Value, after: Duration) -> Self {
        Self { lane: Lane::Interactive, job, after }
    }

    /// A job for the bulk lane, without a delay.
    pub(super) const fn bulk(job: Value) -> Self {
        Self { lane: Lane::Bulk, job, after: Duration::ZERO }
    }
}

pub(super) struct Runner<'a> {
    pub(super) sandbox: Sandbox,
    pub(super) narrator: Narrator,
    backend: Backend<'a>,
    subscriber: Subscriber,
    /// The expected end of each job, by id.
    expected: BTreeMap<String, Expected>,
    /// The completions of each job, by id, in the order in which they came.
    pub(super) seen: BTreeMap<String, Vec<StepEnd>>,
    /// The ids of the jobs in the order in which they ended.
    order: Vec<String>,
    waiting: usize,
}

/// The jobs whose completions are missing, came twice, or are not as expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DemoTally {
    pub(super) jobs: usize,
    pub(super) completions: u64,
    pub(super) missing: Vec<String>,
    pub(super) twice: Vec<String>,
    pub(super) otherwise: Vec<String>,
}

impl DemoTally {
    pub(super) fn is_good(&self) -> bool {
        let counted = u64::try_from(self.jobs).is_ok_and(|jobs| jobs == self.completions);
        counted && self.missing.is_empty() && self.twice.is_empty() && self.otherwise.is_empty()
    }
}

impl<'a> Runner<'a> {
    pub(super) fn new(sandbox: Sandbox, backend: Backend<'a>, subscriber: Subscriber, narrator: Narrator) -> Self {
        let (expected, seen, order) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { sandbox, narrator, backend, subscriber, expected, seen, order, waiting: 0 }
    }

    /// Expects the job `id` to succeed with this outcome.
    pub(super) fn expect(&mut self, id: &str, outcome: Outcome) {
        self.expect_end(id, Expected { status: Status::Succeeded, outcome: Some(outcome) });
    }

    /// Expects the job `id` to end with this status, which is no success.
    pub(super) fn expect_failure(&mut self, id: &str, status: Status) {
        self.expect_end(id, Expected { status, outcome: None });
    }

    fn expect_end(&mut self, id: &str, end: Expected) {
        if self.expected.insert(id.to_owned(), end).is_none() && !self.seen.contains_key(id) {
            self.waiting += 1;
        }
    }

    /// Enqueues jobs, as a shop does, and prints completions as they come, until every expected job has ended.
    pub(super) async fn play(&mut self, steps: Vec<Step>) -> anyhow::Result<()> {
        let Self { backend, subscriber, narrator, expected, seen, order, waiting, .. } = self;
        let enqueueing = async {
            for step in steps {
                tokio::time::sleep(step.after).await;
                // Not checked: a job that the worker rejects is part of the sample.
                let (id, json) = (step.job["id"].as_str(), step.job.to_string());
                let added = enqueue::add_unchecked(backend, json, step.lane, 0, id).await;
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
                        order.push(completed.id.clone());
                    }
                    narrator.completion(&completed.event)?;
                }
            }
            Ok(())
        };
        tokio::try_join!(enqueueing, watching)?;
        Ok(())
    }

    /// Number of jobs that ended after the job `id`.
    pub(super) fn ended_after(&self, id: &str) -> usize {
        self.order.iter().rev().take_while(|ended| *ended != id).count()
    }

    /// Compares the completions with those that are expected, and with their number in Redis.
    pub(super) async fn tally(&mut self) -> anyhow::Result<DemoTally> {
        let completions = namespace::kept_completions(&mut self.backend).await?;
        let mut tally = DemoTally { jobs: self.expected.len(), completions, ..DemoTally::default() };
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

/// Adds a completion. Returns whether it is the first of an expected job.
fn note(
    seen: &mut BTreeMap<String, Vec<StepEnd>>,
    expected: &BTreeMap<String, Expected>,
    completed: &Completed,
) -> bool {
    let events = seen.entry(completed.id.clone()).or_default();
    events.push(StepEnd::from(completed));
    events.len() == 1 && expected.contains_key(&completed.id)
}

fn fits(expected: &Expected, ended: &StepEnd) -> bool {
    ended.status == expected.status && expected.outcome.is_none_or(|outcome| ended.outcome == outcome.as_str())
}
