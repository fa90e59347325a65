//! Whether this process can do its work right now.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
};

/// A shared handle: the worker writes, `/readyz` reads. Not ready (`starting`) until told otherwise.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<RwLock<Option<Cow<'static, str>>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Some(Cow::Borrowed("starting")))))
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

    fn set(&self, state: Option<Cow<'static, str>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Why it cannot; `None`: it can.
    pub fn reason(&self) -> Option<Cow<'static, str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
