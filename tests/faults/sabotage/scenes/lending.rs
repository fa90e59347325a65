//! Leases and consumers: `renew.lua`, `remove_consumer.lua`, `rescue.lua`, `find_adrift.lua`, `read_cut.lua`.

use super::{Facts, Job, Scene, Snapshot, Stage, stage::CONSUMER};
use rand::Rng;
use std::{collections::BTreeMap, time::Duration};
use xco_worker::{
    contract::{EntryId, Lane},
    queue::{
        GROUP, Link, Source, maintenance, read_cut,
        rescue::{self, RescueTarget, Round, Search, Terms},
    },
};

/// Renews the leases of a worker.
#[derive(Debug)]
pub(crate) struct Renewing {
    jobs: Vec<Job>,
}

impl Scene for Renewing {
    async fn prepare(stage: &mut Stage) -> Self {
        let count = stage.rng.random_range(1..5);
        let jobs = stage.delivered(Lane::Interactive, Source::Jobs, count).await;
        let stream = stage.keys.jobs(Lane::Interactive);
        for (n, job) in jobs.iter().enumerate() {
            // One of them belongs to another worker by now.
            let consumer = if n == 2 { "worker-2" } else { CONSUMER };
            let mut claim = redis::cmd("XCLAIM");
            claim.arg(stream).arg(GROUP).arg(consumer).arg(0).arg(job.entry.to_string());
            stage.run::<redis::Value>(claim.arg("IDLE").arg(600_000).arg("JUSTID")).await;
        }
        Self { jobs }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let entries: Vec<EntryId> = self.jobs.iter().map(|job| job.entry).collect();
        let stream = stage.keys.jobs(Lane::Interactive);
        let renewed = rescue::renew(link, stream, CONSUMER, &entries).await;
        renewed.map(|_| true).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        let others = usize::from(self.jobs.len() > 2);
        assert_eq!(calm.jobs_with("lease", "run out"), others);
        assert_eq!(calm.jobs_with("pending for", CONSUMER), self.jobs.len() - others);
    }
}

/// Removes consumers of stopped workers.
#[derive(Debug)]
pub(crate) struct Retiring {
    jobs: Vec<Job>,
    /// The remaining consumers.
    left: Vec<String>,
}

impl Retiring {
    async fn consumers(stage: &Stage) -> Vec<String> {
        let stream = stage.keys.jobs(Lane::Interactive);
        let rows: Vec<BTreeMap<String, redis::Value>> =
            stage.run(redis::cmd("XINFO").arg("CONSUMERS").arg(stream).arg(GROUP)).await;
        rows.into_iter().map(|mut row| redis::from_redis_value(row.remove("name").unwrap()).unwrap()).collect()
    }
}

impl Scene for Retiring {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let jobs = stage.delivered(Lane::Interactive, Source::Jobs, 2).await;
        let stream = stage.keys.jobs(Lane::Interactive);
        for consumer in ["gone-1", "gone-2"] {
            stage.run::<u64>(redis::cmd("XGROUP").arg("CREATECONSUMER").arg(stream).arg(GROUP).arg(consumer)).await;
        }
        Self { jobs, left: Self::consumers(stage).await }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let stream = stage.keys.jobs(Lane::Interactive);
        let retired = maintenance::retire_idle(link, stream, Duration::ZERO).await;
        self.left = Self::consumers(stage).await;
        retired.map(|_| true).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, _: &Snapshot, facts: &mut Facts) {
        facts.note("", "consumers", &self.left.join(", "));
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.get("", "consumers"), CONSUMER);
        assert_eq!(calm.jobs_with("pending for", CONSUMER), 2);
    }
}

/// Takes over the deliveries of a lost worker.
#[derive(Debug)]
pub(crate) struct Rescuing {
    jobs: Vec<Job>,
    /// Number of deliveries that the caller received.
    taken: usize,
}

impl Scene for Rescuing {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let lane = stage.lane();
        let count = stage.rng.random_range(2..6);
        let jobs = stage.delivered(lane, Source::Jobs, count).await;
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(stage.keys.jobs(lane)).arg(GROUP).arg("gone").arg(0);
        for job in &jobs {
            claim.arg(job.entry.to_string());
        }
        stage.run::<redis::Value>(claim.arg("IDLE").arg(600_000).arg("JUSTID")).await;
        Self { jobs, taken: 0 }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let mut round = Round::new(self.jobs.iter().map(|job| job.entry).collect());
        let place = RescueTarget { lane: self.jobs[0].lane, source: Source::Jobs, consumer: CONSUMER };
        let terms = Terms { own: Duration::from_secs(60), holders: &[] };
        let rescued = rescue::rescue(link, &stage.keys, place, &terms, 10, &mut round).await;
        self.taken += rescued.map_err(|error| error.to_string())?.taken.len();
        Ok(self.taken == self.jobs.len())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, _: &Snapshot, facts: &mut Facts) {
        facts.note("", "given", &self.taken);
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("pending for", CONSUMER), self.jobs.len());
        assert_eq!(calm.get("", "given"), self.jobs.len().to_string());
    }
}

/// Finds deliveries that are missing from the pending list.
#[derive(Debug)]
pub(crate) struct FindingAdrift {
    jobs: Vec<Job>,
    adrift: usize,
}

impl Scene for FindingAdrift {
    async fn prepare(stage: &mut Stage) -> Self {
        let count = stage.rng.random_range(2..6);
        let jobs = stage.delivered(Lane::Bulk, Source::Jobs, count).await;
        let adrift = stage.rng.random_range(1..count);
        for job in &jobs[..adrift] {
            let stream = stage.keys.jobs(Lane::Bulk);
            stage.run::<u64>(redis::cmd("XACK").arg(stream).arg(GROUP).arg(job.entry.to_string())).await;
        }
        Self { jobs, adrift }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let found = rescue::find_adrift(link, stage.keys.jobs(Lane::Bulk), &mut Search::default()).await;
        found.map(|(_, at_end)| at_end).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("pending for", "adrift"), self.adrift);
        assert_eq!(calm.jobs_with("pending for", CONSUMER), self.jobs.len() - self.adrift);
    }
}

/// Reads a lane with entries that may be too large.
#[derive(Debug)]
pub(crate) struct ReadingCut {
    jobs: Vec<Job>,
    read: usize,
}

impl Scene for ReadingCut {
    async fn prepare(stage: &mut Stage) -> Self {
        let jobs: Vec<Job> = (0..4).map(|_| stage.job(Lane::Interactive, Source::Jobs)).collect();
        for job in &jobs {
            let mut add = redis::cmd("XADD");
            add.arg(stage.keys.jobs(Lane::Interactive)).arg(job.entry.to_string()).arg("job").arg(&job.text);
            stage.run::<String>(&add).await;
        }
        Self { jobs, read: 0 }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let read = read_cut(link, &stage.keys, Lane::Interactive, CONSUMER, 8).await;
        self.read += read.map_err(|error| error.to_string())?.len();
        Ok(self.read == self.jobs.len())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("pending for", CONSUMER), self.jobs.len());
    }
}

/// Reports jobs that something other than a worker removed.
#[derive(Debug)]
pub(crate) struct CountingRemoved {
    before: Option<u64>,
    reported: u64,
}

impl Scene for CountingRemoved {
    async fn prepare(stage: &mut Stage) -> Self {
        let jobs = stage.delivered(Lane::Bulk, Source::Jobs, 3).await;
        stage.run::<u64>(redis::cmd("XTRIM").arg(stage.keys.jobs(Lane::Bulk)).arg("MAXLEN").arg(jobs.len() - 2)).await;
        Self { before: None, reported: 0 }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        for _ in 0..2 {
            let counted = rescue::count_removed(link, &stage.keys, Lane::Bulk, self.before).await;
            let (count, report) = counted.map_err(|error| error.to_string())?;
            self.reported += report;
            self.before = count;
        }
        Ok(true)
    }

    fn more_facts(&self, snapshot: &Snapshot, facts: &mut Facts) {
        facts.note("", "reported", &self.reported);
        // The time differs between runs.
        facts.note("", "meta", &snapshot.field("meta", "removed_bulk"));
        facts.note("", "when", &!snapshot.field("meta", "removed_bulk_at").is_empty());
    }

    fn check(&self, calm: &Facts) {
        assert_eq!((calm.get("", "reported"), calm.get("", "when")), ("2", "true"));
    }
}
