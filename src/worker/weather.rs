//! How XCO is doing, and what follows from it for the slots: breaker, adaptive concurrency and retry budget together.
//!
//! Each worker judges what it sees. An open breaker is told to the others by a key in Redis that lives as long as it is
//! open; they look twice a second.

use super::{clock::RedisClock, shared::Shared, slots::Allowed};
use crate::{
    config::Config,
    jobs::Refusal,
    limits::{Adaptive, AdaptivePolicy, Breaker, BreakerPolicy, BreakerState, CallEnd, RetryBudget},
    queue::{Link, upkeep},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::interval};
use tokio_util::sync::CancellationToken;

const DEFAULT_BUDGET_PERCENT: u32 = 20;

/// What one worker sees of XCO.
#[derive(Debug)]
pub(super) struct Weather {
    sky: Mutex<Sky>,
    opened: Notify,
}

#[derive(Debug)]
struct Sky {
    breaker: Option<Breaker>,
    adaptive: Option<Adaptive>,
    budget: RetryBudget,
    most: usize,
    calls: u64,
    failures: u64,
    /// When it was last logged that XCO refuses this client.
    refusal_logged_ms: Option<u64>,
}

/// How often it is logged that XCO refuses this client.
const LOG_EVERY_MS: u64 = 30_000;

impl Sky {
    /// How many calls may be under way.
    fn allowed(&mut self, now_ms: u64) -> Allowed {
        match (self.breaker.as_mut().map(|breaker| breaker.state(now_ms)), &self.adaptive) {
            (Some(BreakerState::Open { .. }), _) => Allowed::evenly(0),
            (Some(BreakerState::HalfOpen), _) => Allowed::evenly(1),
            (Some(BreakerState::Closed) | None, Some(adaptive)) => {
                Allowed { calls: adaptive.known(), light: adaptive.limit() }
            }
            (Some(BreakerState::Closed) | None, None) => Allowed::evenly(self.most),
        }
    }
}

/// What a call's end says of XCO.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    /// How long it took.
    pub(super) latency: Duration,
    /// What it says of XCO.
    pub(super) end: CallEnd,
    /// Calls under way, this one included.
    pub(super) in_flight: usize,
    /// Milliseconds on the process's clock.
    pub(super) now_ms: u64,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook {
    /// How many calls may be under way from now on.
    pub(super) allowed: Allowed,
    /// XCO is down: its failures are not the jobs'.
    pub(super) outage: bool,
    /// Whose a refusal is.
    pub(super) refusal: Refusal,
}

impl Weather {
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
        let sky = Sky {
            breaker: config.worker.breaker.then(|| Breaker::new(BreakerPolicy::default())),
            adaptive,
            budget: RetryBudget::new(config.retry.budget.unwrap_or(DEFAULT_BUDGET_PERCENT)),
            most,
            calls: 0,
            failures: 0,
            refusal_logged_ms: None,
        };
        Self { sky: Mutex::new(sky), opened: Notify::new() }
    }

    fn sky(&self) -> MutexGuard<'_, Sky> {
        // Each part is consistent between any two of its calls.
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call ended.
    pub(super) fn observe(&self, seen: Observation) -> Outlook {
        let mut sky = self.sky();
        sky.calls += 1;
        let failed = seen.end == CallEnd::Failed;
        sky.failures += u64::from(failed);
        if let Some(adaptive) = &mut sky.adaptive {
            adaptive.record(seen.latency, failed, seen.in_flight);
        }
        let (mut outage, mut refusal, mut refused) = (false, Refusal::Own, false);
        if let Some(breaker) = &mut sky.breaker {
            let was_closed = breaker.state(seen.now_ms) == BreakerState::Closed;
            let changed = breaker.observe(seen.end, seen.now_ms);
            let state = breaker.state(seen.now_ms);
            outage = !was_closed || state != BreakerState::Closed;
            refusal = match seen.end {
                CallEnd::Refused { .. } if outage && breaker.is_refusing() => Refusal::Everybodys,
                // Where another worker opened it, this one does not know why.
                CallEnd::Refused { .. } if outage || breaker.refusals_in_a_row() > 1 => Refusal::Suspected,
                _ => Refusal::Own,
            };
            if changed {
                match state {
                    BreakerState::Open { .. } => {
                        if breaker.is_refusing() {
                            refused = true;
                        } else {
                            tracing::warn!("XCO fails: no jobs are taken for a while");
                        }
                        self.opened.notify_one();
                    }
                    BreakerState::Closed => tracing::info!("XCO is back"),
                    BreakerState::HalfOpen => {}
                }
            }
        }
        let log_due = sky.refusal_logged_ms.is_none_or(|at_ms| seen.now_ms.saturating_sub(at_ms) >= LOG_EVERY_MS);
        if refused && log_due {
            sky.refusal_logged_ms = Some(seen.now_ms);
            tracing::error!(
                "XCO refuses this client, with fresh access tokens (401, 403): jobs wait, and one call at a time is tried \
                 (check xco.api_key, xco.client_id, xco.scope, xco.base_url and xco.merchant_id)"
            );
        }
        Outlook { allowed: sky.allowed(seen.now_ms), outage, refusal }
    }

    /// What follows where no call was made.
    pub(super) fn outlook(&self, now_ms: u64) -> Outlook {
        let mut sky = self.sky();
        let state = sky.breaker.as_mut().map(|breaker| breaker.state(now_ms));
        let outage = state.is_some_and(|state| state != BreakerState::Closed);
        Outlook { allowed: sky.allowed(now_ms), outage, refusal: Refusal::Own }
    }

    /// Whether the breaker is not closed because XCO refuses this client.
    pub(super) fn is_refused(&self) -> bool {
        self.sky().breaker.as_ref().is_some_and(Breaker::is_refusing)
    }

    /// A first attempt was made.
    pub(super) fn first_attempt(&self) {
        self.sky().budget.earn();
    }

    /// How long a retry must wait that was to wait `delay_ms`.
    pub(super) fn retry(&self, delay_ms: u64) -> u64 {
        self.sky().budget.spend(delay_ms)
    }

    /// Calls ended so far, and how many of them failed by XCO's or the network's fault.
    pub(super) fn calls(&self) -> (u64, u64) {
        let sky = self.sky();
        (sky.calls, sky.failures)
    }

    /// The breaker, in a word.
    pub(super) fn breaker(&self, now_ms: u64) -> &'static str {
        match self.sky().breaker.as_mut().map(|breaker| breaker.state(now_ms)) {
            Some(BreakerState::Open { .. }) => "open",
            Some(BreakerState::HalfOpen) => "half_open",
            Some(BreakerState::Closed) => "closed",
            None => "off",
        }
    }

    fn allowed(&self, now_ms: u64) -> Allowed {
        self.sky().allowed(now_ms)
    }

    /// For the metrics: what the breaker lets through (0 everything, 1 a trickle, 2 nothing), and how many calls at once.
    pub(super) fn figures(&self, clock: &RedisClock) -> (u64, usize) {
        let now_ms = u64::try_from(clock.elapsed_ms()).unwrap_or(0);
        let mut sky = self.sky();
        let breaker = match sky.breaker.as_mut().map(|breaker| breaker.state(now_ms)) {
            Some(BreakerState::Closed) | None => 0,
            Some(BreakerState::HalfOpen) => 1,
            Some(BreakerState::Open { .. }) => 2,
        };
        (breaker, sky.allowed(now_ms).calls)
    }

    fn open_for_ms(&self, now_ms: u64) -> Option<u64> {
        match self.sky().breaker.as_mut()?.state(now_ms) {
            BreakerState::Open { until_ms } => Some(until_ms.saturating_sub(now_ms)).filter(|ms| *ms > 0),
            _ => None,
        }
    }

    fn adopt(&self, open_until_ms: Option<u64>, now_ms: u64) {
        if let Some(breaker) = &mut self.sky().breaker {
            breaker.adopt(open_until_ms, now_ms);
        }
    }
}

/// Opens the slots again when it is time, and shares what was found with the other workers, until `stop`.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut link = shared.connector.link(false);
    let mut looks = interval(Duration::from_millis(50));
    let mut exchanges = interval(Duration::from_millis(500));
    let now_ms = |shared: &Shared| u64::try_from(shared.clock.elapsed_ms()).unwrap_or(0);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => shared.slots.allow(shared.weather.allowed(now_ms(&shared))),
            () = shared.weather.opened.notified() => {
                if let Some(open_ms) = shared.weather.open_for_ms(now_ms(&shared)) {
                    // Not told, the others find out for themselves.
                    let _ = upkeep::tell_breaker(&mut link, &shared.partitions[0].keys, open_ms).await;
                }
            }
            _ = exchanges.tick() => exchange(&shared, &mut link, now_ms(&shared)).await,
        }
    }
}

async fn exchange(shared: &Shared, link: &mut Link, now_ms: u64) {
    if let Ok(open_ms) = upkeep::ask_breaker(link, &shared.partitions[0].keys).await {
        shared.weather.adopt(open_ms.map(|ms| now_ms + ms), now_ms);
    }
}
