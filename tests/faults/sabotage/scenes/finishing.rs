//! `finish.lua`: a batch with every kind of end.

use super::{Facts, Job, Scene, Snapshot, Stage, is_counter, stage::CONSUMER};
use rand::{Rng, seq::IndexedRandom};
use std::time::Duration;
use xco_worker::{
    contract::Status,
    limits::SharedBucket,
    queue::{
        Extras, Finish, FinishOp, Finished, Link, MarkerRemoval, NewChild, NewDeadLetter, QueuePosition, Source, finish,
    },
};

#[derive(Debug)]
pub(crate) struct Finishing {
    jobs: Vec<Job>,
    /// Ends that are not written yet.
    batch: Vec<Finish>,
    /// Whether the first job is missing from the pending list, so that only its entry shows that it has not ended.
    acknowledged: bool,
    completing: usize,
    delaying: usize,
}

impl Finishing {
    fn op(stage: &mut Stage, job: &Job) -> FinishOp {
        let Job { state, text, .. } = job.clone();
        let body = text.into_bytes();
        match stage.rng.random_range(0..10) {
            0..6 => Self::completion(stage, job),
            6..8 => {
                let bucket = *SharedBucket::ALL.choose(&mut stage.rng).unwrap();
                let age = stage.rng.random_range(1..1000);
                let place = stage.rng.random_bool(0.5).then_some(QueuePosition { bucket, age });
                FinishOp::Park { due_us: stage.far_ms() * 1000, place, state, job: body }
            }
            8 => FinishOp::Requeue { state, job: body },
            _ => {
                let reply_for = stage.rng.random_bool(0.7).then(|| "first".to_owned());
                FinishOp::Drop { reply_for }
            }
        }
    }

    fn completion(stage: &mut Stage, job: &Job) -> FinishOp {
        let status = *[Status::Succeeded, Status::Failed, Status::Expired].choose(&mut stage.rng).unwrap();
        let dead = (status == Status::Failed).then(|| NewDeadLetter {
            job: job.text.clone(),
            error: r#"{"kind":"upstream"}"#.to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            replayable: "true",
            state: job.state.clone(),
        });
        let child = (status == Status::Succeeded && stage.rng.random_bool(0.5)).then(|| NewChild {
            job: format!(r#"{{"id":"{}/child","type":"CreateUser"}}"#, job.id),
            parent: job.id.clone(),
            generation: 1,
        });
        let batch = stage.rng.random_bool(0.4).then(|| format!("b{}", stage.rng.random_range(0..2)));
        let reply = stage.rng.random_bool(0.4);
        let extras = (reply || batch.is_some() || dead.is_some() || child.is_some())
            .then(|| Box::new(Extras { reply, batch, dead, child }));
        FinishOp::Complete {
            id: job.id.clone(),
            job_type: if stage.rng.random_bool(0.5) { "CheckUser" } else { "StartOtp" },
            status,
            event: format!(r#"{{"id":"{}"}}"#, job.id),
            extras,
        }
    }
}

impl Scene for Finishing {
    async fn prepare(stage: &mut Stage) -> Self {
        let lane = stage.lane();
        let source = if stage.rng.random_bool(0.5) { Source::Jobs } else { Source::Due };
        let count = stage.rng.random_range(1..7);
        let jobs = stage.delivered(lane, source, count).await;
        let mut batch = Vec::new();
        // The first job of the duplicates has ended.
        let mut add = redis::cmd("XADD");
        add.arg(&stage.keys.completions).arg("9-0").arg("id").arg("first").arg("event").arg("{}");
        stage.run::<String>(&add).await;
        stage.reserve("first", &format!("i{}-9 9-0", stage.base_ms)).await;
        for job in &jobs {
            if stage.rng.random_bool(0.7) {
                stage.reserve(&job.id, &Stage::holder(&job.origin)).await;
            }
            let op = Self::op(stage, job);
            let marked = stage.rng.random_bool(0.5);
            if marked {
                stage.run::<()>(redis::cmd("HSET").arg(&stage.keys.begun).arg(&job.origin).arg("mine/1")).await;
            }
            let unmark = match stage.rng.random_range(0..5) {
                0 if !marked => MarkerRemoval::Nothing,
                1 => MarkerRemoval::Own("mine".to_owned()),
                2 => MarkerRemoval::Own("another's".to_owned()),
                3 => MarkerRemoval::Called("mine".to_owned()),
                _ => MarkerRemoval::Any,
            };
            batch.push(Finish { entry: job.entry, origin: job.origin.clone(), unmark, op });
        }
        // One of them may have been removed from the pending list by something other than a worker.
        let acknowledged = stage.rng.random_bool(0.3);
        if acknowledged {
            let stream = stage.keys.stream(lane, source);
            stage.run::<u64>(redis::cmd("XACK").arg(stream).arg("workers").arg(jobs[0].entry.to_string())).await;
        }
        let completing = batch.iter().filter(|one| matches!(one.op, FinishOp::Complete { .. })).count();
        let delaying = batch.iter().filter(|one| matches!(one.op, FinishOp::Park { .. })).count();
        Self { jobs, batch, acknowledged, completing, delaying }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let Job { lane, source, .. } = self.jobs[0];
        let whose = (CONSUMER, Duration::from_secs(60), Stage::index());
        let finishes = finish(link, &stage.keys, lane, source, whose, &self.batch).await;
        let each = finishes.map_err(|error| error.to_string())?.each;
        // Refused ends are written again, and no others.
        let mut why = None;
        let mut each = each.into_iter();
        self.batch.retain(|_| match each.next() {
            Some(Finished::Failed(failure)) => {
                why = Some(failure.to_string());
                true
            }
            _ => false,
        });
        why.map_or(Ok(true), Err)
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, _: &Snapshot, facts: &mut Facts) {
        if self.acknowledged {
            // Restoring may give a better state than before.
            facts.note(&self.jobs[0].id, "pending for", &"");
        }
    }

    /// A body without a due time has no effect.
    fn may_run_ahead(fact: &str) -> bool {
        fact == "delayed body"
    }

    fn may_be_lost(fact: &str) -> bool {
        is_counter(fact) || fact == "replies" || fact == "its end is known" || fact.contains("reply:")
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("completions", "1"), self.completing);
        assert_eq!(calm.jobs_with("completions", "0"), self.jobs.len() - self.completing);
        assert_eq!(calm.jobs_with("delayed body", ""), self.jobs.len() - self.delaying);
        assert_eq!(calm.jobs_with("pending for", CONSUMER) + calm.jobs_with("entry in its stream", "1"), 0);
    }
}
