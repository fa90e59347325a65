//! Scripts that delay and resume jobs: `defer.lua`, `delay_paused.lua`, `resume_paused.lua`, `cancel_delayed.lua`, `promote.lua`.

use super::{Facts, Job, Scene, Snapshot, Stage, stage::CONSUMER};
use rand::Rng;
use std::time::Duration;
use xco_worker::{
    contract::Lane,
    limits::{Bucket, SharedBucket},
    queue::{
        Deferral, Deferred, Link, QueuePosition, Source, defer, maintenance,
        rules::{self, PausedDelivery},
    },
};

const RULE: &str = r#"pause {"lane":"bulk"}"#;

fn client() -> Bucket {
    let shared = Some(SharedBucket::Client);
    Bucket { name: "client".to_owned(), interval_us: 0, tolerance_us: 0, slack_us: 0, shared }
}

/// Delays jobs after a 429.
#[derive(Debug)]
pub(crate) struct Deferring {
    jobs: Vec<Job>,
    deferral: Deferral,
    answer: Option<Deferred>,
}

impl Scene for Deferring {
    async fn prepare(stage: &mut Stage) -> Self {
        let lane = stage.lane();
        let source = if stage.rng.random_bool(0.5) { Source::Jobs } else { Source::Due };
        let jobs = stage.delivered(lane, source, 1).await;
        let job = &jobs[0];
        stage.run::<()>(redis::cmd("HSET").arg(&stage.keys.begun).arg(&job.origin).arg("mine/1")).await;
        let far_ms = stage.far_ms();
        let place =
            stage.rng.random_bool(0.5).then_some((QueuePosition { bucket: SharedBucket::Client, age: 7 }, far_ms));
        let bucket =
            if place.is_some() { client() } else { Bucket { name: "caller:a".to_owned(), shared: None, ..client() } };
        let deferral = Deferral {
            entry: job.entry,
            origin: job.origin.clone(),
            bucket,
            retry_after: stage.rng.random_bool(0.5).then_some(Duration::from_secs(5)),
            learn: true,
            deadline_ms: stage.rng.random_bool(0.2).then_some(stage.base_ms),
            state: job.state.clone(),
            place,
            job: job.text.clone().into_bytes(),
        };
        Self { jobs, deferral, answer: None }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let Job { lane, source, .. } = self.jobs[0];
        let deferred = defer(link, &stage.keys, lane, source, CONSUMER, &self.deferral).await;
        match deferred.map_err(|error| error.to_string())? {
            // The bucket is closed already; only the job must still be delayed.
            Deferred::Failed(why) => {
                self.deferral.retry_after = Some(Duration::ZERO);
                Err(why.to_string())
            }
            answer => {
                self.answer = Some(answer);
                Ok(true)
            }
        }
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, snapshot: &Snapshot, facts: &mut Facts) {
        let Job { id, origin, .. } = &self.jobs[0];
        // The due time depends on the time of the call.
        let due = snapshot.field("delayed", origin);
        facts.note(id, "due", &!due.is_empty());
        // A job that is too late must still be ended by its worker.
        facts.note(id, "too late", &(self.answer == Some(Deferred::TooLate)));
    }

    /// The bucket is closed in any case, because the 429 was received.
    fn may_run_ahead(fact: &str) -> bool {
        // A body without a due time has no effect.
        fact.contains("limit:") || fact.contains("learned") || fact == "too late" || fact == "delayed body"
    }

    /// Figures about 429s that only operators see.
    fn may_be_lost(fact: &str) -> bool {
        fact.contains("learned")
    }

    fn check(&self, calm: &Facts) {
        let stays = if self.deferral.deadline_ms.is_some() { "1" } else { "0" };
        assert_eq!(calm.get(&self.jobs[0].id, "entry in its stream"), stays);
        assert_eq!(calm.get("", &format!("limit:{}", self.deferral.bucket.name)), "there");
    }
}

/// Delays jobs because of a rule.
#[derive(Debug)]
pub(crate) struct Holding {
    jobs: Vec<Job>,
    due_ms: u64,
}

impl Scene for Holding {
    async fn prepare(stage: &mut Stage) -> Self {
        let source = if stage.rng.random_bool(0.5) { Source::Jobs } else { Source::Due };
        let count = stage.rng.random_range(1..4);
        let jobs = stage.delivered(Lane::Bulk, source, count).await;
        Self { jobs, due_ms: stage.far_ms() }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let holds: Vec<PausedDelivery> = self
            .jobs
            .iter()
            .map(|job| PausedDelivery {
                entry: job.entry,
                origin: job.origin.clone(),
                due_ms: self.due_ms,
                state: job.state.clone(),
                job: job.text.clone().into_bytes(),
            })
            .collect();
        let Job { lane, source, .. } = self.jobs[0];
        let refused = rules::delay_paused(link, &stage.keys, (lane, source), (RULE, CONSUMER), &holds).await;
        match refused.map_err(|error| error.to_string())?.first() {
            Some((_, why)) => Err(why.to_string()),
            None => Ok(true),
        }
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// A rule without delayed jobs is removed automatically.
    fn may_run_ahead(fact: &str) -> bool {
        fact == "held" || fact == "expires held"
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("held by", ""), 0);
        assert_eq!(calm.jobs_with("delayed body", "") + calm.jobs_with("entry in its stream", "1"), 0);
        assert!(calm.get("", "held").contains("pause"));
    }
}

/// Resumes jobs after a pause.
#[derive(Debug)]
pub(crate) struct Releasing {
    jobs: Vec<Job>,
}

impl Scene for Releasing {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let far_ms = stage.far_ms();
        let mut jobs = Vec::new();
        for n in 0..stage.rng.random_range(1..5) {
            let job = stage.job(Lane::Bulk, Source::Jobs);
            // One of them waits for something else by now.
            stage.delay(&job, far_ms + u64::from(n == 2)).await;
            let held = stage.keys.held_by(RULE);
            stage.run::<()>(redis::cmd("ZADD").arg(held).arg(far_ms).arg(&job.origin)).await;
            jobs.push(job);
        }
        stage.run::<()>(redis::cmd("SADD").arg(&stage.keys.held).arg(RULE)).await;
        Self { jobs }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        // Like its caller: until the rule is no longer among those that delay jobs.
        let names = rules::holding_rules(link, &stage.keys).await.map_err(|error| error.to_string())?;
        for name in names {
            rules::resume_paused(link, &stage.keys, &name, rules::MAX_CANCEL_DELAYED)
                .await
                .map_err(|error| error.to_string())?;
        }
        let names = rules::holding_rules(link, &stage.keys).await.map_err(|error| error.to_string())?;
        Ok(names.is_empty())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("held by", ""), self.jobs.len());
        assert_eq!(calm.get("", "held"), "");
    }
}

/// Cancels delayed jobs for an operator.
#[derive(Debug)]
pub(crate) struct CallingUp {
    jobs: Vec<Job>,
    found: Option<u64>,
}

impl Scene for CallingUp {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let far_ms = stage.far_ms();
        let mut jobs = Vec::new();
        for n in 0..stage.rng.random_range(1..5) {
            let lane = stage.lane();
            let job = stage.job(lane, Source::Jobs);
            // One of them is no longer delayed.
            if n != 2 {
                stage.delay(&job, far_ms).await;
            }
            jobs.push(job);
        }
        Self { jobs, found: None }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let origins: Vec<_> = self.jobs.iter().map(|job| job.origin.parse().unwrap()).collect();
        let found = rules::cancel_delayed(link, &stage.keys, &origins).await;
        self.found = Some(found.map_err(|error| error.to_string())?);
        Ok(true)
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("due", "0"), self.jobs.len() - usize::from(self.jobs.len() > 2));
    }
}

/// Promotes delayed jobs.
#[derive(Debug)]
pub(crate) struct Promoting {
    jobs: Vec<Job>,
    due: usize,
}

impl Scene for Promoting {
    async fn prepare(stage: &mut Stage) -> Self {
        let (past_ms, far_ms) = (stage.base_ms, stage.far_ms());
        let (mut jobs, mut due) = (Vec::new(), 0);
        for n in 0..stage.rng.random_range(2..7) {
            let lane = stage.lane();
            let job = stage.job(lane, Source::Jobs);
            match stage.rng.random_range(0..4) {
                0 => stage.delay(&job, far_ms).await,
                1 => {
                    stage.delay(&job, far_ms).await;
                    let queue = stage.keys.waiting(SharedBucket::Client);
                    stage.run::<()>(redis::cmd("ZADD").arg(queue).arg(n + 1).arg(&job.origin)).await;
                    due += 1;
                }
                _ => {
                    stage.delay(&job, past_ms + n).await;
                    due += 1;
                }
            }
            jobs.push(job);
        }
        Self { jobs, due }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let promotion = maintenance::promote(link, &stage.keys, &[(SharedBucket::Client, client())]).await;
        let promotion = promotion.map_err(|error| error.to_string())?;
        if let Some(why) = promotion.failures.first() {
            return Err(why.to_string());
        }
        // Called once more than a worker would, to see that no job comes twice.
        let left = usize::try_from(promotion.delayed).unwrap();
        if promotion.promoted == 0 && left + self.due == self.jobs.len() {
            return Ok(true);
        }
        if promotion.promoted == 0 {
            // A job that could not be promoted is due again a second later.
            tokio::time::sleep(promotion.next_due.unwrap_or_default().min(Duration::from_millis(200))).await;
        }
        Ok(false)
    }

    /// The next try for a job that could not be promoted.
    fn may_run_ahead(fact: &str) -> bool {
        fact == "due"
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("times back in its lane", "1"), self.due);
        assert_eq!(calm.jobs_with("delayed body", ""), self.due);
    }
}
