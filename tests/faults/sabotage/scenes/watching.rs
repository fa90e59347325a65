//! Scripts that check Redis itself: `clock.lua`, `clock_put_back.lua`, `preflight.lua`.

use super::{Facts, Job, Scene, Snapshot, Stage};
use rand::Rng;
use std::time::Duration;
use xco_worker::{
    config::RedisConfig,
    contract::Lane,
    queue::{
        Link, Source,
        clock_step::{self, ClockAhead, PutBack},
        preflight::{self, Wanted},
    },
};

/// Reads the clock for a worker.
#[derive(Debug)]
pub(crate) struct LookingAtTheClock {
    noted: usize,
}

impl Scene for LookingAtTheClock {
    async fn prepare(stage: &mut Stage) -> Self {
        let ahead_ms = stage.far_ms();
        stage.run::<()>(redis::cmd("HSET").arg(&stage.keys.meta).arg("latest_ms").arg(ahead_ms)).await;
        Self { noted: 0 }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let found = clock_step::look(link, &stage.keys, None, Duration::from_secs(4)).await;
        self.noted += usize::from(found.map_err(|error| error.to_string())?.noted);
        Ok(true)
    }

    fn more_facts(&self, snapshot: &Snapshot, facts: &mut Facts) {
        let steps = snapshot.field("meta", "steps");
        // The clock differs between runs.
        facts.0.remove("");
        facts.note("", "steps", &steps.lines().count());
        facts.note("", "noted", &self.noted);
    }

    fn check(&self, calm: &Facts) {
        assert_eq!((calm.get("", "steps"), calm.get("", "noted")), ("1", "1"));
    }
}

/// Moves delayed jobs after a step of the clock.
#[derive(Debug)]
pub(crate) struct PuttingBack {
    jobs: Vec<Job>,
    moves: Vec<PutBack>,
}

impl Scene for PuttingBack {
    async fn prepare(stage: &mut Stage) -> Self {
        let due_ms = stage.far_ms();
        let count = stage.rng.random_range(1..5);
        let (mut jobs, mut moves) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let job = stage.job(Lane::Bulk, Source::Jobs);
            stage.delay(&job, due_ms).await;
            let found = ClockAhead { origin: job.origin.clone(), state: job.state.clone() };
            let after = job.state.replace("\"a\":1", "\"a\":2");
            moves.push(PutBack { job: found, state: after, by_ms: 60_000 });
            jobs.push(job);
        }
        Self { jobs, moves }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let moved = clock_step::put_back(link, &stage.keys, &self.moves).await;
        moved.map(|_| true).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("delayed body", ""), 0);
        let due: Vec<&str> = self.jobs.iter().map(|job| calm.get(&job.id, "due")).collect();
        assert!(due.iter().all(|moment| *moment == due[0] && !moment.is_empty()), "{due:?}");
    }
}

/// Checks Redis before work starts.
#[derive(Debug)]
pub(crate) struct Checking;

impl Scene for Checking {
    /// Keys that probes leave behind expire.
    const RESUMES: bool = true;

    async fn prepare(_: &mut Stage) -> Self {
        Self
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let wanted = Wanted::new(&RedisConfig::default());
        let findings = preflight::check(link, std::iter::once(&stage.keys), &wanted).await;
        let findings = findings.map_err(|error| error.to_string())?;
        let refused = findings.iter().find(|finding| finding.forbids_work());
        refused.map_or(Ok(true), |finding| Err(finding.to_string()))
    }

    fn more_facts(&self, _: &Snapshot, facts: &mut Facts) {
        facts.0.remove("");
    }

    fn check(&self, calm: &Facts) {
        assert!(calm.0.is_empty());
    }
}
