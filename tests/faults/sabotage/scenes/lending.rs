//! Leases and those who hold them: `renew.lua`, `retire.lua`.

use super::{Facts, Job, Scene, Snapshot, Stage, stage::CONSUMER};
use rand::Rng;
use std::{collections::BTreeMap, time::Duration};
use xco_worker::{
    contract::{EntryId, Lane},
    queue::{GROUP, Link, Source, upkeep},
};

/// A worker renews its leases.
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
            // One of them is another's by now.
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
        let renewed = upkeep::renew(link, stream, CONSUMER, &entries).await;
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

/// Consumers that are gone are removed.
#[derive(Debug)]
pub(crate) struct Retiring {
    jobs: Vec<Job>,
    /// Consumers left.
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
        let retired = upkeep::retire_idle(link, stream, Duration::ZERO).await;
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
