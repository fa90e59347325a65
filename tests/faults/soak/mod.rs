//! The soak: real workers under steady traffic of every kind, with continuous faults drawn from a seed. Workers are
//! killed, paused and stopped. Redis is killed, hung and cut off, its keys are spoiled, its deliveries and permissions
//! are taken away, and commands in scripts are refused. XCO fails, refuses, is slow and is cut off. The rules are
//! checked during the run and at its end:
//!
//! - every accepted job ends in exactly one completion, of a kind that the job can have, with one reply and one count
//!   in its batch; once the faults stop, everything drains, and nothing is left over;
//! - no unsafe call is repeated after one that may have taken effect, and completions account for every call that
//!   arrived;
//! - the limits of callers and of the client are kept (see [`limits`] and [`admissions`]), and neither 429s nor an
//!   outage use up attempts;
//! - no worker ends by itself.
//!
//! `SOAK_SECONDS` (default 20) is the duration of the faults, `SOAK_SEED` the seed (otherwise random, and printed) and
//! `SOAK_RATE` the number of jobs a second (default 120; use less for several soaks at once).
//! `SOAK_WITHOUT=KeySpoiled,ForeignAck` leaves out kinds of faults, by their names in [`schedule::Kind`]; the others
//! follow the seed. `SOAK_ONLY` uses only the kinds it names, one after the other. `make soak SECONDS=1800 SEED=7`
//! makes a long run.

mod admissions;
mod calls;
mod crew;
mod hands;
mod ledger;
mod limits;
mod merchant;
mod report;
mod schedule;
mod traffic;
mod world;

use crate::support::{RedisServer, Rig, ServerClock, Setup};
use calls::{CALLER, CLIENT, Calls};
use crew::Crew;
use hands::Hands;
use merchant::Wire;
use schedule::{Event, Kind, Schedule};
use std::{cell::RefCell, time::Duration};
use tokio::time::Instant;
use world::World;
use xco_worker::sandbox::{Latency, Sandbox};

/// Time within which all work must end once the faults have stopped.
const LONGEST_DRAIN: Duration = Duration::from_secs(120);
/// Maximum memory of a worker, in KiB. It has at most a few hundred jobs, so more means a leak.
const MOST_RSS_KIB: u64 = 400 * 1_024;
const LOOK_EVERY: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_secs(10);

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name}: {text}")))
}

/// The kinds of faults that an environment variable names.
fn kinds(variable: &str) -> Vec<Kind> {
    let names: String = from_env(variable).unwrap_or_default();
    let kind = |name: &str| {
        Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name).unwrap_or_else(|| panic!("{variable}: {name}"))
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(kind).collect()
}

/// Redis and the sandbox, and Redis's clock if it can be stepped.
async fn rig(seed: u64) -> (Rig, Option<ServerClock>) {
    // It must keep acknowledged writes whenever it is killed.
    let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
    let (redis, clock) = match RedisServer::own_with_clock(&options) {
        Some((redis, clock)) => (redis, Some(clock)),
        None => (RedisServer::own(&options), None),
    };
    let mut setup = Setup { redis, ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(30) };
    setup.sandbox.seed = seed;
    // With every second seed XCO has no limits: its 429s would slow down a worker that does not keep to the limits
    // itself.
    if seed.is_multiple_of(2) {
        setup.sandbox.caller_limit = Some(CALLER);
        setup.sandbox.client_limit = Some(CLIENT);
    }
    setup.sandbox.token_life = Duration::from_secs(60);
    (setup.without_worker().await, clock)
}

/// Runs the faults of the seed for `lasting`, then the drain without faults.
async fn run(
    world: &World,
    calls: &RefCell<Calls>,
    crew: &mut Crew,
    redis: &mut RedisServer,
    sandbox: &Sandbox,
    schedule: impl Iterator<Item = Event>,
    lasting: Duration,
) {
    let begun = Instant::now();
    let mut schedule = schedule.map(|event| (begun + Duration::from_millis(event.at_ms), event)).peekable();
    let mut under_way: Vec<(Instant, Event)> = Vec::new();
    let mut told = begun;
    let mut hands = Hands::new(redis.url());
    while begun.elapsed() < lasting && !world.accused.is_cancelled() {
        let now = Instant::now();
        if let Some(over) = under_way.iter().position(|(until, _)| *until <= now) {
            let (_, event) = under_way.swap_remove(over);
            crew.relent(&event, redis, sandbox);
            hands.relent(&event, world);
        } else if let Some((_, event)) = schedule.next_if(|(at, _)| *at <= now) {
            let done = if event.kind.is_by_hand() {
                hands.strike(&event, world).await
            } else {
                crew.strike(&event, redis, sandbox).await
            };
            if done {
                world.strikes(event);
            }
            // A command without an answer may have been executed.
            if done || event.kind.is_by_hand() {
                under_way.push((Instant::now() + Duration::from_millis(event.lasting_ms), event));
            }
        } else {
            crew.look(world);
            hands.make_good(world).await;
            hands.go_on(world).await;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                println!("{}", report::progress(world, &calls.borrow(), crew, begun.elapsed()));
            }
            let next = under_way.iter().map(|(until, _)| *until).chain(schedule.peek().map(|(at, _)| *at)).min();
            let next = next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
            world.pause(next.duration_since(now)).await;
        }
    }
    for (_, event) in under_way {
        crew.relent(&event, redis, sandbox);
        hands.relent(&event, world);
    }
    while !hands.make_good(world).await && !world.accused.is_cancelled() {
        world.pause(LOOK_EVERY).await;
    }
    world.enough.cancel();
    drain(world, crew, redis.url()).await;
    crew.stop(world).await;
    world.over.cancel();
}

async fn drain(world: &World, crew: &mut Crew, url: &str) {
    let calm_since = Instant::now();
    let mut wire = Wire::new(url);
    let mut told = calm_since;
    while !world.accused.is_cancelled() {
        crew.look(world);
        if told.elapsed() >= TELL_EVERY / 5 {
            told = Instant::now();
            let waits = merchant::whereabouts(world, &mut wire).await;
            println!("draining: {} under way; {waits}", world.ledger.borrow().outstanding());
        }
        if world.ledger.borrow().outstanding() == 0 && merchant::is_empty(world, &mut wire).await {
            println!("drained {:.1} s after the last fault", calm_since.elapsed().as_secs_f64());
            return;
        }
        if calm_since.elapsed() > LONGEST_DRAIN {
            let left = world.ledger.borrow().outstanding();
            world.accuse(None, format!("not drained: {left} jobs have not ended"));
        }
        world.pause(LOOK_EVERY).await;
    }
}

/// Checks that are only possible at the end.
async fn judge(world: &World, crew: &Crew, url: &str) {
    for (number, why) in report::accounts(world) {
        world.accuse(Some(number), why);
    }
    merchant::check_batches(world, &mut Wire::new(url)).await;
    let (missing, strange) = world.ledger.borrow().nameless_faults();
    if missing > 0 || strange > world.ledger.borrow().nameless_uncertain {
        world.accuse(None, format!("of what is no job {missing} never ended, {strange} were never enqueued"));
    }
    for admission in world.admissions.borrow().judge().over_limit {
        world.accuse(None, format!("admitted over its limit: {admission}"));
    }
    if !world.replies_wanted.borrow().is_empty() {
        world.accuse(None, format!("{} jobs were never replied to", world.replies_wanted.borrow().len()));
    }
    if crew.most_rss_kib > MOST_RSS_KIB {
        world.accuse(None, format!("a worker took {} KiB of memory", crew.most_rss_kib));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak() {
    let seconds = from_env("SOAK_SECONDS").unwrap_or(20);
    let seed: u64 = from_env("SOAK_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let rate = from_env("SOAK_RATE").unwrap_or(120);
    let without = kinds("SOAK_WITHOUT");
    let only = Some(kinds("SOAK_ONLY")).filter(|kinds| !kinds.is_empty());
    let schedule = Schedule::new(seed, only.as_deref().unwrap_or(&Kind::ALL));
    println!("soak: seed {seed}, {seconds} s, {rate} jobs a second");
    let (mut rig, clock) = rig(seed).await;
    let world = World::new(&rig);
    let calls = RefCell::new(Calls::default());
    let mut crew = Crew::start(&rig, clock, seed).await;
    let url = rig.redis.url().to_owned();
    let begun = Instant::now();
    let lasting = Duration::from_secs(seconds);
    tokio::join!(
        run(
            &world,
            &calls,
            &mut crew,
            &mut rig.redis,
            &rig.sandbox,
            schedule.filter(|event| !without.contains(&event.kind)),
            lasting
        ),
        merchant::produce(&world, &rig.sandbox, &url, rate, seed),
        merchant::follow(&world, &url),
        calls::audit(&calls, &world, &rig.sandbox),
    );
    if !world.accused.is_cancelled() {
        judge(&world, &crew, &url).await;
    }
    println!("the faults:");
    world.struck.borrow().iter().for_each(|event| println!("{event}"));
    println!("{}", report::totals(&world, &calls.borrow(), &crew, begun.elapsed()));
    if world.accused.is_cancelled() {
        let accusations = world.accusations.take();
        for accusation in &accusations {
            println!("accused: {}", accusation.text);
            if let Some(number) = accusation.number {
                println!("{}", merchant::history(&world, &rig.sandbox, &url, number).await);
            }
        }
        panic!("seed {seed}: {}", accusations[0].text);
    }
    rig.connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    // Permissions were withdrawn on purpose, including that of EXPIRE, so replies and counters may have no expiry.
    rig.denials().await;
    for pattern in ["reply:*", "batch:*"] {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(world.key(pattern)).query_async(&mut rig.connection).await.unwrap();
        for key in keys {
            let _: u64 = redis::cmd("DEL").arg(key).query_async(&mut rig.connection).await.unwrap();
        }
    }
    rig.assert_clean().await;
}
