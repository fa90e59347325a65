//! Upstream health: breakers, adaptive concurrency and retry budgets together.
//!
//! Each worker judges by its own calls. It shares an open breaker through a key in Redis that lives as long as the
//! breaker is open. Other workers read these keys twice a second.

use super::{redis_clock::RedisClock, slots::Allowed};
use crate::{
    config::Config,
    contract::{JobType, Lane},
    jobs::CredentialRefusal,
    limits::{
        Adaptive, AdaptivePolicy, BreakerPolicy, BreakerScope, BreakerState, Breakers, LoadSign, ObservedCall, Permit,
        RetryBudget, RouteEnd,
    },
};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// One worker's view of XCO's health.
#[derive(Debug)]
pub(super) struct UpstreamHealth {
    upstream: Mutex<UpstreamState>,
    /// Whether a route's breaker may not be closed; if false, callers skip the check.
    troubled: AtomicBool,
    /// Notified when a breaker opens or closes.
    changed: Notify,
}

#[derive(Debug)]
struct UpstreamState {
    breakers: Option<Breakers>,
    adaptive: Option<Adaptive>,
    /// By route.
    budgets: [RetryBudget; JobType::ALL.len()],
    most: usize,
    calls: u64,
    failures: u64,
    /// When the refusal of this client was last logged.
    refusal_logged_ms: Option<u64>,
    /// Breakers that opened and have not been shared with other workers yet.
    untold: Vec<BreakerScope>,
}

/// Minimum time between two log messages about a refusal of this client, in milliseconds.
const LOG_EVERY_MS: u64 = 30_000;

impl UpstreamState {
    /// Number of calls that may run at once.
    fn allowed(&mut self, now_ms: u64) -> Allowed {
        match (self.state(BreakerScope::All, now_ms), &self.adaptive) {
            (Some(BreakerState::Open { .. }), _) => Allowed::evenly(0),
            (Some(BreakerState::HalfOpen), _) => Allowed::evenly(1),
            (Some(BreakerState::Closed) | None, Some(adaptive)) => {
                Allowed { calls: adaptive.known(), light: adaptive.limit() }
            }
            (Some(BreakerState::Closed) | None, None) => Allowed::evenly(self.most),
        }
    }

    fn state(&mut self, scope: BreakerScope, now_ms: u64) -> Option<BreakerState> {
        self.breakers.as_mut().map(|breakers| breakers.state(scope, now_ms))
    }

    /// Counts a call in the breakers. Returns whether one opened or closed, and whether XCO newly refuses this client.
    fn classify(&mut self, seen: &CallObservation) -> (bool, bool) {
        let Some(breakers) = &mut self.breakers else { return (false, false) };
        let (mut changed, mut refused) = (false, false);
        for (scope, state) in breakers.observe(seen.route, seen.end, seen.now_ms).into_iter().flatten() {
            changed = true;
            match state {
                BreakerState::Open { .. } => {
                    self.untold.push(scope);
                    match scope {
                        BreakerScope::All if breakers.of(scope).is_refusing() => refused = true,
                        BreakerScope::All => tracing::warn!("XCO cannot be reached: no jobs are taken for a while"),
                        BreakerScope::Route(route) => {
                            tracing::warn!(
                                call = route.as_str(),
                                "XCO fails: jobs that make this call wait for a while"
                            );
                        }
                    }
                }
                BreakerState::Closed => tracing::info!(call = scope.as_str(), "XCO is back"),
                BreakerState::HalfOpen => {}
            }
        }
        (changed, refused)
    }
}

/// One finished call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallObservation {
    /// Route of the call, as the job type that owns it.
    pub(super) route: JobType,
    pub(super) latency: Duration,
    /// What the call says about XCO.
    pub(super) end: RouteEnd,
    /// What the call says about the load on XCO.
    pub(super) sign: LoadSign,
    /// Number of running calls, including this one.
    pub(super) in_flight: usize,
    /// Whether jobs wait for a slot.
    pub(super) wanted: bool,
    /// Time in milliseconds on the process's clock.
    pub(super) now_ms: u64,
}

/// Consequences of the present state of XCO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallPermits {
    /// Number of calls that may run from now on.
    pub(super) allowed: Allowed,
    /// Whether XCO is down for this route, so that failures are not counted against jobs.
    pub(super) outage: bool,
    /// Whether a refusal concerns the job or the client.
    pub(super) refusal: CredentialRefusal,
}

impl UpstreamHealth {
    pub(super) fn new(config: &Config) -> Self {
        let most = config.worker.concurrency.max(1);
        let adaptive = config.worker.adaptive.then(|| {
            Adaptive::new(AdaptivePolicy {
                least: config.worker.min_concurrency.clamp(1, most),
                most,
                slow_factor: 2.0,
                slow_by: Duration::from_millis(50),
            })
        });
        let budget = RetryBudget::new(config.retry.budget_percent());
        let upstream = UpstreamState {
            breakers: config.worker.breaker.then(|| Breakers::new(BreakerPolicy::default())),
            adaptive,
            budgets: JobType::ALL.map(|_| budget.clone()),
            most,
            calls: 0,
            failures: 0,
            refusal_logged_ms: None,
            untold: Vec::new(),
        };
        Self { upstream: Mutex::new(upstream), troubled: AtomicBool::new(false), changed: Notify::new() }
    }

    fn upstream(&self) -> MutexGuard<'_, UpstreamState> {
        // Each part is consistent between any two of its calls.
        self.upstream.lock()
    }

    /// Records a finished call.
    pub(super) fn observe(&self, seen: CallObservation) -> CallPermits {
        let mut upstream = self.upstream();
        upstream.calls += 1;
        upstream.failures += u64::from(seen.end.is_failure());
        if let Some(adaptive) = &mut upstream.adaptive {
            adaptive.record(ObservedCall {
                route: seen.route,
                latency: seen.latency,
                sign: seen.sign,
                in_flight: seen.in_flight,
                wanted: seen.wanted,
                at: Duration::from_millis(seen.now_ms),
            });
        }
        let was_outage = upstream.is_outage(seen.route, seen.now_ms);
        let (changed, refused) = upstream.classify(&seen);
        let outage = was_outage || upstream.is_outage(seen.route, seen.now_ms);
        let log_due = upstream.refusal_logged_ms.is_none_or(|at_ms| seen.now_ms.saturating_sub(at_ms) >= LOG_EVERY_MS);
        if refused && log_due {
            upstream.refusal_logged_ms = Some(seen.now_ms);
            tracing::error!(
                "XCO refuses this client, with fresh access tokens (401, 403): jobs wait, and one call at a time is tried \
                 (check xco.api_key, xco.client_id, xco.scope, xco.base_url and xco.merchant_id)"
            );
        }
        self.note_trouble(&mut upstream, seen.now_ms);
        if changed {
            self.changed.notify_one();
        }
        let refusal = upstream.refusal(&seen);
        CallPermits { allowed: upstream.allowed(seen.now_ms), outage, refusal }
    }

    /// The consequences for a job that made no call.
    pub(super) fn permits(&self, route: JobType, now_ms: u64) -> CallPermits {
        let mut upstream = self.upstream();
        CallPermits {
            allowed: upstream.allowed(now_ms),
            outage: upstream.is_outage(route, now_ms),
            refusal: CredentialRefusal::Own,
        }
    }

    /// Sets the maximum number of calls at once. Returns the number that may run now.
    pub(super) fn set_most(&self, most: usize, now_ms: u64) -> Allowed {
        let mut upstream = self.upstream();
        upstream.most = most.max(1);
        if let Some(adaptive) = &mut upstream.adaptive {
            adaptive.set_most(most);
        }
        upstream.allowed(now_ms)
    }

    fn note_trouble(&self, upstream: &mut UpstreamState, now_ms: u64) {
        let troubled = upstream.breakers.as_mut().is_some_and(|breakers| breakers.any_route(now_ms));
        self.troubled.store(troubled, Ordering::Release);
    }

    /// Whether a route's breaker is not closed, as far as this worker knows.
    pub(super) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// The answer that [`UpstreamHealth::ask`] would give, without taking a permit.
    pub(super) fn look(&self, route: JobType, lane: Lane, now_ms: u64) -> Permit {
        if !self.is_troubled() {
            return Permit::Go;
        }
        self.upstream().breakers.as_mut().map_or(Permit::Go, |breakers| breakers.look(route, lane, now_ms))
    }

    /// Asks for a permit to call now. A [`Permit::Probe`] lasts until [`UpstreamHealth::end_probe`].
    pub(super) fn ask(&self, route: JobType, lane: Lane, now_ms: u64) -> Permit {
        if !self.is_troubled() {
            return Permit::Go;
        }
        self.upstream().breakers.as_mut().map_or(Permit::Go, |breakers| breakers.ask(route, lane, now_ms))
    }

    fn end_probe(&self, route: JobType) {
        if let Some(breakers) = &mut self.upstream().breakers {
            breakers.end_probe(route);
        }
    }

    /// Whether only one call at a time is allowed, on all routes together.
    pub(super) fn is_trying(&self, now_ms: u64) -> bool {
        self.upstream().state(BreakerScope::All, now_ms) == Some(BreakerState::HalfOpen)
    }

    /// Whether a route's breaker is closed.
    pub(super) fn is_closed(&self, route: JobType, now_ms: u64) -> bool {
        !self.is_troubled()
            || matches!(self.upstream().state(BreakerScope::Route(route), now_ms), None | Some(BreakerState::Closed))
    }

    /// Whether no job is read because XCO refuses this client.
    pub(super) fn is_refused(&self) -> bool {
        self.upstream().breakers.as_mut().is_some_and(|breakers| breakers.of(BreakerScope::All).is_refusing())
    }

    /// Records a first attempt, which earns retry budget.
    pub(super) fn first_attempt(&self, route: JobType) {
        self.upstream().budgets[route as usize].earn();
    }

    /// The delay of a retry, extended if the budget is spent, but not beyond `cap_ms`.
    pub(super) fn retry(&self, route: JobType, (delay_ms, cap_ms): (u64, u64), now_ms: u64) -> u64 {
        self.upstream().budgets[route as usize].spend(delay_ms, cap_ms, now_ms)
    }

    /// Number of finished calls, and of those that failed because of XCO or the network.
    pub(super) fn calls(&self) -> (u64, u64) {
        let upstream = self.upstream();
        (upstream.calls, upstream.failures)
    }

    /// State of the breaker for all calls, in one word.
    pub(super) fn breaker(&self, now_ms: u64) -> &'static str {
        self.upstream().state(BreakerScope::All, now_ms).map_or("off", word)
    }

    /// The routes whose breakers are not closed, each with one word for its state.
    pub(super) fn troubled_routes(&self, now_ms: u64) -> BTreeMap<JobType, String> {
        let mut upstream = self.upstream();
        let states = JobType::ALL.map(|route| (route, upstream.state(BreakerScope::Route(route), now_ms)));
        let open = states.into_iter().filter_map(|(route, state)| Some((route, state?)));
        open.filter(|(_, state)| *state != BreakerState::Closed)
            .map(|(route, state)| (route, word(state).to_owned()))
            .collect()
    }

    /// All breakers that are not closed, each with one word for its state.
    pub(super) fn not_closed(&self, now_ms: u64) -> BTreeMap<&'static str, &'static str> {
        let mut upstream = self.upstream();
        let open = BreakerScope::every().filter_map(|scope| Some((scope.as_str(), upstream.state(scope, now_ms)?)));
        open.filter(|(_, state)| *state != BreakerState::Closed).map(|(scope, state)| (scope, word(state))).collect()
    }

    /// Number of calls that may run at once.
    pub(super) fn allowed(&self, now_ms: u64) -> Allowed {
        let mut upstream = self.upstream();
        self.note_trouble(&mut upstream, now_ms);
        upstream.allowed(now_ms)
    }

    /// Figures for the metrics: the state of each breaker (0 closed, 1 half-open, 2 open) and the number of allowed
    /// calls.
    pub(super) fn figures(&self, clock: &RedisClock) -> (Vec<(&'static str, u64)>, usize) {
        let now_ms = clock.monotonic_ms();
        let mut upstream = self.upstream();
        let figure = |scope: BreakerScope| match upstream.state(scope, now_ms) {
            Some(BreakerState::Closed) | None => (scope.as_str(), 0),
            Some(BreakerState::HalfOpen) => (scope.as_str(), 1),
            Some(BreakerState::Open { .. }) => (scope.as_str(), 2),
        };
        let breakers = BreakerScope::every().map(figure).collect();
        (breakers, upstream.allowed(now_ms).calls)
    }

    /// Waits until a breaker has opened or closed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The breakers that opened since the last call, and the remaining milliseconds of each.
    pub(super) fn take_opened(&self, now_ms: u64) -> Vec<(BreakerScope, u64)> {
        let mut upstream = self.upstream();
        let untold = std::mem::take(&mut upstream.untold);
        let open_for = |scope| match upstream.state(scope, now_ms) {
            Some(BreakerState::Open { until_ms }) if until_ms > now_ms => Some((scope, until_ms - now_ms)),
            _ => None,
        };
        untold.into_iter().filter_map(open_for).collect()
    }

    /// Adopts breakers that are open on another worker, with the remaining milliseconds of each.
    pub(super) fn adopt(&self, open: &[(BreakerScope, u64)], now_ms: u64) {
        let mut upstream = self.upstream();
        if let Some(breakers) = &mut upstream.breakers {
            for (scope, open_ms) in open {
                breakers.of(*scope).adopt(Some(now_ms.saturating_add(*open_ms)), now_ms);
            }
        }
        self.note_trouble(&mut upstream, now_ms);
    }
}

impl UpstreamState {
    fn is_outage(&mut self, route: JobType, now_ms: u64) -> bool {
        self.breakers.as_mut().is_some_and(|breakers| breakers.is_outage(route, now_ms))
    }

    fn refusal(&mut self, seen: &CallObservation) -> CredentialRefusal {
        let Some(breakers) = &mut self.breakers else { return CredentialRefusal::Own };
        let all = breakers.of(BreakerScope::All);
        let open = all.state(seen.now_ms) != BreakerState::Closed;
        match seen.end {
            RouteEnd::Refused { .. } if open && all.is_refusing() => CredentialRefusal::Everybodys,
            // If another worker opened the breaker, this one does not know why.
            RouteEnd::Refused { .. } if open || all.refusals_in_a_row() > 1 => CredentialRefusal::Suspected,
            _ => CredentialRefusal::Own,
        }
    }
}

const fn word(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Closed => "closed",
    }
}

/// Marks a call that probes a route. No other call does so until this is dropped.
#[derive(Debug)]
pub(super) struct Probe {
    upstream_health: Arc<UpstreamHealth>,
    route: JobType,
}

impl Probe {
    pub(super) const fn new(upstream_health: Arc<UpstreamHealth>, route: JobType) -> Self {
        Self { upstream_health, route }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.upstream_health.end_probe(self.route);
    }
}
