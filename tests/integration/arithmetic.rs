//! The limiter's arithmetic, run in Redis with a simulated clock, because real time would be too slow.

use super::support::RedisServer;
use proptest::prelude::*;
use redis::Connection;
use std::cell::{Cell, RefCell};
use xco_worker::{
    config::{Limit, LimitsConfig, Rate},
    contract::Partitions,
    limits::{Limits, SharedBucket},
};

const SCRIPT: &str = concat!(
    include_str!("../../src/queue/lua/limiter/limiter.lua"),
    include_str!("../../src/queue/lua/limiter/turns.lua"),
    include_str!("../../src/queue/lua/limiter/strikes.lua"),
    include_str!("arithmetic.lua")
);

#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u32,
    interval_ms: u64,
    burst: u32,
    bulk: u64,
    /// Interactive calls, per thousand that the rate allows.
    load: u64,
    late_ms: u64,
    stop_at_ms: u64,
    refuse_at_ms: u64,
    retry_after_ms: u64,
    together: u32,
    lost: u32,
    step_at_ms: u64,
    back_ms: u64,
    cancelled: u32,
}

#[derive(Debug)]
struct Played {
    calls: u64,
    beyond: u64,
    bulk_called: u64,
    last_bulk_ms: u64,
    interactive_wait_us: u64,
    looks: u64,
    out_of_order: u64,
    interactive: u64,
}

fn play(connection: &mut Connection, case: Case) -> Played {
    let interval_us = case.interval_ms * 1000;
    let limit = Limit { rate: Rate { interval_us }, burst: case.burst };
    let bucket = Limits::new(LimitsConfig { client: Some(limit), ..LimitsConfig::default() }, Partitions::ONE)
        .shared(SharedBucket::Client);
    let numbers: Vec<u64> = redis::cmd("EVAL")
        .arg(SCRIPT)
        .arg(1)
        .arg(format!("bucket:{}", rand::random::<u64>()))
        .arg(case.seed)
        .arg(bucket.interval_us)
        .arg(bucket.tolerance_us)
        .arg(bucket.slack_us)
        .arg(interval_us)
        .arg(interval_us * u64::from(case.burst - 1))
        .arg(case.bulk)
        .arg(case.load * 1000 / case.interval_ms)
        .arg(case.late_ms)
        .arg(case.stop_at_ms)
        .arg(case.refuse_at_ms)
        .arg(case.retry_after_ms * 1000)
        .arg(case.together)
        .arg(case.lost)
        .arg(case.step_at_ms)
        .arg(case.back_ms * 1000)
        .arg(case.cancelled)
        .query(connection)
        .unwrap();
    let [calls, beyond, bulk_called, last_bulk_ms, interactive_wait_us, looks, out_of_order, interactive] = numbers[..]
    else {
        panic!("{numbers:?}")
    };
    Played { calls, beyond, bulk_called, last_bulk_ms, interactive_wait_us, looks, out_of_order, interactive }
}

fn connection() -> (RedisServer, RefCell<Connection>) {
    let redis = RedisServer::start();
    let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    (redis, RefCell::new(connection))
}

fn cases(stop_at_ms: impl Strategy<Value = u64>, late_ms: impl Strategy<Value = u64>) -> impl Strategy<Value = Case> {
    (any::<u32>(), 4_u64..=100, 1_u32..=20, 0_u64..=300, 0_u64..=900, late_ms, stop_at_ms).prop_map(
        |(seed, interval_ms, burst, bulk, load, late_ms, stop_at_ms)| Case {
            seed,
            interval_ms,
            burst,
            bulk,
            load,
            late_ms,
            stop_at_ms,
            refuse_at_ms: 0,
            retry_after_ms: 0,
            together: 1,
            lost: 0,
            step_at_ms: 0,
            back_ms: 0,
            cancelled: 0,
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn bulk_and_interactive_share_a_limit_and_neither_overruns_it() {
    let (_redis, connection) = connection();
    proptest!(config(), |(case in cases(Just(0), 0_u64..=3))| {
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!(played.bulk_called, case.bulk, "{:?}", played);
        // Without a burst to take it from, the margin covers less.
        if case.burst > 4 || case.late_ms == 0 {
            prop_assert_eq!(played.beyond, 0, "{:?}", played);
        }
        if case.late_ms == 0 {
            // Bulk jobs may have used one burst already, and no more.
            let most_us = case.interval_ms * 1_050 * u64::from(case.burst) + 5_000;
            prop_assert!(played.interactive_wait_us <= most_us, "{:?}", played);
        }
        prop_assert!(played.looks <= 5, "{:?}", played);
    });
}

#[test]
fn bulk_alone_uses_what_there_is() {
    let (_redis, connection) = connection();
    proptest!(config(), |(mut case in cases(Just(0), 0_u64..=3))| {
        case.load = 0;
        case.burst = case.burst.max(6);
        case.bulk = case.bulk.max(u64::from(case.burst) + 100);
        let played = play(&mut connection.borrow_mut(), case);
        let at_full_rate_ms = (case.bulk - u64::from(case.burst)) * case.interval_ms;
        prop_assert!(played.last_bulk_ms * 95 <= at_full_rate_ms * 100 + 20_000, "{:?}", played);
        prop_assert_eq!(played.beyond, 0, "{:?}", played);
    });
}

#[test]
fn what_workers_were_too_late_for_does_not_go_all_at_once() {
    let (_redis, connection) = connection();
    proptest!(config(), |(mut case in cases(500_u64..3_000, 0_u64..=3))| {
        case.bulk = 0;
        case.burst = case.burst.max(5);
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!(played.beyond, 0, "{:?}", played);
        prop_assert!(played.looks <= 6, "{:?}", played);
        prop_assert!(played.calls > 0 || case.load < 100, "{:?}", played);
        prop_assert!(case.late_ms > 0 || played.out_of_order == 0, "{:?}", played);
    });
}

/// Callers with up to twice as many calls as the rate allows, arriving together.
fn crowds() -> impl Strategy<Value = Case> {
    (cases(Just(0), Just(0)), 4_u64..=1_000, 0_u64..=2_000, 1_u32..=15)
        .prop_map(|(case, interval_ms, load, together)| Case { bulk: 0, interval_ms, load, together, ..case })
}

#[test]
fn after_a_429_that_the_limit_did_not_cause_the_limit_is_kept_all_the_same() {
    let (_redis, connection) = connection();
    let calls = Cell::new(0);
    proptest!(config(), |(case in crowds(), refuse_at_ms in 1_u64..4_000, retry_after_ms in 0_u64..2_000)| {
        let case = Case { refuse_at_ms, retry_after_ms, ..case };
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!(played.beyond, 0, "{:?}", played);
        prop_assert!(played.looks <= 6, "{:?}", played);
        prop_assert_eq!(played.out_of_order, 0, "{:?}", played);
        // The closure, the burst that a 429 ends, and the call that is made again.
        let most_us = retry_after_ms.max(1_000) * 1_000 + case.interval_ms * 1_050 * u64::from(case.burst + 2);
        prop_assert!(played.interactive_wait_us <= most_us, "{:?}", played);
        calls.set(calls.get() + played.calls);
    });
    assert!(calls.get() > 1_000, "{calls:?}");
}

#[test]
fn lost_workers_stops_429s_and_bulk_together_find_the_limit_kept() {
    let (_redis, connection) = connection();
    let calls = Cell::new(0);
    let trouble = (0_u32..=200, prop_oneof![Just(0), 500_u64..3_000], prop_oneof![Just(0), 1_u64..9_000], 0_u64..2_000);
    let callers = (crowds(), 10_u64..=500, 5_u32..=12, 0_u64..=200, 100_u64..=1_200);
    // Few cases fail if there is an error.
    let config = ProptestConfig { cases: 250, ..config() };
    proptest!(config, |((case, interval_ms, burst, bulk, load) in callers, trouble in trouble)| {
        let (lost, stop_at_ms, refuse_at_ms, retry_after_ms) = trouble;
        // With more than its limit, the interactive lane would starve the bulk lane.
        let load = if bulk > 0 { load.min(900) } else { load };
        let case = Case { interval_ms, burst, bulk, load, stop_at_ms, refuse_at_ms, retry_after_ms, lost, ..case };
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!(played.beyond, 0, "{:?}", played);
        prop_assert_eq!(played.bulk_called, bulk, "{:?}", played);
        prop_assert!(played.looks <= 12, "{:?}", played);
        calls.set(calls.get() + played.calls);
    });
    assert!(calls.get() > 1_000, "{calls:?}");
}

/// Cancelled jobs have turns that nobody uses.
#[test]
fn cancelled_jobs_hold_up_neither_bulk_nor_those_behind_them() {
    let (_redis, connection) = connection();
    let callers = (crowds(), 10_u64..=200, 20_u64..=200, 100_u64..=900, 1_u32..=700);
    proptest!(config(), |((case, interval_ms, bulk, load, cancelled) in callers)| {
        let case = Case { interval_ms, bulk, load, cancelled, ..case };
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!((played.beyond, played.bulk_called, played.out_of_order), (0, bulk, 0), "{:?}", played);
        // The last of them came by then. Each turn costs its interval at most, and once.
        let came_ms = (40 * interval_ms).max(5_000);
        let most_ms = came_ms + (played.interactive + bulk) * interval_ms * 11 / 10 + 1_000;
        prop_assert!(played.last_bulk_ms <= most_ms, "{:?}", played);
        prop_assert!(played.interactive_wait_us <= most_ms * 1_000, "{:?}", played);
    });
}

/// Callers and bulk jobs whose Redis sets its clock back meanwhile, by less than a second up to a day.
fn set_back() -> impl Strategy<Value = Case> {
    let back_ms = prop_oneof![1_u64..2_000, 20_000_u64..600_000, Just(86_400_000)];
    let trouble = (prop_oneof![Just(0), 1_u64..4_000], 0_u64..2_000);
    (crowds(), 10_u64..=500, 0_u64..=100, 100_u64..=900, trouble, 1_u64..4_500, back_ms).prop_map(
        |(case, interval_ms, bulk, load, (refuse_at_ms, retry_after_ms), step_at_ms, back_ms)| Case {
            interval_ms,
            bulk,
            load,
            refuse_at_ms,
            retry_after_ms,
            step_at_ms,
            back_ms,
            ..case
        },
    )
}

#[test]
fn a_clock_that_is_set_back_holds_nobody_up_and_lets_nobody_through() {
    let (_redis, connection) = connection();
    let config = ProptestConfig { cases: 120, ..config() };
    proptest!(config, |(case in set_back())| {
        let before = play(&mut connection.borrow_mut(), Case { step_at_ms: 0, ..case });
        let played = play(&mut connection.borrow_mut(), case);
        prop_assert_eq!(played.beyond, 0, "{:?}", played);
        prop_assert_eq!(played.bulk_called, case.bulk, "{:?}", played);
        // A closure may last twice as long, and a bucket that was not full may count as full.
        let burst_ms = case.interval_ms * u64::from(case.burst);
        // After a 429 chance decides how long the queue lasts and which jobs are in it, with or without a step: waits
        // of two runs differ by up to the time that all calls take.
        let line_ms = if case.refuse_at_ms > 0 { 2 * case.interval_ms * played.calls } else { 0 };
        let more_us = 1_000 * (2_000 + case.retry_after_ms.max(1_000) + 3 * case.interval_ms + 2 * burst_ms + line_ms);
        prop_assert!(played.interactive_wait_us <= before.interactive_wait_us + more_us, "{:?}, without: {:?}", played, before);
    });
}
