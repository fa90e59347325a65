//! A worker process: its loops, which share one set of worker slots, and its life cycle.
//!
//! ```text
//! fetcher (lane × partition) ─▶ decode: parse, plan ─▶ admission: slot, admit ─▶ apalis worker: one call ─▶ finisher ─▶ Redis
//!                                 └── backlogged callers ─▶ deferred admission ───────────────▶ finisher
//!        rescuer: takes over from lost workers ─▶ decode               scheduler: promotes, renews leases
//! ```
//!
//! Starting: operators' rules are loaded, the group is created and the loops start. Until Redis answers, the worker is
//! alive and not ready.
//!
//! Stopping: fetchers end, and jobs that have not started are handed back. Running calls get `worker.shutdown_grace`
//! and are then cut off; those whose effect is then unknown end in doubt. Every end is written, and only then do the
//! loops that renew leases end.

mod active_job;
mod admission;
mod apalis_backend;
mod backlogged_callers;
mod clock_steps;
mod completer;
mod completion;
mod completion_bytes;
mod connection_count;
mod context;
mod decode;
mod delayed_by_route;
mod ended_delivery;
mod executor;
mod fetcher;
mod gate;
mod heartbeat;
mod history;
mod lane_reader;
mod lease;
mod live_limits;
mod maintenance;
mod paused_lane;
mod redis_clock;
mod redis_health;
mod refused_ends;
mod replication;
mod rescuer;
mod rule_check;
mod rules;
mod settlement;
mod slots;
mod trace;
mod upstream_health;

pub use crate::xco::XcoClient;
pub use connection_count::connections;
pub use redis_health::{Breakers, Health};

use crate::{
    config::Config,
    contract::Lane,
    net::Names,
    queue::{Connector, Keys, QueueError, preflight::Wanted},
    telemetry::Metrics,
    xco::XcoApi,
};
use admission::Admitter;
use apalis::{layers::catch_panic::CatchPanicLayer, prelude::WorkerBuilder};
use apalis_backend::StreamsBackend;
use apalis_core::error::WorkerError;
use completer::Completer;
use context::{Partition, WorkerContext};
use executor::Executor;
use fetcher::Fetcher;
use futures::FutureExt;
use gate::keeper::Gatekeeper;
use lane_reader::LaneReader;
use maintenance::{Cleaner, Scheduler};
use refused_ends::RefusedEnds;
use rescuer::Rescuer;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Names of a partition's finishers. While one waits for Redis, another prepares its batch.
const FINISHERS: [&str; 2] = ["finish", "finish too"];

/// Minimum time for which a stopping worker waits for Redis, even if `worker.shutdown_grace` is shorter or over: for a
/// running read to end, and for the last ends to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Minimum time between two closings of idle connections to XCO.
const SPARED: Duration = Duration::from_secs(1);

/// A worker that is configured and not yet running.
#[derive(Debug)]
pub struct Worker<A> {
    config: Config,
    api: Arc<A>,
    metrics: Metrics,
    health: Health,
    connector: Connector,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Number of calls that were cut off because `worker.shutdown_grace` was over.
    pub cut_off: usize,
    /// Number of ends that could not be written because Redis was unreachable. The leases bring these jobs back.
    pub unwritten: usize,
    /// Whether the worker ended by itself, because of a fault in this program.
    pub broken: bool,
}

impl<A: XcoApi> Worker<A> {
    /// Creates a worker that calls `api`. Does not connect yet. Fails if `config` has no usable Redis.
    pub fn new(config: Config, api: Arc<A>, metrics: Metrics) -> Result<Self, QueueError> {
        Self::with_names(config, api, metrics, Names::shared())
    }

    /// As [`Worker::new`], but with `names` as the resolver of host names.
    pub fn with_names(config: Config, api: Arc<A>, metrics: Metrics, names: Names) -> Result<Self, QueueError> {
        let connector = Connector::with_names(&config.redis, names)?;
        Ok(Self { config, api, metrics, health: Health::default(), connector })
    }

    /// The health of the worker's work with Redis.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Executes jobs until `stop`, then ends in order. Does not return earlier: failures of Redis or XCO are retried.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        let Self { config, api, metrics, health, connector } = self;
        let consumer = consumer_name();
        let (partitions, endings) = partitions_of(&config, &health);
        let context = Arc::new(WorkerContext::new(&config, consumer, connector, metrics, health, partitions));
        tracing::info!(consumer = context.consumer, concurrency = context.slots.total(), "worker starting");

        let (deliveries, receiver) = mpsc::channel(64);
        let mut readers = JoinSet::new();
        let mut upkeep = JoinSet::new();
        let mut finishers = JoinSet::new();
        let gatekeeper = Gatekeeper::new(Arc::clone(&context), Wanted::new(&config.redis));
        readers.spawn(gatekeeper.watch(stop.clone()));
        let mut together = Lane::ALL.map(|lane| LaneReader::spawn(&context, lane, &mut readers).into_iter());
        for (partition, endings) in endings.into_iter().enumerate() {
            let admitter =
                |kind| Admitter::new(Arc::clone(&context), kind, partition, deliveries.clone(), stop.clone());
            for lane in Lane::ALL {
                let ways_in = match lane {
                    Lane::Interactive => [admitter("admit interactive"), admitter("put aside interactive")],
                    Lane::Bulk => [admitter("admit bulk"), admitter("put aside bulk")],
                };
                let together = together[lane as usize].next();
                let fetcher = Fetcher::new(Arc::clone(&context), partition, lane, together, ways_in, stop.clone());
                readers.spawn(fetcher.run());
            }
            let housekeeper = Cleaner::new(Arc::clone(&context), partition, config.completions.clone());
            readers.spawn(housekeeper.run(stop.clone()));
            let of_rescuer = [admitter("admit rescued interactive"), admitter("admit rescued bulk")];
            readers.spawn(Rescuer::run(Arc::clone(&context), partition, of_rescuer, stop.clone()));
            upkeep.spawn(Scheduler::new(Arc::clone(&context), partition).run());
            for kind in FINISHERS {
                finishers.spawn(Completer::new(Arc::clone(&context), partition, kind).run(Arc::clone(&endings)));
            }
        }
        drop(deliveries);
        readers.spawn(delayed_by_route::watcher::watch(Arc::clone(&context), stop.clone()));
        readers.spawn(rules::watcher::watch(Arc::clone(&context), stop.clone()));
        readers.spawn(heartbeat::beat(Arc::clone(&context), stop.clone()));
        readers.spawn(history::record(Arc::clone(&context), stop.clone()));
        readers.spawn(clock_steps::watcher::watch(Arc::clone(&context), stop.clone()));

        upkeep.spawn(spare(Arc::clone(&context), Arc::clone(&api)));
        let handler = Executor::new(Arc::clone(&context), api);
        let backend = StreamsBackend::new(receiver, stop.clone());
        let apalis = WorkerBuilder::new("xco-worker")
            .backend(backend)
            .layer(CatchPanicLayer::new())
            .build(move |delivery: active_job::Delivery| handler.clone().run(delivery));
        let stopping = stop.clone();
        let until_stop = async move {
            stopping.cancelled().await;
            Ok::<(), WorkerError>(())
        };
        let mut calls = tokio::spawn(apalis.run_until(until_stop).boxed());

        let broken = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            ended = &mut calls => {
                // No outside event ends the loop. Without it no job would run, so the whole worker stops.
                tracing::error!(?ended, "the worker loop ended by itself");
                stop.cancel();
                true
            }
        };
        tracing::info!("stopping: finishing what is under way");
        // One deadline for everything, because a service manager counts from the signal.
        let deadline = Instant::now() + config.worker.shutdown_grace;
        let until = deadline.max(Instant::now() + LAST_WORDS);
        let idle = async {
            sleep(LAST_WORDS).await;
            context.slots.all_written().await;
        };
        tokio::select! {
            () = async { while readers.join_next().await.is_some() {} } => {}
            // Redis does not answer, so the lease covers whatever a read still brings. With no active jobs, there is
            // nothing to wait for.
            () = async { tokio::select! { () = sleep_until(until) => {}, () = idle => {} } } => readers.shutdown().await,
        }
        let cut_off = if broken || timeout_at(deadline, &mut calls).await.is_ok() {
            0
        } else {
            let (running, _) = context.slots.in_use();
            calls.abort();
            let _ = calls.await;
            running
        };
        // Every delivery has ended. Waits until the ends are written, but not for a Redis that does not recover.
        let written = timeout_at(deadline.max(Instant::now() + LAST_WORDS), context.slots.all_written()).await;
        let (_, unwritten) = context.slots.in_use();
        let unwritten = if written.is_ok() { 0 } else { unwritten };
        // Cutting off a command here loses nothing, because each is one atomic step. (And Redis may never answer it.)
        upkeep.shutdown().await;
        finishers.abort_all();
        while finishers.join_next().await.is_some() {}
        tracing::info!(cut_off, unwritten, "worker stopped");
        Stopped { cut_off, unwritten, broken }
    }
}

/// The ends of a partition's deliveries. Its finishers take them in turn.
type Endings = Arc<Mutex<mpsc::UnboundedReceiver<active_job::CompleterTask>>>;

/// Creates each partition's state, and the receiver of its deliveries' ends.
fn partitions_of(config: &Config, health: &Health) -> (Vec<Partition>, Vec<Endings>) {
    let count = u64::from(config.redis.partitions.get());
    let partition = |number| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let partition = Partition {
            keys: Keys::new(&config.redis.namespace, number),
            leases: Arc::default(),
            backlogged_callers: Arc::default(),
            aside: delayed_by_route::DelayedByRoute::default(),
            endings: sender,
            delayed: Notify::new(),
            stuck: RefusedEnds::new(health.loop_health()),
            completions_written: completion_bytes::CompletionBytes::new(config.completions.max_bytes / count),
            steps: clock_steps::KnownSteps::default(),
        };
        (partition, Arc::new(Mutex::new(receiver)))
    };
    config.redis.partitions.numbers().map(partition).unzip()
}

/// Closes idle connections to XCO when there is no file descriptor for a connection to Redis, which is more important.
async fn spare<A: XcoApi>(context: Arc<WorkerContext>, api: Arc<A>) {
    loop {
        context.connector.starved().await;
        tracing::warn!("no file descriptor is left for Redis: closing idle connections to XCO");
        api.give_up_idle();
        sleep(SPARED).await;
    }
}

/// Creates this worker's name, `host-pid-random`: it is unique, and shows an operator where to look.
fn consumer_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map(|name| name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(40).collect())
        .filter(|name: &String| !name.is_empty())
        .unwrap_or_else(|| "host".to_owned());
    format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}
