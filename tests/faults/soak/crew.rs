//! The workers, each behind its own proxies, and the faults of workers, Redis and XCO.

use super::{
    calls::{CALLER, CLIENT},
    hands::WORKERS_USER,
    schedule::{Event, Kind, LEASE_MS, WORKERS},
    world::World,
};
use crate::{
    process::{Process, Settings},
    proxy::{Chances, Network, Proxy},
    sabotage::{self, Sabotage},
    support::{RedisServer, Rig, ServerClock, Step, as_user},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{os::unix::process::ExitStatusExt, time::Duration};
use tokio::time::{Instant, timeout};
use xco_worker::sandbox::{Fault, FaultKind, Route, Sandbox};

/// Number of simultaneous calls of one worker.
pub(crate) const CONCURRENCY: u32 = 16;
/// Chance in 10,000 that a script command fails during sabotage.
const SABOTAGED: u32 = 2_000;
/// Time within which a worker must stop.
const LONGEST_STOP: Duration = Duration::from_secs(60);

/// One worker position. The process in it changes.
#[derive(Debug)]
struct Place {
    settings: Settings,
    redis: Proxy,
    /// Proxy that sabotages scripts, on the same path.
    scripts: sabotage::Proxy,
    xco: Proxy,
    process: Option<Process>,
    paused: bool,
    /// When the present process was told to stop.
    stopping: Option<Instant>,
    /// Whether it was told so before it could handle signals.
    unborn: bool,
}

#[derive(Debug)]
pub(crate) struct Crew {
    places: Vec<Place>,
    /// Redis's clock, if it can be stepped.
    clock: Option<ServerClock>,
    /// Maximum memory of any worker, in KiB.
    pub(crate) most_rss_kib: u64,
    pub(crate) spawned: u64,
    pub(crate) reclaimed: u64,
}

impl Crew {
    pub(crate) async fn start(rig: &Rig, clock: Option<ServerClock>, seed: u64) -> Self {
        let mut places = Vec::new();
        for n in 0..WORKERS {
            let seed = seed.wrapping_add(n as u64);
            let scripts = sabotage::Proxy::start(rig.redis.url(), seed).await;
            let redis = Proxy::start(&scripts.url(), Chances::default(), seed).await;
            let xco = Proxy::start(&rig.sandbox.addr().to_string(), Chances::default(), seed).await;
            let settings = settings(rig, &redis, &xco);
            let process = Some(settings.spawn());
            places.push(Place { settings, redis, scripts, xco, process, paused: false, stopping: None, unborn: false });
        }
        Self { places, clock, most_rss_kib: 0, spawned: WORKERS as u64, reclaimed: 0 }
    }

    /// The worker positions that an event affects.
    fn about(&self, event: &Event) -> impl Iterator<Item = &Place> {
        let all = event.worker.is_none();
        self.places.iter().enumerate().filter(move |(n, _)| all || event.worker == Some(*n)).map(|(_, place)| place)
    }

    /// Starts the fault `event`. Returns whether that was possible.
    pub(crate) async fn strike(&mut self, event: &Event, redis: &mut RedisServer, sandbox: &Sandbox) -> bool {
        match event.kind {
            Kind::WorkerKilled | Kind::WorkerPaused | Kind::WorkerStopped | Kind::WorkerLeaseChanged => {
                return self.strike_worker(event).await;
            }
            Kind::RedisCut => self.about(event).for_each(|place| place.redis.cut()),
            Kind::XcoCut => self.about(event).for_each(|place| place.xco.cut()),
            Kind::RedisKilled => redis.kill(),
            Kind::RedisHung => signal_redis(redis, Signal::SIGSTOP),
            Kind::RedisClientsKilled => {
                return tell(redis, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            }
            Kind::RedisScriptsFlushed => return tell(redis, &["SCRIPT", "FLUSH"]).await,
            Kind::XcoTokensRevoked => sandbox.revoke_tokens(),
            Kind::ScriptSabotaged => {
                self.about(event).for_each(|place| place.scripts.set(Sabotage::Chance { of_10_000: SABOTAGED }));
            }
            Kind::ClockStepped => return self.step_clock(event.step_ms()),
            Kind::XcoOutage => sandbox.outage(503, None),
            kind => match (way(event), kind) {
                (Some((true, network)), _) => self.about(event).for_each(|place| place.redis.set(network)),
                (Some((false, network)), _) => self.about(event).for_each(|place| place.xco.set(network)),
                (None, _) => order(event, sandbox),
            },
        }
        true
    }

    /// Ends the fault `event`.
    pub(crate) fn relent(&mut self, event: &Event, redis: &mut RedisServer, sandbox: &Sandbox) {
        match event.kind {
            Kind::WorkerKilled => self.respawn(event.worker),
            Kind::WorkerPaused => {
                let paused = event.worker.and_then(|worker| self.places.get_mut(worker));
                if let Some(place) = paused
                    && std::mem::take(&mut place.paused)
                    && let Some(process) = &place.process
                {
                    process.signal(Signal::SIGCONT);
                }
            }
            Kind::RedisKilled => redis.restart(),
            Kind::RedisHung => signal_redis(redis, Signal::SIGCONT),
            Kind::XcoOutage => sandbox.end_outage(),
            Kind::ScriptSabotaged => self.about(event).for_each(|place| place.scripts.calm()),
            Kind::ClockStepped => {
                self.step_clock(0);
            }
            kind => match way(event) {
                Some((true, _)) => self.about(event).for_each(|place| place.redis.calm()),
                Some((false, _)) => self.about(event).for_each(|place| place.xco.calm()),
                None if kind.is_ordered() => sandbox.clear_faults(),
                None => {}
            },
        }
    }

    /// Sets Redis's clock ahead of the machine's by this time, or behind it. Returns whether that is possible.
    fn step_clock(&self, ahead_ms: i64) -> bool {
        let by = Duration::from_millis(ahead_ms.unsigned_abs());
        let to = match ahead_ms {
            0 => Step::None,
            1.. => Step::Forward(by),
            _ => Step::Back(by),
        };
        self.clock.as_ref().inspect(|clock| clock.step(to)).is_some()
    }

    async fn strike_worker(&mut self, event: &Event) -> bool {
        let Some(place) = event.worker.and_then(|worker| self.places.get_mut(worker)) else { return false };
        if place.stopping.is_some() || place.paused {
            return false;
        }
        let Some(process) = &mut place.process else { return false };
        match event.kind {
            Kind::WorkerKilled => {
                self.reclaimed += process.counter("xco_worker_reclaimed_total").await;
                process.kill();
                place.process = None;
            }
            Kind::WorkerPaused => {
                process.signal(Signal::SIGSTOP);
                place.paused = true;
            }
            _ => {
                self.reclaimed += process.counter("xco_worker_reclaimed_total").await;
                place.unborn = process.get("/healthz").await.is_none();
                let changes = event.kind == Kind::WorkerLeaseChanged;
                if changes {
                    place.settings.set("WORKER__LEASE", &format!("{}ms", event.lease_ms()));
                }
                process.signal(if changes { Signal::SIGHUP } else { Signal::SIGTERM });
                place.stopping = Some(Instant::now());
            }
        }
        true
    }

    fn respawn(&mut self, worker: Option<usize>) {
        if let Some(place) = worker.and_then(|worker| self.places.get_mut(worker))
            && place.process.is_none()
        {
            place.process = Some(place.settings.spawn());
            self.spawned += 1;
        }
    }

    /// Replaces workers that were told to stop and have ended. Reports workers that ended by themselves.
    pub(crate) fn look(&mut self, world: &World) {
        for (worker, place) in self.places.iter_mut().enumerate() {
            let Some(process) = &mut place.process else { continue };
            self.most_rss_kib = self.most_rss_kib.max(process.memory_kib().map_or(0, |(now, _)| now));
            match (process.ended(), place.stopping) {
                (None, Some(since)) if since.elapsed() > LONGEST_STOP => {
                    world.accuse(None, format!("worker {worker} does not stop"));
                }
                (None, _) => {}
                (Some(status), Some(_)) => {
                    let before_it_listened = place.unborn
                        && [Signal::SIGTERM as i32, Signal::SIGHUP as i32].map(Some).contains(&status.signal());
                    if status.code() != Some(0) && !before_it_listened {
                        world.accuse(None, format!("worker {worker} was told to stop, and ended with {status}"));
                    }
                    place.stopping = None;
                    place.process = Some(place.settings.spawn());
                    self.spawned += 1;
                }
                (Some(status), None) => {
                    world.accuse(None, format!("worker {worker} ended by itself with {status}"));
                    place.process = None;
                }
            }
        }
    }

    /// Stops all workers in order.
    pub(crate) async fn stop(&mut self, world: &World) {
        for place in &mut self.places {
            if let Some(process) = &mut place.process {
                self.reclaimed += process.counter("xco_worker_reclaimed_total").await;
                if place.stopping.is_none() {
                    process.signal(Signal::SIGTERM);
                }
                let status = timeout(LONGEST_STOP, process.exit(LONGEST_STOP)).await;
                if status.as_ref().map(std::process::ExitStatus::code) != Ok(Some(0)) {
                    world.accuse(None, format!("at the end a worker ended with {status:?}"));
                }
            }
            place.process = None;
        }
    }

    /// Number of replies and answers that proxies broke: lost, torn, stalled, reset.
    pub(crate) fn broken(&self) -> [u64; 4] {
        let mut broken = [0; 4];
        for proxy in self.places.iter().flat_map(|place| [&place.redis, &place.xco]) {
            for (sum, count) in broken.iter_mut().zip(proxy.broken()) {
                *sum += count;
            }
        }
        broken
    }
}

impl Kind {
    /// Whether [`super::hands::Hands`] does this fault.
    pub(crate) fn is_by_hand(self) -> bool {
        matches!(
            self,
            Self::KeySpoiled
                | Self::RepliesSpoiled
                | Self::PermissionWithdrawn
                | Self::ConsumerDeleted
                | Self::ForeignAck
        )
    }

    /// Whether the simulator does this fault.
    fn is_ordered(self) -> bool {
        matches!(
            self,
            Self::Xco500
                | Self::Xco502
                | Self::Xco503
                | Self::Xco429
                | Self::Xco429After
                | Self::XcoSlow
                | Self::XcoRouteFails
                | Self::XcoForeignAnswer
                | Self::XcoTruncated
        )
    }
}

fn settings(rig: &Rig, redis: &Proxy, xco: &Proxy) -> Settings {
    let rate = |limit: f64| format!("{limit}/s");
    let base = format!("http://{}/", xco.address());
    let redis_url = as_user(&redis.url(), WORKERS_USER);
    Settings::new(
        rig,
        &[
            ("REDIS__URL", &redis_url),
            ("REDIS__RESPONSE_TIMEOUT", "1s"),
            ("REDIS__CONNECT_TIMEOUT", "1s"),
            ("XCO__BASE_URL", &base),
            ("XCO__TOKEN_URL", &format!("{base}oauth/token")),
            ("XCO__TIMEOUT", "3s"),
            ("WORKER__LEASE", &format!("{LEASE_MS}ms")),
            ("WORKER__CONCURRENCY", &CONCURRENCY.to_string()),
            ("WORKER__SHUTDOWN_GRACE", "4s"),
            // The soak takes jobs over again and again.
            ("WORKER__MAX_DELIVERIES", "1000"),
            ("LIMITS__CALLER__RATE", &rate(CALLER.per_second)),
            ("LIMITS__CALLER__BURST", &CALLER.burst.to_string()),
            ("LIMITS__CLIENT__RATE", &rate(CLIENT.per_second)),
            ("LIMITS__CLIENT__BURST", &CLIENT.burst.to_string()),
            ("RETRY__BASE", "50ms"),
            ("RETRY__CAP", "1s"),
            ("QUEUE__TTL__START_OTP", "off"),
            ("QUEUE__TTL__VERIFY_OTP", "off"),
            // Half an hour of work must not leave much data.
            ("QUEUE__DEDUPE_WINDOW", "10m"),
            ("COMPLETIONS__RETENTION", "10m"),
        ],
    )
}

/// State of the network during `event`; `true` for the connection to Redis.
fn way(event: &Event) -> Option<(bool, Network)> {
    let chances = Chances::default();
    let late = |from: u64, to: u64| Network::Late(Duration::from_millis(from + event.seed % (to - from)));
    Some(match event.kind {
        Kind::RedisStalled => (true, Network::Stalled),
        Kind::RedisHalfOpen => (true, Network::HalfOpen),
        Kind::RedisLate => (true, late(20, 400)),
        Kind::RedisReplyLost => (true, Network::Replies(Chances { lost: 500, ..chances })),
        Kind::RedisReplyTorn => (true, Network::Replies(Chances { torn: 500, ..chances })),
        Kind::XcoRefused => (false, Network::Refused),
        Kind::XcoStalled => (false, Network::Stalled),
        Kind::XcoHalfOpen => (false, Network::HalfOpen),
        Kind::XcoLate => (false, late(50, 800)),
        Kind::XcoReset => (false, Network::Replies(Chances { reset: 3_000, ..chances })),
        _ => return None,
    })
}

/// Orders the fault `event` from the simulator.
fn order(event: &Event, sandbox: &Sandbox) {
    let often = |fault: Fault, p: f64| sandbox.order(fault.with_probability(p, event.seed));
    match event.kind {
        Kind::Xco500 => often(Fault::status(500), 0.4),
        Kind::Xco502 => often(Fault::status(502), 0.4),
        Kind::Xco503 => often(Fault::status(503).retry_after("1"), 0.4),
        Kind::Xco429After => often(Fault::status(429).retry_after("1"), 0.3),
        // Without a caller, each of these would stop all calls for longer and longer.
        Kind::Xco429 => {
            for route in [Route::Exists, Route::Start, Route::Verify] {
                often(Fault::status(429).on(route), 0.2);
            }
        }
        Kind::XcoSlow => often(Fault::new(FaultKind::Delay(300 + event.seed % 1_500)), 0.5),
        Kind::XcoRouteFails => sandbox.order(Fault::status(500).on(event.route()).always()),
        Kind::XcoForeignAnswer => often(Fault::status(event.foreign()).after_effect(), 0.3),
        Kind::XcoTruncated => often(Fault::new(FaultKind::Truncate), 0.3),
        _ => {}
    }
}

fn signal_redis(redis: &RedisServer, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(redis.pid()).unwrap()), signal).unwrap();
}

async fn tell(redis: &RedisServer, command: &[&str]) -> bool {
    let told = async {
        let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async::<redis::Value>(&mut connection).await
    };
    timeout(Duration::from_secs(2), told).await.is_ok_and(|told| told.is_ok())
}
