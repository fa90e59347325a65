//! How many calls XCO takes at once. Pure: it is simulated against models of links in the tests.
//!
//! There is one rule: **the number shrinks for what a lighter load would be spared, and for nothing else.** What calls are like
//! under a light load is seen by trying: now and then the calls at once are a quarter of the limit for a moment (as in BBR's
//! `ProbeRTT`). That gives each route a baseline: its usual latency, and its usual share of calls that XCO turns away (503) or
//! leaves unanswered. At full load, the limit shrinks by a tenth where calls wait in XCO for more than they are worked on,
//! or where clearly more of them are turned away than under a light load. Else it grows by a tenth while it is wanted.
//!
//! Why not additive increase and multiplicative decrease on failures, as in TCP's congestion avoidance: there a loss means
//! congestion. Here, most failures do not. A constant share of failing calls would shrink the limit again with every window,
//! and one slow route beside a fast one would look like a queue. A comparison with the same route under a light load knows
//! the difference. And because growing is as fast as shrinking, a window that was judged wrongly costs a tenth for a moment.

use crate::contract::JobType;
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

/// What the end of a call says of the load on XCO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSign {
    /// XCO did its work: how long it took tells something.
    Worked,
    /// XCO turned the call away or did not answer in time: it may have too much to do.
    Overloaded,
    /// Nothing: a failure of another kind, or an answer given before any work.
    None,
}

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub struct CallSeen {
    /// The route, named by the job type whose call it is.
    pub route: JobType,
    /// How long it took.
    pub latency: Duration,
    /// What it says of the load.
    pub sign: LoadSign,
    /// Calls under way when it ended, itself included.
    pub in_flight: usize,
    /// Whether jobs wait for a slot.
    pub wanted: bool,
    /// When it ended, on a monotonic clock.
    pub at: Duration,
}

/// The number of calls that one worker has under way at most.
#[derive(Debug, Clone)]
pub struct Adaptive {
    policy: AdaptivePolicy,
    limit: f64,
    /// By route: what calls are like under a light load.
    usual: [Usual; ROUTES],
    phase: Phase,
    /// Calls that began within this time tell what a light load is like, whenever they end.
    light: (Duration, Duration),
    window: Window,
    /// How often it shrank since the last light load.
    shrunk: u32,
}

const ROUTES: usize = JobType::ALL.len();

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// So many windows until the next light load.
    Steady(u32),
    /// The load is being lightened: too many calls of before are still under way.
    Lightening,
    /// It is light. So many answers to calls that began since are in.
    Light(usize),
}

/// Windows between light loads: one costs the answers of about two windows' time.
const LIGHT_EVERY: u32 = 128;
/// The first one comes soon.
const FIRST_LIGHT: u32 = 2;
/// After shrinking so often, a light load shows whether the baseline still holds.
const MOST_SHRUNK: u32 = 4;
/// The share of all calls that a light load has under way.
const LIGHT_SHARE: f64 = 0.25;
/// Fewer answers than this say nothing.
const LEAST_ANSWERS: usize = 16;
/// A light load that has not come about after this many times the limit of answers is given up.
const PATIENCE: usize = 8;
/// The step up or down.
const STEP: f64 = 1.1;
/// The latencies of light loads before count for as much as this many answers.
const FADED_TO: f64 = 2.0;
/// Calls turned away beyond the usual share that are no sign of too much load.
const TOLERATED: f64 = 0.1;

/// What calls of a route are like under a light load.
#[derive(Debug, Clone, Copy, Default)]
struct Usual(Tally);

impl Usual {
    /// A light load begins: what was seen of others counts less.
    fn fade(&mut self) {
        let Self(seen) = self;
        let share = if seen.worked > FADED_TO { FADED_TO / seen.worked } else { 1.0 };
        (seen.worked, seen.latency_sum) = (seen.worked * share, seen.latency_sum * share);
        (seen.answers, seen.overloaded) = (seen.answers / 2.0, seen.overloaded / 2.0);
    }

    fn latency(&self) -> Option<f64> {
        (self.0.worked > 0.0).then(|| self.0.latency_sum / self.0.worked)
    }

    fn overloaded_share(&self) -> f64 {
        if self.0.answers > 0.0 { self.0.overloaded / self.0.answers } else { 0.0 }
    }
}

/// Answers of one route in a window.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    answers: f64,
    worked: f64,
    latency_sum: f64,
    overloaded: f64,
}

/// The answers since the limit was looked at last: about one round trip.
#[derive(Debug, Clone, Default)]
struct Window {
    answers: usize,
    routes: [Tally; ROUTES],
    peak: usize,
    wanted: bool,
}

impl Adaptive {
    /// Begins with the most: it shrinks when there is a reason.
    pub fn new(policy: AdaptivePolicy) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
        let limit = policy.most as f64;
        Self {
            policy,
            limit,
            usual: [Usual::default(); ROUTES],
            phase: Phase::Steady(FIRST_LIGHT),
            light: (Duration::MAX, Duration::MAX),
            window: Window::default(),
            shrunk: 0,
        }
    }

    /// Calls at once, at the moment.
    pub fn limit(&self) -> usize {
        self.bounded(if matches!(self.phase, Phase::Steady(_)) { 1.0 } else { LIGHT_SHARE })
    }

    /// Calls at once that XCO is known to take: what [`limit`](Self::limit) is, but for the moments of a light load.
    pub fn known(&self) -> usize {
        self.bounded(1.0)
    }

    fn bounded(&self, share: f64) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between least and most")]
        let limit = (self.limit * share) as usize;
        limit.clamp(if share < 1.0 { 1 } else { self.policy.least.max(1) }, self.policy.most.max(1))
    }

    /// A call ended. Returns whether the limit changed.
    pub fn record(&mut self, call: CallSeen) -> bool {
        let before = self.limit();
        let known = self.known();
        self.window.answers += 1;
        self.window.peak = self.window.peak.max(call.in_flight);
        self.window.wanted |= call.wanted || call.in_flight >= before;
        let enough = self.window.answers >= known.max(LEAST_ANSWERS);
        let in_vain = self.window.answers >= known.saturating_mul(PATIENCE).max(LEAST_ANSWERS);
        let began = call.at.saturating_sub(call.latency);
        let was_light = (self.light.0..self.light.1).contains(&began);
        if was_light {
            self.usual[call.route as usize].0.count(call);
        }
        match self.phase {
            Phase::Steady(_) => {
                self.window.routes[call.route as usize].count(call);
                if enough {
                    let window = std::mem::take(&mut self.window);
                    self.look(&window);
                }
            }
            // Interactive jobs may be under way beside the bulk that a light load leaves.
            Phase::Lightening if call.in_flight <= (known / 2).max(before) => {
                self.usual.iter_mut().for_each(Usual::fade);
                self.light = (call.at, Duration::MAX);
                (self.phase, self.window) = (Phase::Light(0), Window::default());
            }
            Phase::Lightening if in_vain => self.steady(),
            Phase::Lightening => {}
            Phase::Light(answers) => {
                let answers = answers + usize::from(began >= self.light.0);
                self.phase = Phase::Light(answers);
                let wanted = (2 * before).max(LEAST_ANSWERS);
                if answers >= wanted / 2 || in_vain {
                    // Those that begin from here on would end under a full load.
                    self.light.1 = self.light.1.min(call.at);
                }
                if answers >= wanted || in_vain {
                    self.steady();
                }
            }
        }
        self.limit() != before
    }

    fn steady(&mut self) {
        (self.phase, self.window, self.shrunk) = (Phase::Steady(LIGHT_EVERY), Window::default(), 0);
    }

    #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
    fn look(&mut self, window: &Window) {
        let light = window.peak as f64 <= self.limit * LIGHT_SHARE;
        if light {
            // So few come that no load needs to be lightened.
            for (usual, seen) in self.usual.iter_mut().zip(&window.routes) {
                usual.fade();
                usual.0.add(seen);
            }
        } else if self.is_too_much(window) {
            if self.shrunk >= MOST_SHRUNK {
                (self.phase, self.window) = (Phase::Lightening, Window::default());
                return;
            }
            self.shrunk += 1;
            self.limit = (self.limit.min(window.peak as f64) / STEP).max(self.policy.least.max(1) as f64);
            return;
        }
        if window.wanted {
            self.limit = (self.limit * STEP).max(self.limit + 1.0).min(self.policy.most as f64);
        }
        if let Phase::Steady(windows) = self.phase {
            self.phase = match windows.checked_sub(1) {
                Some(left) => Phase::Steady(left),
                None if window.wanted && !light => Phase::Lightening,
                None => Phase::Steady(0),
            };
        }
    }

    /// Whether a lighter load would be spared some of this.
    fn is_too_much(&self, window: &Window) -> bool {
        let (mut took, mut usual_s, mut worked) = (0.0, 0.0, 0.0);
        let (mut overloaded, mut expected, mut variance, mut answers) = (0.0, 0.0, 0.0, 0.0);
        for (usual, seen) in self.usual.iter().zip(&window.routes) {
            if let Some(latency) = usual.latency() {
                took += seen.latency_sum;
                usual_s += latency * seen.worked;
                worked += seen.worked;
            }
            let share = usual.overloaded_share();
            // Never quite certain: (k + 1) / (n + 2), Laplace's rule of succession.
            let likely = (usual.0.overloaded + 1.0) / (usual.0.answers + 2.0);
            let spread = seen.answers / usual.0.answers.max(1.0);
            overloaded += seen.overloaded;
            expected += share * seen.answers;
            variance += seen.answers * likely * (1.0 - likely) * (1.0 + spread);
            answers += seen.answers;
        }
        // Weighed by time: of all that calls hold their slots for, how much is waiting.
        let slow =
            took > usual_s * self.policy.slow_factor && took > usual_s + worked * self.policy.slow_by.as_secs_f64();
        slow || overloaded > expected + answers * TOLERATED + variance.sqrt()
    }
}

impl Tally {
    fn count(&mut self, call: CallSeen) {
        self.answers += 1.0;
        match call.sign {
            LoadSign::Worked => {
                self.worked += 1.0;
                self.latency_sum += call.latency.as_secs_f64();
            }
            LoadSign::Overloaded => self.overloaded += 1.0,
            LoadSign::None => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.worked += other.worked;
        self.latency_sum += other.latency_sum;
        self.overloaded += other.overloaded;
    }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
