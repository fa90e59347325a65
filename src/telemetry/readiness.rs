//! Whether this process can work at the moment.

use parking_lot::RwLock;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// A shared handle: the worker writes it, `/readyz` reads it. Not ready (`starting`) at first.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    reason: Option<Cow<'static, str>>,
    breakers: BTreeMap<&'static str, &'static str>,
    redis: Option<String>,
}

impl Default for Readiness {
    fn default() -> Self {
        let state = State { reason: Some(Cow::Borrowed("starting")), breakers: BTreeMap::new(), redis: None };
        Self(Arc::new(RwLock::new(state)))
    }
}

impl Readiness {
    /// Marks the process as ready.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// Marks the process as not ready. `reason` is a few words for an operator, without secrets or personal data.
    pub fn set_not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<Cow<'static, str>>) {
        let mut state = self.0.write();
        (state.reason, state.redis) = (reason, None);
    }

    /// Sets the breakers that are not closed, each with one word for its state. They do not affect readiness: XCO
    /// fails, not this process.
    pub fn set_breakers(&self, breakers: BTreeMap<&'static str, &'static str>) {
        self.0.write().breakers = breakers;
    }

    /// Marks the process as not ready, because Redis has not been reached since this time, RFC 3339.
    pub fn set_without_redis(&self, since: &str) {
        let mut state = self.0.write();
        state.reason = Some(Cow::Borrowed("Redis cannot be reached"));
        state.redis = Some(format!("unreachable since {since}"));
    }

    /// What is wrong with Redis, where that is known; `None` if the process is ready.
    pub fn redis(&self) -> Option<String> {
        self.0.read().redis.clone()
    }

    /// Why the process is not ready; `None` if it is ready.
    pub fn reason(&self) -> Option<Cow<'static, str>> {
        self.0.read().reason.clone()
    }

    /// The breakers that are not closed, by route, each with one word for its state.
    pub fn breakers(&self) -> BTreeMap<&'static str, &'static str> {
        self.0.read().breakers.clone()
    }
}
