//! State that the parts of one worker process share.

use super::{
    active_job::CompleterTask,
    backlogged_callers::BackloggedCallers,
    clock_steps::KnownSteps,
    delayed_by_route::DelayedByRoute,
    lease::Leases,
    live_limits::LiveLimits,
    redis_clock::RedisClock,
    refused_ends::RefusedEnds,
    slots::{BulkShare, Slots},
};
use crate::{
    config::{Config, Durability, QueueConfig, RetryPolicy},
    contract::{Job, JobType, Lane, MerchantId},
    queue::{
        Connector, Keys, Link, Load, ScriptFailure, history::LatencyCounts, is_transient, overrides::StoredOverrides,
    },
    telemetry::Metrics,
};
use redis::RedisError;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// The state of one partition in this process.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) keys: Keys,
    /// The deliveries in this process.
    pub(super) leases: Arc<Leases>,
    /// Callers with more jobs than their limits allow.
    pub(super) backlogged_callers: Arc<BackloggedCallers>,
    /// Jobs delayed because their route's breaker is not closed.
    pub(super) aside: DelayedByRoute,
    /// Channel to the finishers. Unbounded in type only: [`Slots`] bounds the ends that are not yet written.
    pub(super) endings: mpsc::UnboundedSender<CompleterTask>,
    /// Notified when a delayed job may be due before the next look.
    pub(super) delayed: Notify,
    /// Ends that Redis refuses to write.
    pub(super) stuck: RefusedEnds,
    /// Bytes written to the completion stream since it was last trimmed.
    pub(super) completions_written: super::completion_bytes::CompletionBytes,
    /// Backward steps of the clock of this partition's Redis.
    pub(super) steps: KnownSteps,
}

/// State that the parts of one worker process share.
#[derive(Debug)]
pub(super) struct WorkerContext {
    /// Name of this process in the consumer group.
    pub(super) consumer: String,
    pub(super) connector: Connector,
    pub(super) partitions: Vec<Partition>,
    /// The worker slots: who may call now.
    pub(super) slots: Arc<Slots>,
    /// Whether work may begin.
    pub(super) gate: super::gate::Gate,
    /// The operators' rules.
    pub(super) control: Arc<super::rules::LoadedRules>,
    /// Upstream health: breakers, adaptive concurrency and retry budgets.
    pub(super) upstream_health: Arc<super::upstream_health::UpstreamHealth>,
    /// Redis's clock.
    pub(super) clock: Arc<RedisClock>,
    /// The limits in force, by which jobs get their buckets.
    pub(super) limits: LiveLimits,
    pub(super) metrics: Metrics,
    /// How long jobs took, until it is added to the history's counts.
    pub(super) latency: LatencyCounts,
    /// Whether every worker of this queue looks for buckets in the hashes `recent`, so that they may be written there.
    pub(super) all_look_at_recent: AtomicBool,
    /// Whether Redis is usable.
    pub(super) health: super::redis_health::Health,
    /// `queue.*`
    pub(super) queue: QueueConfig,
    /// `limits.allow_missing_caller_id`
    pub(super) allow_missing_caller_id: bool,
    /// `redis.durability`
    pub(super) durability: Durability,
    /// A partition's share of `queue.max_pending`.
    pub(super) max_pending: u64,
    /// `redis.response_timeout`
    pub(super) response_timeout: Duration,
    /// `worker.lease`
    pub(super) lease: Duration,
    /// `worker.max_deliveries`
    pub(super) max_deliveries: u32,
    /// Merchant of jobs that name none.
    pub(super) default_merchant: Option<MerchantId>,
    /// Settings that should be the same on all workers.
    pub(super) settings: BTreeMap<String, String>,
    policies: BTreeMap<JobType, RetryPolicy>,
}

impl WorkerContext {
    pub(super) fn new(
        config: &Config,
        consumer: String,
        connector: Connector,
        metrics: Metrics,
        health: super::redis_health::Health,
        partitions: Vec<Partition>,
    ) -> Self {
        let partition_count = partitions.len();
        Self {
            consumer,
            connector,
            partitions,
            slots: Arc::new(Slots::new(config.worker.concurrency, BulkShare::of(&config.worker))),
            gate: super::gate::Gate::default(),
            control: Arc::default(),
            upstream_health: Arc::new(super::upstream_health::UpstreamHealth::new(config)),
            clock: Arc::new(RedisClock::new(partition_count)),
            limits: LiveLimits::new(config),
            metrics,
            latency: LatencyCounts::default(),
            all_look_at_recent: AtomicBool::new(false),
            health,
            queue: config.queue.clone(),
            allow_missing_caller_id: config.limits.allow_missing_caller_id,
            durability: config.redis.durability,
            max_pending: Load::share(config.queue.max_pending, config.redis.partitions),
            response_timeout: config.redis.response_timeout,
            lease: config.worker.lease,
            max_deliveries: config.worker.max_deliveries.max(1),
            default_merchant: config.xco.merchant_id.clone(),
            settings: config.shared_settings(),
            policies: JobType::ALL.into_iter().map(|kind| (kind, config.retry.policy(kind))).collect(),
        }
    }

    /// A link for one of a partition's loops, on one of the few connections that the partitions share.
    ///
    /// With replication each link has its own connection, because `WAIT` blocks every later command on a connection.
    pub(super) fn link(&self, kind: &'static str, number: usize) -> Link {
        match self.durability {
            Durability::Single => self.connector.shared_link(kind, number, false),
            Durability::Replicated => self.connector.link(false),
        }
    }

    /// Puts overrides in force: from the next admission on, each call spends the new rates, and no more worker slots are taken than the
    /// new number. Calls in flight go on.
    pub(super) fn override_limits(&self, stored: &StoredOverrides) {
        let Some(concurrency) = self.limits.change(stored) else { return };
        self.slots.set_total(concurrency);
        self.slots.allow(self.upstream_health.set_most(concurrency, self.clock.monotonic_ms()));
        for partition in &self.partitions {
            // What is known of reservations comes from the former rates.
            partition.backlogged_callers.forget_reservations();
            partition.delayed.notify_one();
        }
    }

    /// Records that a script could not do a part of its work, and requests a check of Redis.
    pub(super) fn script_failed(&self, failure: &ScriptFailure) {
        self.metrics.script_failure(failure.script, failure.reason);
        self.health.refused();
    }

    /// Records that a whole script failed, unless the failure is transient.
    pub(super) fn whole_script_failed(&self, script: &'static str, error: &RedisError) {
        if !is_transient(error) {
            self.script_failed(&ScriptFailure::of_whole(script, error));
        }
    }

    /// The retry policy of a job type.
    pub(super) fn policy(&self, job_type: JobType) -> RetryPolicy {
        self.policies.get(&job_type).copied().unwrap_or(RetryPolicy {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            max_attempts: 3,
        })
    }

    /// Deadline of a job in milliseconds on Redis's clock: `ttl_ms` after enqueueing or `run_at`, whichever is later.
    /// In the interactive lane the type's default applies to a job without `ttl_ms`. `None` means no deadline.
    pub(super) fn deadline_ms(&self, job: &Job, lane: Lane, enqueued_at_ms: u64) -> Option<u64> {
        let ttl_ms = job.ttl_ms.or_else(|| {
            (lane == Lane::Interactive)
                .then(|| self.queue.ttl.get(&job.job_type))
                .flatten()
                .and_then(|ttl| u64::try_from(ttl.as_millis()).ok())
        })?;
        Some(enqueued_at_ms.max(job.run_at_ms.unwrap_or(0)).saturating_add(ttl_ms))
    }
}
