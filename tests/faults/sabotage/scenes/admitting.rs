//! `admit.lua`: ids to reserve, batches to count in, marks to set, duplicates to find.

use super::{Facts, Job, Scene, Stage, is_counter, stage::CONSUMER};
use rand::Rng;
use xco_worker::{
    contract::Lane,
    limits::{Bucket, SharedBucket},
    queue::{Admission, AdmissionRequest, Held, Link, Source, admit},
};

#[derive(Debug)]
pub(crate) struct Admitting {
    jobs: Vec<Job>,
    requests: Vec<AdmissionRequest>,
    asking: u32,
    answers: Vec<Admission>,
}

fn bucket(name: &str, shared: Option<SharedBucket>) -> Bucket {
    // It has room for all, and remembers them for longer than a run takes.
    let hour_us = 3_600_000_000;
    Bucket { name: name.to_owned(), interval_us: 60_000_000, tolerance_us: hour_us, slack_us: hour_us, shared }
}

impl Scene for Admitting {
    async fn prepare(stage: &mut Stage) -> Self {
        let count = stage.rng.random_range(1..7);
        let jobs = stage.delivered(Lane::Interactive, Source::Jobs, count).await;
        let mut requests = Vec::new();
        for (n, job) in jobs.iter().enumerate() {
            let has_id = stage.rng.random_bool(0.7);
            if has_id && stage.rng.random_bool(0.2) {
                let holder = "interactive:0:5-0";
                let key = stage.keys.id(&job.id);
                stage.run::<()>(redis::cmd("SET").arg(key).arg(holder).arg("EX").arg(600)).await;
            }
            let caller = format!("caller:{}", n % 3);
            let bucket = if stage.rng.random_bool(0.3) {
                bucket("client", Some(SharedBucket::Client))
            } else {
                bucket(&caller, None)
            };
            let late = stage.rng.random_bool(0.1);
            requests.push(AdmissionRequest {
                entry: job.entry,
                token: job.origin.clone(),
                reserve_id: has_id.then(|| job.id.clone()),
                // A batch counts those that reserve something.
                count_in_batch: (has_id && stage.rng.random_bool(0.6)).then(|| format!("b{}", n % 2)),
                bucket: (bucket, Held::No),
                total: None,
                slot: None,
                bulk_age: None,
                deadline_ms: late.then_some(stage.base_ms),
                run_at_ms: None,
                mark: stage.rng.random_bool(0.6).then(|| format!("mark-{n}")),
                aside: false,
            });
        }
        Self { jobs, requests, asking: 0, answers: Vec::new() }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        self.asking += 1;
        let stream = stage.keys.jobs(Lane::Interactive);
        let admitted = admit(link, &stage.keys, stream, CONSUMER, Stage::hour(), self.asking, &self.requests).await;
        self.answers = admitted.map_err(|error| error.to_string())?.verdicts;
        Ok(true)
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, _: &super::Snapshot, facts: &mut Facts) {
        for (job, answer) in self.jobs.iter().zip(&self.answers) {
            facts.note(&job.id, "answer", &format!("{answer:?}"));
        }
    }

    /// An id that is reserved for a job which asks again, and is counted with that, and a slot too many harm nobody.
    fn may_run_ahead(fact: &str) -> bool {
        fact == "its id is held by"
            || fact == "answer"
            || fact.contains("expires id:")
            || fact.contains("limit:")
            || is_counter(fact)
    }

    fn may_be_lost(fact: &str) -> bool {
        is_counter(fact)
    }

    fn check(&self, calm: &Facts) {
        let marked =
            self.requests.iter().filter(|request| request.mark.is_some() && request.deadline_ms.is_none()).count();
        let with_mark = self.jobs.len() - calm.jobs_with("mark", "");
        assert!(with_mark <= marked && (marked == 0 || with_mark > 0 || calm.jobs_with("answer", "Duplicate") > 0));
    }
}
