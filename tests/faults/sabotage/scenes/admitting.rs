//! `admit.lua`: reserves ids, counts in batches, sets call markers, finds duplicates. Also `forget_ids.lua` and
//! `forget_slice.lua`.

use super::{Facts, Job, Scene, Stage, is_counter, stage::CONSUMER};
use rand::Rng;
use std::time::Duration;
use xco_worker::{
    contract::Lane,
    limits::{Bucket, SharedBucket},
    queue::{Admission, AdmissionBatch, AdmissionRequest, BucketPlace, IdIndex, Link, Source, admit, ids},
};

#[derive(Debug)]
pub(crate) struct Admitting {
    jobs: Vec<Job>,
    requests: Vec<AdmissionRequest>,
    place: BucketPlace,
    asking: u32,
    answers: Vec<Admission>,
}

fn bucket(name: &str, interval_us: u64, shared: Option<SharedBucket>) -> Bucket {
    // It has room for all.
    let hour_us = 3_600_000_000;
    Bucket { name: name.to_owned(), interval_us, tolerance_us: hour_us, slack_us: hour_us, shared }
}

impl Scene for Admitting {
    async fn prepare(stage: &mut Stage) -> Self {
        let count = stage.rng.random_range(1..7);
        let jobs = stage.delivered(Lane::Interactive, Source::Jobs, count).await;
        let mut requests = Vec::new();
        // A bucket that is remembered for longer than a run takes; or one that is in a hash, which is.
        let (place, interval_us) = if stage.rng.random_bool(0.5) {
            (BucketPlace::Recent, 1_000_000)
        } else {
            (BucketPlace::OwnKey, 60_000_000)
        };
        for (n, job) in jobs.iter().enumerate() {
            let has_id = stage.rng.random_bool(0.7);
            if has_id && n > 0 && stage.rng.random_bool(0.2) {
                let entry = format!("{}-9", stage.base_ms);
                if stage.rng.random_bool(0.5) {
                    stage.reserve(&job.id, &format!("i{entry}")).await;
                } else {
                    stage.reserve_as_before(&job.id, &format!("interactive:0:{entry}")).await;
                }
            }
            let caller = format!("caller:{}", n % 3);
            let bucket = if stage.rng.random_bool(0.3) {
                bucket("client", 60_000_000, Some(SharedBucket::Client))
            } else {
                bucket(&caller, interval_us, None)
            };
            let late = n > 0 && stage.rng.random_bool(0.1);
            requests.push(AdmissionRequest {
                entry: job.entry,
                token: job.origin.clone(),
                reserve_id: has_id.then(|| job.id.clone()),
                // A batch counts jobs that reserve something.
                count_in_batch: (has_id && stage.rng.random_bool(0.6)).then(|| format!("b{}", n % 2)),
                bucket: (bucket, None),
                total: None,
                bulk_age: None,
                deadline_ms: late.then_some(stage.base_ms),
                run_at_ms: None,
                mark: stage.rng.random_bool(0.6).then(|| format!("mark-{n}")),
                aside: false,
            });
        }
        Self { jobs, requests, place, asking: 0, answers: Vec::new() }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        self.asking += 1;
        let stream = stage.keys.jobs(Lane::Interactive);
        let Self { asking, place, requests, .. } = &*self;
        let batch = AdmissionBatch { stream, consumer: CONSUMER, asking: *asking, place: *place, requests };
        let admitted = admit(link, &stage.keys, Stage::index(), batch).await;
        self.answers = admitted.map_err(|error| error.to_string())?.verdicts;
        Ok(true)
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, _: &super::Snapshot, facts: &mut Facts) {
        // An id that is in the list without a reservation, or twice, does no harm. The list also contains times.
        if let Some(whole) = facts.0.get_mut("") {
            whole.remove("ids");
            whole.remove("expires ids");
        }
        for (job, answer) in self.jobs.iter().zip(&self.answers) {
            facts.note(&job.id, "answer", &format!("{answer:?}"));
        }
    }

    /// An id reserved (and counted) for a job that will ask again is harmless, and so is an excess reservation.
    fn may_run_ahead(fact: &str) -> bool {
        fact == "its id is held by"
            || fact == "answer"
            || fact.contains("expires index:")
            || fact.contains("limit:")
            || fact.contains("recent:")
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

/// Old reserved ids are forgotten; others are not.
#[derive(Debug)]
pub(crate) struct Forgetting {
    old: usize,
    kept: usize,
}

impl Scene for Forgetting {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let (old, kept) = (stage.rng.random_range(1..5), stage.rng.random_range(0..3));
        for n in 0..old + kept {
            let key = stage.keys.former_id(&format!("f{n}"));
            // A young id belongs to a newer job.
            let enqueued_ms = if n < old { 5 } else { stage.base_ms };
            let holder = format!("interactive:0:{enqueued_ms}-0");
            stage.run::<()>(redis::cmd("SET").arg(&key).arg(holder).arg("EX").arg(600_000)).await;
            let batch = if n == 0 { vec!["@7".to_owned(), key] } else { vec![key] };
            stage.run::<u64>(redis::cmd("RPUSH").arg(&stage.keys.ids).arg(batch)).await;
        }
        Self { old, kept }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        ids::forget(link, &stage.keys, Duration::from_secs(600)).await.map(|_| true).map_err(|error| error.to_string())
    }

    fn more_facts(&self, snapshot: &super::Snapshot, facts: &mut Facts) {
        facts.note("", "reserved", &snapshot.begin_with("id:").count());
    }

    /// A forgotten id that is still in the list is only looked up once more.
    fn may_run_ahead(_: &str) -> bool {
        true
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.get("", "reserved"), self.kept.to_string(), "{} of {}", self.old, self.old + self.kept);
    }
}

/// Old slices of the index are forgotten; one in which an id was reserved lately is not.
#[derive(Debug)]
pub(crate) struct ForgettingSlices {
    old: usize,
}

impl ForgettingSlices {
    fn index() -> IdIndex {
        IdIndex::new(Duration::from_secs(600), Duration::ZERO)
    }
}

impl Scene for ForgettingSlices {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let old = stage.rng.random_range(1..4);
        for n in 0..=old {
            let name = format!("200000:{n}");
            let (key, is_old) = (stage.keys.slice(&name), n < old);
            let id = format!("s{n}");
            stage.run::<u64>(redis::cmd("HSET").arg(&key).arg(id).arg("i5-0")).await;
            let expiry_s = if is_old { 600 } else { 30 * 86_400 };
            stage.run::<u64>(redis::cmd("EXPIRE").arg(&key).arg(expiry_s)).await;
            stage.run::<u64>(redis::cmd("ZADD").arg(&stage.keys.index).arg((n + 1) * 200_000).arg(&name)).await;
        }
        Self { old }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let forgotten = ids::forget_slices(link, &stage.keys, Self::index()).await;
        forgotten.map(|_| true).map_err(|error| error.to_string())
    }

    fn more_facts(&self, snapshot: &super::Snapshot, facts: &mut Facts) {
        facts.note("", "slices", &snapshot.begin_with("index:").count());
    }

    /// A slice that is gone and still named in the index is looked up once more.
    fn may_run_ahead(_: &str) -> bool {
        true
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.get("", "slices"), "1", "of {} old ones and a young one", self.old);
    }
}
