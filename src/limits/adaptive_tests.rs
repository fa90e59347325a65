//! Simulations of a saturated worker against models of network links, in virtual time.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small figures"
)]

use super::*;
use std::{cmp::Reverse, collections::BinaryHeap};

const MOST: usize = 64;

fn policy() -> AdaptivePolicy {
    AdaptivePolicy { least: 4, most: MOST, slow_factor: 2.0, slow_by: Duration::from_millis(50) }
}

struct Chance(u64);

impl Chance {
    /// Returns a number from 0 up to, but not including, 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// The result of a call that begins at `at_ms` with this many in flight: its route, its duration in milliseconds, and
/// its end.
type Link<'a> = &'a dyn Fn(&mut Chance, usize, f64) -> (JobType, f64, LoadSign);

#[derive(Debug, Default)]
struct Run {
    /// Successful calls per second.
    good_per_s: f64,
    /// The mean limit in the last half of the run.
    settled: f64,
    /// The share of all calls in the last half of the run that were turned away.
    overloaded: f64,
    last_limit: usize,
}

/// Always starts as many calls as the limit allows. With `fixed`, the limit does not adapt.
fn run(link: Link<'_>, seconds: f64, fixed: Option<usize>, start: usize) -> Run {
    let mut adaptive = Adaptive::new(policy());
    adaptive.limit = start as f64;
    let mut chance = Chance(42);
    let mut calls: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let mut ends = Vec::new();
    let (mut now_us, until_us) = (0, (seconds * 1e6) as u64);
    let (mut good, mut all, mut away, mut limits) = (0_u64, 0_u64, 0_u64, 0_u64);
    while now_us < until_us {
        let limit = fixed.unwrap_or_else(|| adaptive.limit());
        while calls.len() < limit {
            let (route, ms, sign) = link(&mut chance, calls.len() + 1, now_us as f64 / 1e3);
            calls.push(Reverse((now_us + (ms * 1e3) as u64, now_us, ends.len())));
            ends.push((route, sign));
        }
        let Some(Reverse((end_us, began_us, number))) = calls.pop() else { break };
        now_us = end_us;
        let (route, sign) = ends[number];
        good += u64::from(sign == LoadSign::Worked);
        if now_us > until_us / 2 {
            all += 1;
            away += u64::from(sign == LoadSign::Overloaded);
            limits += limit as u64;
        }
        adaptive.record(ObservedCall {
            route,
            latency: Duration::from_micros(end_us - began_us),
            sign,
            in_flight: calls.len() + 1,
            wanted: true,
            at: Duration::from_micros(now_us),
        });
    }
    Run {
        good_per_s: good as f64 / seconds,
        settled: limits as f64 / all as f64,
        overloaded: away as f64 / all as f64,
        last_limit: adaptive.known(),
    }
}

/// The throughput as a share of that of a worker that does not adapt.
fn kept(link: Link<'_>) -> f64 {
    run(link, 30.0, None, MOST).good_per_s / run(link, 30.0, Some(MOST), MOST).good_per_s
}

use JobType::{CheckUser, CreateUser};
use LoadSign::{Overloaded, Worked};

/// Up to `knee` concurrent calls take `base_ms`. Further calls queue behind each other.
fn queueing(base_ms: f64, knee: usize, in_flight: usize) -> f64 {
    base_ms * (in_flight as f64 / knee as f64).max(1.0)
}

#[test]
fn it_settles_where_the_link_wants_it() {
    let wide: Link<'_> = &|_, _, _| (CheckUser, 40.0, Worked);
    let knee: Link<'_> = &|_, now, _| (CheckUser, queueing(40.0, 8, now), Worked);
    let jitter: Link<'_> = &|chance, _, _| (CheckUser, 40.0 + 60.0 * chance.next(), Worked);
    let drop: Link<'_> = &|chance, now, _| {
        let sign = if chance.next() < 0.02 { Overloaded } else { Worked };
        (CheckUser, queueing(40.0, 8, now) + 5.0 * chance.next(), sign)
    };
    let slower: Link<'_> = &|_, _, at_ms| (CheckUser, if at_ms < 5e3 { 8.0 } else { 200.0 }, Worked);
    let slow_start: Link<'_> = &|_, _, at_ms| (CheckUser, if at_ms < 5e3 { 400.0 } else { 40.0 }, Worked);
    for (name, link, from, to) in [
        ("wide", wide, 58.0, 64.0),
        ("knee", knee, 7.0, 20.0),
        ("jitter", jitter, 58.0, 64.0),
        ("drop", drop, 7.0, 20.0),
        ("slower for good", slower, 58.0, 64.0),
        ("slow start", slow_start, 58.0, 64.0),
    ] {
        for start in [4, MOST] {
            let seen = run(link, 60.0, None, start);
            assert!((from..=to).contains(&seen.settled), "{name} from {start}: {seen:?}");
        }
    }
}

#[test]
fn failures_that_do_not_depend_on_load_cost_nothing_more() {
    for percent in [3.0, 8.0, 12.0, 20.0, 40.0, 60.0] {
        for (what, sign, ms) in
            [("500s", LoadSign::None, 20.0), ("503s", Overloaded, 5.0), ("timeouts", Overloaded, 500.0)]
        {
            let link: Link<'_> = &|chance, _, _| {
                if chance.next() * 100.0 < percent { (CheckUser, ms, sign) } else { (CheckUser, 20.0, Worked) }
            };
            let kept = kept(link);
            assert!(kept > 0.9, "{percent} % of {what}: {kept:.3}");
        }
    }
}

#[test]
fn what_a_lighter_load_is_spared_shrinks_it() {
    // Beyond 16 concurrent calls, XCO turns calls away at once.
    let shedding: Link<'_> =
        &|_, now, _| if now > 16 { (CheckUser, 3.0, Overloaded) } else { (CheckUser, 40.0, Worked) };
    let seen = run(shedding, 60.0, None, MOST);
    // A constant share of failures does not hide the overload.
    let both: Link<'_> = &|chance, now, at| {
        if chance.next() < 0.15 { (CheckUser, 10.0, Overloaded) } else { shedding(chance, now, at) }
    };
    let seen2 = run(both, 60.0, None, MOST);
    assert!((12.0..=22.0).contains(&seen.settled) && seen.overloaded < 0.4, "{seen:?}");
    assert!((12.0..=30.0).contains(&seen2.settled), "{seen2:?}");
}

#[test]
fn a_slow_route_beside_a_fast_one_is_no_congestion() {
    let mixed: Link<'_> = &|chance, _, _| {
        if chance.next() < 0.5 { (CheckUser, 15.0, Worked) } else { (CreateUser, 250.0, Worked) }
    };
    let kept = kept(mixed);
    assert!(kept > 0.95, "{kept}");
    let turns: Link<'_> = &|_, _, at_ms| {
        if ((at_ms / 3e3) as u64).is_multiple_of(2) { (CheckUser, 15.0, Worked) } else { (CreateUser, 250.0, Worked) }
    };
    let kept = self::kept(turns);
    assert!(kept > 0.95, "{kept}");
}

#[test]
fn one_broken_route_does_not_slow_the_others() {
    for sign in [LoadSign::None, Overloaded] {
        let link: Link<'_> =
            &|chance, _, _| if chance.next() < 0.5 { (CreateUser, 8.0, sign) } else { (CheckUser, 20.0, Worked) };
        let kept = kept(link);
        assert!(kept > 0.95, "{kept}");
    }
}

#[test]
fn a_knee_that_moves_is_followed() {
    for (name, first, then, from, to) in [("up", 8, 40, 50.0, 64.0), ("down", 40, 8, 7.0, 22.0)] {
        let link: Link<'_> =
            &|_, now, at_ms| (CheckUser, queueing(40.0, if at_ms < 20e3 { first } else { then }, now), Worked);
        let seen = run(link, 60.0, None, MOST);
        assert!((from..=to).contains(&seen.settled), "{name}: {seen:?}");
    }
}

#[test]
fn after_a_fault_it_is_back_at_once() {
    for ms in [5.0, 1_000.0] {
        let link: Link<'_> = &|_, _, at_ms| {
            if (10e3..13e3).contains(&at_ms) { (CheckUser, ms, Overloaded) } else { (CheckUser, 20.0, Worked) }
        };
        let seen = run(link, 15.0, None, MOST);
        assert_eq!(seen.last_limit, MOST);
    }
}

#[test]
fn demand_grows_it_although_one_lane_may_not_use_all() {
    let mut adaptive = Adaptive::new(policy());
    adaptive.limit = 4.0;
    for n in 0..2_000_u64 {
        // Bulk leaves half of the slots free for interactive jobs, and few of those arrive.
        let in_flight = (adaptive.limit() / 2).max(1);
        let at = Duration::from_millis(n);
        let latency = Duration::from_millis(20);
        adaptive.record(ObservedCall { route: CreateUser, latency, sign: Worked, in_flight, wanted: true, at });
    }
    assert_eq!(adaptive.known(), MOST);
}

#[test]
fn an_idle_worker_does_not_grow_and_noise_does_not_shrink_it() {
    let mut adaptive = Adaptive::new(policy());
    adaptive.limit = 10.0;
    for n in 0..1_000_u64 {
        adaptive.record(ObservedCall {
            route: CheckUser,
            latency: Duration::from_micros(100 + n % 20_000),
            sign: Worked,
            in_flight: 3,
            wanted: false,
            at: Duration::from_millis(n),
        });
    }
    assert_eq!(adaptive.limit(), 10);
}
