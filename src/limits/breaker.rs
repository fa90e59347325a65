//! The circuit breaker: while XCO fails, the worker takes no jobs, so that no job uses up an attempt and the order is
//! kept.
//!
//! Pure: callers pass times in milliseconds on a clock of their choice. The breaker controls the *reading* of jobs, not
//! the calls: a job that was read makes its call. Each worker counts its own calls. The result is shared through Redis,
//! and the other workers [adopt](Breaker::adopt) it.
//!
//! The breaker has a second reason to open: XCO works but refuses this client in every call (a wrong `x-api-key`, a
//! failure of the identity provider). Without the breaker, every job would quickly end as refused for a reason that is
//! not its own.
//!
//! ```text
//!            failures in a row, or their share in a window
//!   Closed ────────────────────────────────────────────────▶ Open (1 s, then longer, up to 5 s)
//!     ▲                                                        │ its time is up
//!     └──────────── a few successes ──────────── Half-open ◀───┘
//!                                                  │ a failure
//!                                                  └────────────▶ Open, for longer
//! ```

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Number of failures in a row that opens the breaker. One more is required for each doubling of the other calls in
    /// the window, because among many calls a long series of failures can happen by chance.
    pub in_a_row: u32,
    /// Minimum number of calls in a window before the share of failures counts.
    pub least_calls: u32,
    /// Percentage of failures that opens the breaker, once chance cannot explain it. By chance, the number of failures
    /// among n calls deviates by half the square root of n. The excess must be four times that.
    pub share_percent: u32,
    /// The length of the window, in milliseconds.
    pub window_ms: u64,
    /// How long the breaker stays open the first time, in milliseconds.
    pub open_ms: u64,
    /// Maximum time that the breaker stays open before the next probe, in milliseconds.
    pub most_open_ms: u64,
    /// Number of successes in a row that closes the breaker.
    pub probes: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            in_a_row: 20,
            least_calls: 40,
            share_percent: 50,
            window_ms: 10_000,
            open_ms: 1_000,
            most_open_ms: 5_000,
            probes: 3,
        }
    }
}

/// What the end of a call says about XCO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// XCO accepted this client. Its answer is about the job.
    Accepted,
    /// The call failed because of XCO or the network.
    Failed,
    /// XCO refused this client.
    Refused {
        /// Number of refusals in a row that opens the breaker.
        in_a_row: u32,
    },
    /// XCO answered, but the answer does not show whether XCO accepts this client.
    Answered,
}

/// Which jobs the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All jobs.
    Closed,
    /// No jobs until `until_ms`.
    Open {
        /// The end of the open state, in milliseconds on the caller's clock.
        until_ms: u64,
    },
    /// One job at a time.
    HalfOpen,
}

/// The circuit breaker of one worker.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    failures_in_a_row: u32,
    refusals_in_a_row: u32,
    refusing: bool,
    successes_in_a_row: u32,
    window_since_ms: u64,
    window_calls: u32,
    window_failures: u32,
    next_open_ms: u64,
    half_open_since_ms: u64,
}

impl Breaker {
    /// Creates a closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: BreakerState::Closed,
            failures_in_a_row: 0,
            refusals_in_a_row: 0,
            refusing: false,
            successes_in_a_row: 0,
            window_since_ms: 0,
            window_calls: 0,
            window_failures: 0,
            next_open_ms: policy.open_ms,
            half_open_since_ms: 0,
        }
    }

    /// Returns the state at `now_ms`.
    pub const fn state(&mut self, now_ms: u64) -> BreakerState {
        if let BreakerState::Open { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.state = BreakerState::HalfOpen;
            self.half_open_since_ms = until_ms;
            self.successes_in_a_row = 0;
        }
        self.state
    }

    /// Records a call that ended. `failed` means that XCO or the network failed, not the job. Returns whether the state
    /// changed.
    pub fn record(&mut self, failed: bool, now_ms: u64) -> bool {
        self.observe(if failed { CallEnd::Failed } else { CallEnd::Accepted }, now_ms)
    }

    /// Records a call that ended. Returns whether the state changed.
    pub fn observe(&mut self, end: CallEnd, now_ms: u64) -> bool {
        let before = self.state(now_ms);
        let failed = end == CallEnd::Failed;
        if now_ms.saturating_sub(self.window_since_ms) >= self.policy.window_ms {
            (self.window_since_ms, self.window_calls, self.window_failures) = (now_ms, 0, 0);
        }
        self.window_calls = self.window_calls.saturating_add(1);
        if failed {
            self.window_failures = self.window_failures.saturating_add(1);
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        } else {
            self.failures_in_a_row = 0;
        }
        let mut refused = false;
        match end {
            CallEnd::Failed => self.successes_in_a_row = 0,
            CallEnd::Refused { in_a_row } => {
                self.successes_in_a_row = 0;
                self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
                refused = self.refusing || self.refusals_in_a_row >= in_a_row;
            }
            CallEnd::Accepted => {
                self.successes_in_a_row = self.successes_in_a_row.saturating_add(1);
                self.refusals_in_a_row = 0;
            }
            // This answer does not show that the refusal is over.
            CallEnd::Answered if self.refusing => {}
            CallEnd::Answered => self.successes_in_a_row = self.successes_in_a_row.saturating_add(1),
        }
        match before {
            BreakerState::Closed | BreakerState::HalfOpen if refused => {
                self.refusing = true;
                self.open(now_ms);
            }
            BreakerState::Closed if failed && self.too_many() => self.open(now_ms),
            BreakerState::HalfOpen if failed => self.open(now_ms),
            BreakerState::HalfOpen if self.successes_in_a_row >= self.policy.probes => self.close(now_ms),
            _ => {}
        }
        self.state != before
    }

    /// When the breaker last became half-open, in milliseconds on the caller's clock.
    pub const fn half_open_since_ms(&self) -> u64 {
        self.half_open_since_ms
    }

    /// Number of refusals since XCO last accepted a call.
    pub const fn refusals_in_a_row(&self) -> u32 {
        self.refusals_in_a_row
    }

    /// Whether the breaker is open or half-open because XCO refuses this client.
    pub const fn is_refusing(&self) -> bool {
        self.refusing
    }

    fn too_many(&self) -> bool {
        let (calls, failures) = (i64::from(self.window_calls), i64::from(self.window_failures));
        let beyond = 100 * failures - i64::from(self.policy.share_percent) * calls;
        let clearly = beyond >= 0 && beyond.saturating_mul(beyond) >= 40_000 * calls;
        let others = self.window_calls.saturating_sub(self.failures_in_a_row);
        let in_a_row = self.policy.in_a_row + others.checked_ilog2().map_or(0, |doublings| doublings + 1);
        self.failures_in_a_row >= in_a_row || (self.window_calls >= self.policy.least_calls && clearly)
    }

    fn open(&mut self, now_ms: u64) {
        self.state = BreakerState::Open { until_ms: now_ms.saturating_add(self.next_open_ms) };
        self.next_open_ms = (self.next_open_ms * 3 / 2).min(self.policy.most_open_ms);
        self.failures_in_a_row = 0;
    }

    /// Closes the breaker and resets its counters.
    pub(super) fn close(&mut self, now_ms: u64) {
        self.state = BreakerState::Closed;
        self.next_open_ms = self.policy.open_ms;
        (self.window_since_ms, self.window_calls, self.window_failures) = (now_ms, 0, 0);
        (self.failures_in_a_row, self.refusals_in_a_row, self.refusing) = (0, 0, false);
    }

    /// Adopts the result of another worker. `Some` is the end of its open state. `None` means that no worker's breaker
    /// is open, and changes nothing.
    pub fn adopt(&mut self, open_until_ms: Option<u64>, now_ms: u64) {
        match (self.state(now_ms), open_until_ms) {
            (BreakerState::Closed | BreakerState::HalfOpen, Some(until_ms)) if until_ms > now_ms => {
                self.state = BreakerState::Open { until_ms };
            }
            (BreakerState::Open { until_ms: own }, Some(until_ms)) if until_ms > own => {
                self.state = BreakerState::Open { until_ms };
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy::default())
    }

    #[test]
    fn failures_in_a_row_open_it_and_successes_close_it() {
        let mut breaker = breaker();
        for at in 0..19 {
            assert!(!breaker.record(true, at));
        }
        assert!(breaker.record(true, 9));
        assert_eq!(breaker.state(10), BreakerState::Open { until_ms: 1009 });
        assert_eq!(breaker.state(1009), BreakerState::HalfOpen);
        assert!(!breaker.record(false, 1010));
        assert!(!breaker.record(false, 1011));
        assert!(breaker.record(false, 1012));
        assert_eq!(breaker.state(1012), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer_up_to_a_bound() {
        let mut breaker = breaker();
        let mut now = 0;
        for _ in 0..20 {
            breaker.record(true, now);
        }
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let BreakerState::Open { until_ms } = breaker.state(now) else { unreachable!("a failed probe opens it") };
            lengths.push(until_ms - now);
            now = until_ms;
            breaker.record(true, now);
        }
        assert_eq!(lengths, [1000, 1500, 2250, 3375, 5000, 5000, 5000, 5000]);
    }

    /// How many of ten thousand calls per second it takes to open the breaker if this share of them fails.
    fn opens_after(percent: u64, most: u64) -> Option<u64> {
        let (mut breaker, mut seed) = (breaker(), 7_u64);
        (0..most).find(|call| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            breaker.record((seed >> 33) % 100 < percent, call / 10)
        })
    }

    #[test]
    fn more_than_half_opens_it_once_that_is_no_chance() {
        assert_eq!(opens_after(40, 3_000_000), None);
        assert!(opens_after(60, 100_000).is_some_and(|calls| calls < 2_000));
        assert!(opens_after(90, 100_000).is_some_and(|calls| calls < 60));
        let mut breaker = breaker();
        for at in 0..20 {
            breaker.record(true, at);
            breaker.record(false, at);
        }
        assert_eq!(breaker.state(20), BreakerState::Closed, "20 of 40 come about by chance");
    }

    const REFUSED: CallEnd = CallEnd::Refused { in_a_row: 5 };

    #[test]
    fn refusals_in_a_row_open_it_and_calls_that_are_accepted_close_it() {
        let mut breaker = breaker();
        for at in 0..4 {
            assert!(!breaker.observe(REFUSED, at));
        }
        assert!(breaker.observe(REFUSED, 9));
        assert!(breaker.is_refusing());
        assert_eq!(breaker.state(10), BreakerState::Open { until_ms: 1009 });
        assert_eq!(breaker.state(1009), BreakerState::HalfOpen);
        assert!(breaker.observe(REFUSED, 1010), "one trial call is enough");
        assert_eq!(breaker.state(1010), BreakerState::Open { until_ms: 2510 });
        for at in 2510..2520 {
            assert!(!breaker.observe(CallEnd::Answered, at), "a 429 may come from before anybody looks at the token");
        }
        for at in 2520..2522 {
            assert!(!breaker.observe(CallEnd::Accepted, at));
        }
        assert!(breaker.observe(CallEnd::Accepted, 2522));
        assert_eq!((breaker.state(2522), breaker.is_refusing()), (BreakerState::Closed, false));
        assert_eq!(breaker.refusals_in_a_row(), 0);
    }

    #[test]
    fn one_call_that_is_accepted_ends_a_row_of_refusals_and_a_failure_does_not() {
        let mut breaker = breaker();
        for at in 0..100 {
            let end = if at % 5 == 4 { CallEnd::Accepted } else { REFUSED };
            breaker.observe(end, at);
            assert_eq!(breaker.state(at), BreakerState::Closed);
        }
        for end in [REFUSED, CallEnd::Failed, REFUSED, CallEnd::Answered, REFUSED, REFUSED] {
            assert!(!breaker.observe(end, 100));
        }
        assert!(breaker.observe(REFUSED, 100));
    }

    #[test]
    fn after_an_outage_a_refusal_is_an_answer() {
        let mut breaker = breaker();
        for at in 0..20 {
            breaker.observe(CallEnd::Failed, at);
        }
        assert!(!breaker.is_refusing());
        assert_eq!(breaker.state(1019), BreakerState::HalfOpen);
        assert!(!breaker.observe(REFUSED, 1020), "it may be the job's own");
        for at in 0..3 {
            breaker.observe(REFUSED, 1021 + at);
        }
        assert!(breaker.observe(REFUSED, 1030));
        assert!(breaker.is_refusing());
    }

    #[test]
    fn what_another_worker_found_is_adopted() {
        let mut breaker = breaker();
        breaker.adopt(Some(500), 0);
        assert_eq!(breaker.state(1), BreakerState::Open { until_ms: 500 });
        breaker.adopt(Some(400), 2);
        assert_eq!(breaker.state(3), BreakerState::Open { until_ms: 500 }, "never shortened");
        breaker.adopt(None, 3);
        assert_eq!(breaker.state(500), BreakerState::HalfOpen);
    }

    proptest! {
        #[test]
        fn it_always_comes_back(calls in proptest::collection::vec((0..4, 0_u64..3_000), 0..300)) {
            let mut breaker = breaker();
            let mut now = 0;
            for (end, after) in calls {
                now += after;
                let end = match end {
                    0 => CallEnd::Accepted,
                    1 => CallEnd::Failed,
                    2 => CallEnd::Answered,
                    _ => REFUSED,
                };
                if !matches!(breaker.state(now), BreakerState::Open { .. }) {
                    breaker.observe(end, now);
                }
            }
            now += 5_000;
            let open = matches!(breaker.state(now), BreakerState::Open { .. });
            prop_assert!(!open);
            for _ in 0..3 {
                breaker.record(false, now);
            }
            prop_assert_eq!(breaker.state(now), BreakerState::Closed);
        }
    }
}
