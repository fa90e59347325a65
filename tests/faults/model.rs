//! Random operations against a model. Whatever is enqueued, ordered, started and stopped, the model says what must be
//! true at the end.

use super::{
    jobs::{create, email, seed as seed_user, start},
    kills::own_redis,
    ledger::assert_no_blind_repetition,
    sabotage::{Proxy, Sabotage},
    support::{Rig, Setup, check},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    contract::{JobType, Lane},
    queue::{Connector, Keys, rules},
    rules::{Rule, RuleAction, RuleOrigin, Selector},
    sandbox::{Fault, FaultKind, Latency},
    telemetry::Metrics,
    worker::{Stopped, Worker},
    xco::XcoClient,
};

/// Number of operations for each seed.
const STEPS: usize = 700;

/// The model of an enqueued job.
#[derive(Debug, Clone)]
struct Expected {
    /// Allowed endings, as `status` or `status/error.kind`.
    allowed: BTreeSet<&'static str>,
    /// Id of its child, enqueued if the job ends as `absent`.
    child: Option<String>,
    batch: Option<&'static str>,
}

#[derive(Debug)]
struct World {
    rig: Rig,
    rng: StdRng,
    workers: Vec<(CancellationToken, JoinHandle<Stopped>)>,
    /// The workers' proxy for Redis, if there is one.
    way: Option<Proxy>,
    model: BTreeMap<String, Expected>,
    /// Batches that an operator cancelled.
    cancelled: BTreeSet<&'static str>,
    /// Valid jobs with an id, which may be enqueued again.
    enqueued: Vec<Value>,
    next: usize,
}

impl World {
    async fn new(seed: u64, sabotaged: u32) -> Self {
        let mut setup = Setup { redis: own_redis(), ..Setup::default() };
        setup.sandbox.latency = Latency { min: Duration::ZERO, max: Duration::from_millis(40) };
        setup.sandbox.seed = seed;
        setup.config.worker.lease = Duration::from_millis(500);
        // Too short for some calls, which are cut off.
        setup.config.worker.shutdown_grace = Duration::from_millis(30);
        setup.config.worker.concurrency = 8;
        setup.config.worker.max_deliveries = 1000;
        setup.config.retry.max_attempts = Some(50);
        setup.config.queue.ttl.clear();
        let rig = setup.without_worker().await;
        let mut way = None;
        if sabotaged > 0 {
            let proxy = Proxy::start(rig.redis.url(), seed).await;
            proxy.set(Sabotage::Chance { of_10_000: sabotaged });
            way = Some(proxy);
        }
        Self {
            rig,
            way,
            rng: StdRng::seed_from_u64(seed),
            workers: Vec::new(),
            model: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            enqueued: Vec::new(),
            next: 0,
        }
    }

    fn start_worker(&mut self) {
        let api = Arc::new(XcoClient::new(&self.rig.config.xco).unwrap());
        let mut config = self.rig.config.clone();
        if let Some(way) = &self.way {
            config.redis.url = vec![SecretString::from(way.url())];
        }
        let worker = Worker::new(config, api, Metrics::default()).unwrap();
        let stop = CancellationToken::new();
        self.workers.push((stop.clone(), tokio::spawn(worker.run(stop))));
    }

    async fn stop_worker(&mut self) {
        let (stop, worker) = self.workers.remove(0);
        stop.cancel();
        let stopped = worker.await.unwrap();
        assert!(!stopped.broken);
    }

    fn order_fault(&mut self) {
        let mut fault = match self.rng.random_range(0..6) {
            0 => Fault::status(500),
            1 => Fault::status(502),
            2 => Fault::status(429).retry_after("0"),
            3 => Fault::reset(),
            4 => Fault::new(FaultKind::Truncate),
            _ => Fault::new(FaultKind::Delay(80)),
        };
        fault.after_effect = self.rng.random_bool(0.5) && matches!(fault.kind, FaultKind::Reset);
        self.rig.sandbox.order(fault.times(self.rng.random_range(1..4)));
    }

    /// Pauses something briefly, or cancels a batch.
    async fn give_order(&mut self) {
        let mut link = Connector::new(&self.rig.redis_as("operator")).unwrap().link(false);
        let at_ms = rules::past_ms(&mut link).await.unwrap();
        let mut selector = Selector::default();
        match self.rng.random_range(0..4) {
            0 => selector.lane = Some(Lane::Bulk),
            1 => selector.job_type = Some(JobType::CheckUser),
            2 => selector.caller = Some(format!("caller-{}", self.rng.random_range(0..5))),
            _ => {
                let name = if self.rng.random_bool(0.5) { "one" } else { "two" };
                selector.batch = Some(name.to_owned());
                self.cancelled.insert(name);
                for expected in self.model.values_mut().filter(|expected| expected.batch == Some(name)) {
                    // In doubt, a job fails instead of being cancelled.
                    expected.allowed.extend(["cancelled/cancelled", "failed/in_doubt"]);
                }
            }
        }
        let verb = if selector.batch.is_some() { RuleAction::Cancel } else { RuleAction::Pause };
        let lasting_ms = if verb == RuleAction::Cancel { 60_000 } else { self.rng.random_range(50..500) };
        let until_ms = Some(at_ms + lasting_ms);
        let order = RuleOrigin { who: "ada".to_owned(), from: "box".to_owned(), at_ms, until_ms, reason: None };
        let keys = Keys::new(&self.rig.config.redis.namespace, 0);
        assert!(rules::set_rule(&mut link, &keys, &Rule { verb, selector, order }).await.unwrap());
    }

    async fn enqueue(&mut self) {
        let lane = if self.rng.random_bool(0.7) { "interactive" } else { "bulk" };
        let id = format!("j{}", self.next);
        self.next += 1;
        let mut expected = Expected { allowed: BTreeSet::from(["succeeded"]), child: None, batch: None };
        if self.rng.random_bool(0.08) {
            let text = ["no json", "{}", r#"{"type":"Nonsense","args":{}}"#].choose(&mut self.rng).unwrap();
            let entry = self.rig.enqueue_text(lane, text).await;
            expected.allowed = BTreeSet::from(["rejected/invalid_job"]);
            self.model.insert(format!("{lane}:0:{entry}"), expected);
            return;
        }
        if self.rng.random_bool(0.1)
            && let Some(again) = self.enqueued.choose(&mut self.rng)
        {
            // A duplicate leaves no trace.
            let again = again.to_string();
            self.rig.enqueue_text("interactive", &again).await;
            return;
        }
        let mut job = match self.rng.random_range(0..3) {
            0 => check(&id, &format!("caller-{}", self.rng.random_range(0..5))),
            1 => {
                seed_user(&self.rig.sandbox, &id);
                expected.allowed.insert("failed/in_doubt");
                start(&id)
            }
            _ => create(&id),
        };
        if job["type"] == "CheckUser" && self.rng.random_bool(0.3) {
            let child = format!("{id}/absent");
            job["next"] = json!({"absent": {"type": "CreateUser",
                "args": {"customer_reference": child, "user": {"email": email(&child)}}}});
            expected.child = Some(child);
        }
        if self.rng.random_bool(0.15) {
            job["ttl_ms"] = json!(self.rng.random_range(1..200));
            // A ttl is not inherited. In doubt, a job fails instead of expiring.
            expected.allowed.extend(["expired/expired", "expired/rate_limited", "failed/in_doubt"]);
        }
        if self.rng.random_bool(0.2) {
            let delay_ms = self.rng.random_range(1..600);
            let due = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(delay_ms);
            job["run_at"] = json!(due.to_string());
        }
        if self.rng.random_bool(0.3) {
            expected.batch = Some(if self.rng.random_bool(0.5) { "one" } else { "two" });
            job["batch"] = json!(expected.batch);
        }
        if self.rng.random_bool(0.1) && job["type"] == "CheckUser" && expected.child.is_none() {
            // Without an id the job's origin is its id.
            job.as_object_mut().unwrap().remove("id");
            let entry = self.rig.enqueue_text(lane, &job.to_string()).await;
            self.model.insert(format!("{lane}:0:{entry}"), expected);
            return;
        }
        self.rig.enqueue_text(lane, &job.to_string()).await;
        self.model.insert(id, expected);
        self.enqueued.push(job);
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..3 if self.workers.len() < 3 => self.start_worker(),
            3..5 if !self.workers.is_empty() => self.stop_worker().await,
            5..16 => self.order_fault(),
            16..18 => self.give_order().await,
            18..26 => sleep(Duration::from_millis(self.rng.random_range(0..30))).await,
            _ => self.enqueue().await,
        }
    }

    /// Ids that must have completed, given the completions of their parents.
    fn due(&self, completions: &[Value]) -> BTreeSet<String> {
        let mut due: BTreeSet<String> = self.model.keys().cloned().collect();
        for event in completions.iter().filter(|event| event["outcome"] == "absent") {
            let expected = event["id"].as_str().and_then(|id| self.model.get(id));
            due.extend(expected.and_then(|expected| expected.child.clone()));
        }
        due
    }

    async fn end(mut self, seed: u64) -> usize {
        self.rig.sandbox.clear_faults();
        if let Some(way) = &self.way {
            way.calm();
        }
        self.start_worker();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.rig.drain().await;
            let due = self.due(&self.rig.completions);
            let done: BTreeSet<String> =
                self.rig.completions.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
            let missing: Vec<_> = due.difference(&done).collect();
            if missing.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "seed {seed}: never completed: {missing:?}");
            sleep(Duration::from_millis(20)).await;
        }
        self.rig
            .eventually("nothing is held", async |rig: &mut Rig| {
                let held: bool =
                    redis::cmd("EXISTS").arg(rig.key("held")).query_async(&mut rig.connection).await.unwrap();
                !held
            })
            .await;
        // Workers that stop now have time to hand back what is left.
        while !self.workers.is_empty() {
            self.stop_worker().await;
        }
        self.rig.drain().await;
        self.judge(seed).await
    }

    async fn judge(&mut self, seed: u64) -> usize {
        let due = self.due(&self.rig.completions);
        let mut batches: BTreeMap<&str, u64> = BTreeMap::new();
        for event in &self.rig.completions {
            let id = event["id"].as_str().unwrap();
            assert!(due.contains(id), "seed {seed}: nobody enqueued {id}: {event:#}");
            let status = event["status"].as_str().unwrap();
            let what = match event["error"]["kind"].as_str() {
                Some(kind) => format!("{status}/{kind}"),
                None => status.to_owned(),
            };
            if let Some(expected) = self.model.get(id) {
                assert!(expected.allowed.contains(what.as_str()), "seed {seed}: {what} of {expected:?}: {event:#}");
                assert_eq!(event["batch"].as_str(), expected.batch, "seed {seed}");
            } else {
                let parent = id.strip_suffix("/absent").unwrap();
                let cancelled = self.model[parent].batch.is_some_and(|batch| self.cancelled.contains(batch));
                let ended = ["cancelled/cancelled", "failed/in_doubt"].contains(&what.as_str());
                assert!(what == "succeeded" || cancelled && ended, "seed {seed}: {event:#}");
                assert_eq!(event["parent_id"], parent);
                assert_eq!(event["batch"].as_str(), self.model[parent].batch, "a child is in its parent's batch");
            }
            if let Some(batch) = event["batch"].as_str() {
                *batches.entry(batch).or_default() += 1;
            }
        }
        for (batch, completed) in batches {
            let key = self.rig.key(&format!("batch:{batch}"));
            let counters: BTreeMap<String, u64> =
                redis::cmd("HGETALL").arg(key).query_async(&mut self.rig.connection).await.unwrap();
            let ended: u64 = counters.iter().filter(|(name, _)| *name != "accepted").map(|(_, count)| count).sum();
            // A counter that Redis refuses is lost and reported. Nothing depends on it.
            let counted = ended == completed || self.way.is_some() && ended < completed;
            assert!(counted, "seed {seed}: batch {batch}: {completed} ended, {counters:?}");
        }
        self.rig.assert_clean().await;
        assert_no_blind_repetition(&self.rig);
        self.rig.completions.len()
    }
}

/// Runs a seed. `sabotaged` is the chance in 10,000 that one of the commands of a worker's script is refused.
pub(crate) async fn play(seed: u64, sabotaged: u32) {
    println!("seed {seed} (FAULTS_SEED={seed} plays it again)");
    let mut world = World::new(seed, sabotaged).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    let jobs = world.end(seed).await;
    println!("seed {seed}: {jobs} completions, as the model has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_ends_as_the_model_says() {
    let drawn = std::env::var("FAULTS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    tokio::join!(play(1, 0), play(2, 0), play(3, 0), play(drawn, 0));
}
