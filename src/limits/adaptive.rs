//! Adapts the number of concurrent calls to what XCO can take. Pure: the tests simulate it against models of network
//! links.
//!
//! There is one rule: **the limit shrinks only for problems that a lighter load would avoid.** To know how calls behave
//! under a light load, the worker tries it: now and then it reduces its concurrent calls to a quarter of the limit for
//! a moment (as in BBR's `ProbeRTT`). This gives each route a baseline: its usual latency, and its usual share of calls
//! that XCO turns away (503) or leaves unanswered. At full load, the limit shrinks by a tenth if calls spend more time
//! waiting in XCO than being processed, or if clearly more of them are turned away than under a light load. Otherwise
//! it grows by a tenth while there is demand.
//!
//! TCP's congestion avoidance uses additive increase and multiplicative decrease on failures, because a lost packet
//! means congestion. Here, most failures do not. A constant share of failing calls would shrink the limit in every
//! window, and one slow route beside a fast one would look like a queue. A comparison with the same route under a light
//! load avoids both errors. And because the limit grows as fast as it shrinks, a wrong decision costs a tenth for a
//! moment.

use crate::contract::JobType;
use std::time::Duration;

/// The bounds of the adaptive limit, and the definition of a slow call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptivePolicy {
    /// Minimum number of concurrent calls.
    pub least: usize,
    /// Maximum number of concurrent calls: `worker.concurrency`.
    pub most: usize,
    /// Calls are slow if they take more than this many times the usual latency, and also exceed it by `slow_by`.
    pub slow_factor: f64,
    /// Calls are slow only if they exceed the usual latency by at least this much. Jitter of a few milliseconds is not
    /// congestion.
    pub slow_by: Duration,
}

/// What the end of a call says about the load on XCO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSign {
    /// XCO did the work, so the latency is meaningful.
    Worked,
    /// XCO turned the call away or did not answer in time. It may be overloaded.
    Overloaded,
    /// The call says nothing about the load: another kind of failure, or an answer before any work was done.
    None,
}

/// A call that ended, as the limit sees it.
#[derive(Debug, Clone, Copy)]
pub struct ObservedCall {
    /// The route of the call, named by the job type.
    pub route: JobType,
    /// The duration of the call.
    pub latency: Duration,
    /// What the call says about the load on XCO.
    pub sign: LoadSign,
    /// Number of calls in flight when this call ended, including itself.
    pub in_flight: usize,
    /// Whether jobs are waiting for a worker slot.
    pub wanted: bool,
    /// When the call ended, on a monotonic clock.
    pub at: Duration,
}

/// The limit on one worker's concurrent calls.
#[derive(Debug, Clone)]
pub struct Adaptive {
    policy: AdaptivePolicy,
    limit: f64,
    /// The baseline of each route: how calls behave under a light load.
    usual: [Usual; ROUTES],
    phase: Phase,
    /// Start and end of the last light load. A call that began within it counts towards the baseline, whenever it ends.
    light: (Duration, Duration),
    window: AnswerWindow,
    /// How often the limit shrank since the last light load.
    shrunk: u32,
}

const ROUTES: usize = JobType::ALL.len();

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Normal operation. The number of windows until the next light load.
    Steady(u32),
    /// The load is being reduced, but too many earlier calls are still in flight.
    Lightening,
    /// The load is light. The number of answers to calls that began since then.
    Light(usize),
}

/// Number of windows between two light loads. A light load costs the answers of about two windows.
const LIGHT_EVERY: u32 = 128;
/// Number of windows before the first light load, which comes early.
const FIRST_LIGHT: u32 = 2;
/// After shrinking this many times, the limit asks for a light load to check that the baseline still holds.
const MOST_SHRUNK: u32 = 4;
/// A light load allows this share of the limit.
const LIGHT_SHARE: f64 = 0.25;
/// Minimum number of answers for a decision.
const LEAST_ANSWERS: usize = 16;
/// A light load is given up after this many times the limit of answers.
const PATIENCE: usize = 8;
/// Factor by which the limit grows or shrinks in one step.
const STEP: f64 = 1.1;
/// Weight of all earlier light loads in the baseline latency, as a number of answers.
const FADED_TO: f64 = 2.0;
/// Share of calls that may be turned away beyond the usual share without being a sign of overload.
const TOLERATED: f64 = 0.1;

/// The baseline of a route: how its calls behave under a light load.
#[derive(Debug, Clone, Copy, Default)]
struct Usual(RouteTally);

impl Usual {
    /// Reduces the weight of earlier light loads when a new one begins.
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

/// The answers of one route in a window.
#[derive(Debug, Clone, Copy, Default)]
struct RouteTally {
    answers: f64,
    worked: f64,
    latency_sum: f64,
    overloaded: f64,
}

/// The answers since the last decision: about one round trip.
#[derive(Debug, Clone, Default)]
struct AnswerWindow {
    answers: usize,
    routes: [RouteTally; ROUTES],
    peak: usize,
    wanted: bool,
}

impl Adaptive {
    /// Starts at the maximum. The limit shrinks when there is a reason.
    pub fn new(policy: AdaptivePolicy) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
        let limit = policy.most as f64;
        Self {
            policy,
            limit,
            usual: [Usual::default(); ROUTES],
            phase: Phase::Steady(FIRST_LIGHT),
            light: (Duration::MAX, Duration::MAX),
            window: AnswerWindow::default(),
            shrunk: 0,
        }
    }

    /// Sets the maximum. A limit that stood at the former maximum follows it; one that has shrunk stays, and grows from there.
    #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
    pub fn set_most(&mut self, most: usize) {
        let most = most.max(1);
        let was_unlimited = self.limit >= self.policy.most as f64;
        self.policy.least = self.policy.least.min(most);
        self.policy.most = most;
        self.limit = if was_unlimited { most as f64 } else { self.limit.min(most as f64) };
    }

    /// The current limit, reduced during a light load.
    pub fn limit(&self) -> usize {
        self.bounded(if matches!(self.phase, Phase::Steady(_)) { 1.0 } else { LIGHT_SHARE })
    }

    /// The number of concurrent calls that XCO is known to take. It differs from [`limit`](Self::limit) only during a
    /// light load.
    pub fn known(&self) -> usize {
        self.bounded(1.0)
    }

    fn bounded(&self, share: f64) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between least and most")]
        let limit = (self.limit * share) as usize;
        limit.clamp(if share < 1.0 { 1 } else { self.policy.least.max(1) }, self.policy.most.max(1))
    }

    /// Records a call that ended. Returns whether the limit changed.
    pub fn record(&mut self, call: ObservedCall) -> bool {
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
            // Interactive jobs may be in flight in addition to the bulk jobs that a light load allows.
            Phase::Lightening if call.in_flight <= (known / 2).max(before) => {
                self.usual.iter_mut().for_each(Usual::fade);
                self.light = (call.at, Duration::MAX);
                (self.phase, self.window) = (Phase::Light(0), AnswerWindow::default());
            }
            Phase::Lightening if in_vain => self.steady(),
            Phase::Lightening => {}
            Phase::Light(answers) => {
                let answers = answers + usize::from(began >= self.light.0);
                self.phase = Phase::Light(answers);
                let wanted = (2 * before).max(LEAST_ANSWERS);
                if answers >= wanted / 2 || in_vain {
                    // Calls that begin after this point would end under a full load.
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
        (self.phase, self.window, self.shrunk) = (Phase::Steady(LIGHT_EVERY), AnswerWindow::default(), 0);
    }

    #[allow(clippy::cast_precision_loss, reason = "thousands at most")]
    fn look(&mut self, window: &AnswerWindow) {
        let light = window.peak as f64 <= self.limit * LIGHT_SHARE;
        if light {
            // There are so few calls that the load is light already.
            for (usual, seen) in self.usual.iter_mut().zip(&window.routes) {
                usual.fade();
                usual.0.add(seen);
            }
        } else if self.is_too_much(window) {
            if self.shrunk >= MOST_SHRUNK {
                (self.phase, self.window) = (Phase::Lightening, AnswerWindow::default());
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

    /// Whether a lighter load would avoid some of the delay or some of the refusals.
    fn is_too_much(&self, window: &AnswerWindow) -> bool {
        let (mut took, mut usual_s, mut worked) = (0.0, 0.0, 0.0);
        let (mut overloaded, mut expected, mut variance, mut answers) = (0.0, 0.0, 0.0, 0.0);
        for (usual, seen) in self.usual.iter().zip(&window.routes) {
            if let Some(latency) = usual.latency() {
                took += seen.latency_sum;
                usual_s += latency * seen.worked;
                worked += seen.worked;
            }
            let share = usual.overloaded_share();
            // The share is never certain: (k + 1) / (n + 2) is Laplace's rule of succession.
            let likely = (usual.0.overloaded + 1.0) / (usual.0.answers + 2.0);
            let spread = seen.answers / usual.0.answers.max(1.0);
            overloaded += seen.overloaded;
            expected += share * seen.answers;
            variance += seen.answers * likely * (1.0 - likely) * (1.0 + spread);
            answers += seen.answers;
        }
        // Weighted by time: the share of waiting in the total time that calls occupy their slots.
        let slow =
            took > usual_s * self.policy.slow_factor && took > usual_s + worked * self.policy.slow_by.as_secs_f64();
        slow || overloaded > expected + answers * TOLERATED + variance.sqrt()
    }
}

impl RouteTally {
    fn count(&mut self, call: ObservedCall) {
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
