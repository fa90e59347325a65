//! Overrides of limits: `limits_change.lua`, `bring_forward.lua`.

use super::{Facts, Job, Scene, Stage};
use rand::Rng;
use xco_worker::{
    limits::{LimitSetting, Override, OverrideValue},
    queue::{
        Link, Source,
        overrides::{self, BroughtForward},
    },
};

fn set(setting: LimitSetting, text: &str) -> (LimitSetting, Override) {
    let value = OverrideValue::parse(setting, text).unwrap();
    let (who, from) = ("ada".to_owned(), "box".to_owned());
    (setting, Override { value, who, from, at_ms: 7, reason: None })
}

/// Sets or resets overrides, beside one that stays or without one.
#[derive(Debug)]
pub(crate) struct ChangingLimits {
    is_reset: bool,
}

impl Scene for ChangingLimits {
    async fn prepare(stage: &mut Stage) -> Self {
        let is_reset = stage.rng.random_bool(0.5);
        let mut present = Vec::new();
        if is_reset {
            present.extend([set(LimitSetting::TotalRate, "5/s"), set(LimitSetting::TotalBurst, "5")]);
        }
        if stage.rng.random_bool(0.5) {
            present.push(set(LimitSetting::Concurrency, "3"));
        }
        for (setting, set) in present {
            let mut command = redis::cmd("HSET");
            command.arg(&stage.keys.limits).arg(setting.as_str()).arg(set.to_json()).arg("v").arg("1.1");
            stage.run::<()>(&command).await;
        }
        Self { is_reset }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let settings = [LimitSetting::TotalRate, LimitSetting::TotalBurst];
        let done = if self.is_reset {
            overrides::reset(link, &stage.keys, &settings).await.map(drop)
        } else {
            let changes = [set(settings[0], "100/s"), set(settings[1], "100")];
            overrides::set(link, &stage.keys, &changes).await
        };
        done.map(|()| true).map_err(|error| error.to_string())
    }

    fn check(&self, calm: &Facts) {
        let limits = calm.get("", "limits");
        assert_eq!(limits.contains("total.rate") && limits.contains("total.burst"), !self.is_reset, "{limits}");
        assert!(limits.is_empty() || limits.ends_with("a version"), "{limits}");
    }
}

/// Brings waiting jobs forward. One of them has moved since it was read.
#[derive(Debug)]
pub(crate) struct BringingForward {
    jobs: Vec<Job>,
    far_ms: u64,
    due_ms: u64,
}

impl Scene for BringingForward {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let far_ms = stage.far_ms();
        let mut jobs = Vec::new();
        for n in 0..stage.rng.random_range(1..5) {
            let lane = stage.lane();
            let job = stage.job(lane, Source::Jobs);
            stage.delay(&job, if n == 2 { far_ms + 1 } else { far_ms }).await;
            jobs.push(job);
        }
        let buckets = ["caller:c", "caller:d"].map(|bucket| stage.keys.limit(bucket));
        let fill = "return redis.call('SET', KEYS[1], struct.pack('<ddddddddddd', 9e15, 0, 0, 0, 0, 0, 0, -2e12, 0, 0, 1), 'PX', 60000)";
        for bucket in buckets {
            stage.run::<()>(redis::cmd("EVAL").arg(fill).arg(1).arg(bucket)).await;
        }
        Self { jobs, far_ms, due_ms: stage.base_ms }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        #[allow(clippy::cast_precision_loss, reason = "a time")]
        let score = self.far_ms as f64;
        let moved = |job: &Job| BroughtForward { origin: job.origin.parse().unwrap(), score, due_ms: self.due_ms };
        let jobs: Vec<_> = self.jobs.iter().map(moved).collect();
        let buckets = ["caller:c", "caller:d"].map(|bucket| (bucket, self.due_ms * 1000));
        let done = overrides::bring_forward(link, &stage.keys, &jobs, &buckets).await;
        done.map(|_| true).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check(&self, calm: &Facts) {
        assert_eq!(calm.jobs_with("due", &self.due_ms.to_string()), self.jobs.len() - usize::from(self.jobs.len() > 2));
        assert_eq!(calm.get("", "limit:caller:c"), "there");
    }
}
