//! The state of the simulator, behind one lock. Code that has the lock does not wait.

use super::{
    CallRecord, Effect, SandboxConfig, Stats,
    buckets::Buckets,
    fault::{FaultKind, Faults, Strike},
    model::{Done, Model},
    record::{Log, Route},
};
use axum::http::{HeaderMap, header};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// An outage: every call of the API is answered with one status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    pub(super) until: Option<Instant>,
    pub(super) status: u16,
}

pub(super) struct Inner {
    pub(super) model: Model,
    pub(super) faults: Faults,
    pub(super) outage: Option<Outage>,
    pub(super) buckets: Buckets,
    pub(super) log: Log,
    /// Time at which each token expires.
    pub(super) tokens: HashMap<String, Instant>,
    /// Number of arrivals at the five calls.
    pub(super) calls: u64,
}

impl Inner {
    fn new(config: &SandboxConfig) -> Self {
        Self {
            model: Model::new(config.seed),
            faults: Faults::default(),
            outage: None,
            buckets: Buckets::default(),
            log: Log::default(),
            tokens: HashMap::new(),
            calls: 0,
        }
    }

    /// Whether the request carries a valid token.
    pub(super) fn accepts_token(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .and_then(|token| self.tokens.get(token))
            .is_some_and(|end| Instant::now() < *end)
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            users: self.model.user_count(),
            consents: self.model.consent_count(),
            calls: self.calls,
            ..self.log.stats()
        }
    }
}

fn semaphore(capacity: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(capacity.clamp(1, Semaphore::MAX_PERMITS)))
}

/// State that all handlers share.
pub(super) struct Shared {
    pub(super) config: SandboxConfig,
    started: Instant,
    /// One permit for each call that may be worked on at once. A new capacity replaces and closes the semaphore.
    capacity: Mutex<Option<Arc<Semaphore>>>,
    /// API calls that have arrived and have no answer yet.
    pub(super) under_way: AtomicUsize,
    inner: Mutex<Inner>,
    /// Notified of every arrival, effect and answer.
    changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(config: SandboxConfig) -> Self {
        let inner = Mutex::new(Inner::new(&config));
        let capacity = Mutex::new(config.capacity.map(semaphore));
        let changed = watch::Sender::new(());
        Self { config, started: Instant::now(), capacity, under_way: AtomicUsize::new(0), inner, changed }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn lock_capacity(&self) -> MutexGuard<'_, Option<Arc<Semaphore>>> {
        self.capacity.lock()
    }

    /// From now on at most this many API calls are worked on at once. Calls that wait are counted against the new capacity;
    /// calls being worked on are not.
    pub(super) fn set_capacity(&self, capacity: Option<usize>) {
        let former = std::mem::replace(&mut *self.lock_capacity(), capacity.map(semaphore));
        if let Some(former) = former {
            former.close();
        }
    }

    /// Waits until the call may be worked on; the permit ends with the work.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let semaphore = self.lock_capacity().clone()?;
            // It is closed when the capacity has changed: then the call waits for the new one.
            if let Ok(permit) = semaphore.acquire_owned().await {
                return Some(permit);
            }
        }
    }

    pub(super) fn reset(&self) {
        *self.lock() = Inner::new(&self.config);
        self.changed.send_replace(());
    }

    /// Waits until `is` holds; evaluates it after every change. `is` runs without the lock, and may take it.
    pub(super) async fn wait_until(&self, mut is: impl FnMut(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is(self) {
            // The sender lives as long as `self`.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> (u64, u64) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let as_u64 = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        (as_u64(since_1970.as_millis()), as_u64(self.started.elapsed().as_micros()))
    }

    pub(super) fn note(&self, inner: &mut Inner, done: Done) {
        let (wall_ms, mono_us) = self.now();
        let Done { kind, key, code_number } = done;
        let max = if self.config.record_calls { self.config.max_records } else { 0 };
        inner.log.effect(Effect { at_ms: wall_ms, at_us: mono_us, kind, key, code_number }, max);
    }
}

/// One call inside the simulator. Its arrival and its end are recorded, however it ends.
pub(super) struct Visit<'a> {
    shared: &'a Shared,
    route: Route,
    seq: Option<u64>,
    /// The fault that affects the call.
    pub(super) strike: Option<Strike>,
    /// Duration of the answer.
    pub(super) latency: Duration,
    ended: bool,
}

impl<'a> Visit<'a> {
    pub(super) fn begin(
        shared: &'a Shared,
        route: Route,
        caller: Option<&str>,
        key: Option<&str>,
        traceparent: Option<&str>,
    ) -> Self {
        let (wall_ms, mono_us) = shared.now();
        let is_api = route != Route::Token;
        let mut inner = shared.lock();
        inner.calls += u64::from(is_api);
        let seq = shared.config.record_calls.then(|| {
            let call = CallRecord {
                seq: 0,
                at_ms: wall_ms,
                at_us: mono_us,
                route,
                caller_id: caller.map(str::to_owned),
                key: key.map(str::to_owned),
                traceparent: traceparent.map(str::to_owned),
                status: None,
                fault: None,
            };
            inner.log.arrived(call, shared.config.max_records)
        });
        let strike = if is_api { outage(&mut inner) } else { None };
        let strike = strike.or_else(|| inner.faults.take(route, caller));
        let latency = shared.config.latency;
        let latency = if !is_api || latency.max.is_zero() {
            Duration::ZERO
        } else if latency.min >= latency.max {
            latency.max
        } else {
            inner.model.rng.random_range(latency.min..=latency.max)
        };
        drop(inner);
        shared.changed.send_replace(());
        shared.under_way.fetch_add(usize::from(is_api), Ordering::Relaxed);
        Self { shared, route, seq, strike, latency, ended: false }
    }

    /// Records the end of the call. `status` is 0 if there was no answer.
    pub(super) fn end(&mut self, inner: &mut Inner, status: u16) {
        self.ended = true;
        self.shared.under_way.fetch_sub(usize::from(self.route != Route::Token), Ordering::Relaxed);
        let fault = self.strike.as_ref().map(|strike| strike.name);
        inner.log.ended(self.seq, self.route, status, fault);
        self.shared.changed.send_replace(());
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // The client disconnected first.
        if !self.ended {
            let shared = self.shared;
            self.end(&mut shared.lock(), 0);
        }
    }
}

fn outage(inner: &mut Inner) -> Option<Strike> {
    let outage = inner.outage?;
    if outage.until.is_some_and(|until| until <= Instant::now()) {
        inner.outage = None;
        return None;
    }
    let kind = FaultKind::Status { status: outage.status, retry_after: None, body: None };
    Some(Strike { kind, after_effect: false, name: "outage" })
}
