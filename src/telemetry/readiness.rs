//! Whether this process can do its work right now.

use parking_lot::RwLock;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// A shared handle: the worker writes, `/readyz` reads. Not ready (`starting`) until told otherwise.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    reason: Option<Cow<'static, str>>,
    breakers: BTreeMap<&'static str, &'static str>,
}

impl Default for Readiness {
    fn default() -> Self {
        let state = State { reason: Some(Cow::Borrowed("starting")), breakers: BTreeMap::new() };
        Self(Arc::new(RwLock::new(state)))
    }
}

impl Readiness {
    /// It can.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// It cannot, and why: a few words for an operator, no secrets and nothing about a person.
    pub fn set_not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<Cow<'static, str>>) {
        self.0.write().reason = reason;
    }

    /// These breakers are not closed, each with a word: XCO fails. That is no reason not to be ready.
    pub fn set_breakers(&self, breakers: BTreeMap<&'static str, &'static str>) {
        self.0.write().breakers = breakers;
    }

    /// Why it cannot; `None`: it can.
    pub fn reason(&self) -> Option<Cow<'static, str>> {
        self.0.read().reason.clone()
    }

    /// The breakers that are not closed.
    pub fn breakers(&self) -> BTreeMap<&'static str, &'static str> {
        self.0.read().breakers.clone()
    }
}
