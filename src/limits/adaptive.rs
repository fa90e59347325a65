//! How many calls XCO takes at once: additive increase, multiplicative decrease, on latency and failures.
//!
//! The idea is that of TCP's congestion avoidance, of Netflix's concurrency-limits and of Vector's Adaptive Request
//! Concurrency: while answers come as fast as they used to and all slots are used, one more is tried; when they slow down or
//! fail, the number shrinks by a tenth. Pure: it is simulated against models of links in the tests.

use std::time::Duration;

/// Between which bounds, and what counts as slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptivePolicy {
    /// Never fewer.
    pub least: usize,
    /// Never more: `worker.concurrency`.
    pub most: usize,
    /// Slower than this many times the usual is slow …
    pub slow_factor: f64,
    /// … if it is slower by this much, too: jitter of a few milliseconds is not congestion.
    pub slow_by: Duration,
}

/// The number of calls that one worker has under way at most.
#[derive(Debug, Clone)]
pub struct Adaptive {
    policy: AdaptivePolicy,
    limit: f64,
    /// The latency of a lightly loaded XCO in seconds, as the last probe (or any faster window since) found it.
    usual: Option<f64>,
    phase: Phase,
    window: Window,
}

/// What is usual can only be seen under a light load, as in BBR's `ProbeRTT`: now and then the load is lightened for a
/// moment. Without that, a start in full load would take the congestion itself for usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// So many windows until the next probe.
    Steady(u32),
    /// Answers to calls of before are still coming.
    Draining,
    /// These answers tell what is usual.
    Probing,
}

/// Windows between probes: with two windows at a quarter of the load, probing costs about 2 % of the throughput.
const PROBE_EVERY: u32 = 64;
/// The first one comes soon.
const FIRST_PROBE: u32 = 2;

/// The answers since the limit was looked at last: one window is as many answers as the limit, about one round trip.
#[derive(Debug, Clone, Default)]
struct Window {
    answers: usize,
    failures: usize,
    latency_sum: f64,
    full: bool,
}

impl Adaptive {
    /// Begins with the most: it shrinks when there is a reason.
    pub fn new(policy: AdaptivePolicy) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
        let limit = policy.most as f64;
        Self { policy, limit, usual: None, phase: Phase::Steady(FIRST_PROBE), window: Window::default() }
    }

    /// Calls at once, at the moment.
    pub fn limit(&self) -> usize {
        self.bounded(if matches!(self.phase, Phase::Steady(_)) { 1.0 } else { 0.25 })
    }

    /// Calls at once that XCO is known to take: what [`limit`](Self::limit) is, but for the moments in which a light load is to
    /// tell what is usual.
    pub fn known(&self) -> usize {
        self.bounded(1.0)
    }

    fn bounded(&self, share: f64) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between least and most")]
        let limit = (self.limit * share) as usize;
        limit.clamp(self.policy.least.max(1), self.policy.most.max(1))
    }

    /// A call ended after `latency`, with `in_flight` under way at that moment (itself included); `failed` by XCO's or the
    /// network's fault. Returns whether the limit changed.
    pub fn record(&mut self, latency: Duration, failed: bool, in_flight: usize) -> bool {
        let before = self.limit();
        self.window.answers += 1;
        self.window.failures += usize::from(failed);
        self.window.full |= in_flight >= before;
        if !failed {
            self.window.latency_sum += latency.as_secs_f64();
        }
        // What was under way when the load was lightened must have come back before a probe counts.
        let enough = if self.phase == Phase::Draining { before * 4 } else { before };
        if self.window.answers >= enough {
            let window = std::mem::take(&mut self.window);
            self.look(&window);
        }
        self.limit() != before
    }

    #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
    fn look(&mut self, window: &Window) {
        let successes = window.answers - window.failures;
        let mean = (successes > 0).then(|| window.latency_sum / successes as f64);
        match self.phase {
            Phase::Draining => self.phase = Phase::Probing,
            Phase::Probing => {
                self.usual = mean.or(self.usual);
                self.phase = Phase::Steady(PROBE_EVERY);
            }
            Phase::Steady(windows) => {
                // Only a worker whose slots are all in use can tell, or needs to know, that there are too many.
                let slow = match (self.usual, mean) {
                    (Some(usual), Some(mean)) => {
                        mean > usual * self.policy.slow_factor && mean > usual + self.policy.slow_by.as_secs_f64()
                    }
                    _ => false,
                };
                if slow || window.failures * 10 > window.answers {
                    self.limit = (self.limit * 0.9).max(self.policy.least.max(1) as f64);
                } else if window.full {
                    self.limit = (self.limit + 1.0).min(self.policy.most as f64);
                }
                if let (Some(usual), Some(mean)) = (self.usual, mean) {
                    self.usual = Some(usual.min(mean));
                }
                self.phase = match windows.checked_sub(1) {
                    Some(left) => Phase::Steady(left),
                    None if window.full => Phase::Draining,
                    None => Phase::Steady(0),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link: up to `knee` calls at once take `base_ms`; beyond it they queue behind each other; some share is dropped.
    struct Link {
        name: &'static str,
        base_ms: f64,
        knee: usize,
        jitter_ms: f64,
        drop_percent: u64,
        /// Slower by this factor during the first windows.
        slow_start: f64,
    }

    const LINKS: [Link; 6] = [
        Link { name: "wide", base_ms: 40.0, knee: 1_000, jitter_ms: 0.0, drop_percent: 0, slow_start: 1.0 },
        Link { name: "knee", base_ms: 40.0, knee: 20, jitter_ms: 0.0, drop_percent: 0, slow_start: 1.0 },
        Link { name: "jitter", base_ms: 40.0, knee: 1_000, jitter_ms: 60.0, drop_percent: 0, slow_start: 1.0 },
        Link { name: "drop", base_ms: 40.0, knee: 20, jitter_ms: 5.0, drop_percent: 2, slow_start: 1.0 },
        Link { name: "slower for good", base_ms: 40.0, knee: 1_000, jitter_ms: 5.0, drop_percent: 0, slow_start: 0.2 },
        Link { name: "slow start", base_ms: 40.0, knee: 1_000, jitter_ms: 5.0, drop_percent: 0, slow_start: 10.0 },
    ];

    /// Runs saturated rounds over a link; returns the mean limit of the last half.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn saturate(link: &Link, start: usize, rounds: usize) -> f64 {
        let policy = AdaptivePolicy { least: 2, most: 100, slow_factor: 1.5, slow_by: Duration::from_millis(25) };
        let mut adaptive = Adaptive::new(policy);
        adaptive.limit = start as f64;
        let mut seed = 42_u64;
        let mut chance = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % 1_000
        };
        let mut sum = 0.0;
        for round in 0..rounds {
            let in_flight = adaptive.limit();
            let over = in_flight as f64 / link.knee as f64;
            let slow = if round < 50 { link.slow_start } else { 1.0 };
            for _ in 0..in_flight {
                let jitter = chance() as f64 / 1_000.0 * link.jitter_ms;
                let latency_ms = link.base_ms * over.max(1.0) * slow + jitter;
                let dropped = chance() < link.drop_percent * 10;
                adaptive.record(Duration::from_secs_f64(latency_ms / 1_000.0), dropped, in_flight);
            }
            if round >= rounds / 2 {
                sum += in_flight as f64;
            }
        }
        sum / (rounds - rounds / 2) as f64
    }

    #[test]
    fn it_settles_where_the_link_wants_it() {
        // The mean includes the probes.
        for (link, from, to) in [
            (&LINKS[0], 90.0, 100.0),
            (&LINKS[1], 15.0, 45.0),
            (&LINKS[2], 85.0, 100.0),
            (&LINKS[3], 12.0, 45.0),
            (&LINKS[4], 85.0, 100.0),
            (&LINKS[5], 90.0, 100.0),
        ] {
            for start in [2, 100] {
                let settled = saturate(link, start, 600);
                assert!((from..=to).contains(&settled), "{} from {start}: {settled}", link.name);
            }
        }
    }

    #[test]
    fn failures_shrink_it_to_its_least_and_successes_bring_it_back() {
        let policy = AdaptivePolicy { least: 4, most: 64, slow_factor: 1.5, slow_by: Duration::from_millis(25) };
        let mut adaptive = Adaptive::new(policy);
        for _ in 0..5_000 {
            adaptive.record(Duration::from_millis(1), true, 64);
        }
        assert_eq!(adaptive.limit(), 4);
        for _ in 0..5_000 {
            let limit = adaptive.limit();
            adaptive.record(Duration::from_millis(1), false, limit);
        }
        assert_eq!(adaptive.limit(), 64);
    }

    #[test]
    fn an_idle_worker_does_not_grow_and_noise_does_not_shrink_it() {
        let policy = AdaptivePolicy { least: 1, most: 64, slow_factor: 1.5, slow_by: Duration::from_millis(25) };
        let mut adaptive = Adaptive::new(policy);
        adaptive.limit = 10.0;
        for n in 0..1_000_u64 {
            adaptive.record(Duration::from_micros(100 + n % 20_000), false, 3);
        }
        assert_eq!(adaptive.limit(), 10);
    }
}
