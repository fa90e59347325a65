//! Whether Redis can be reached, as the readiness endpoint and the log tell it.

use crate::queue::is_transient;
use redis::RedisError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Told by every loop that talks to Redis; read by `/readyz` and the tests.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<watch::Sender<Result<(), String>>>,
    failures: Arc<AtomicU32>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(Err("connecting to Redis".to_owned()))), failures: Arc::default() }
    }
}

impl Health {
    /// Ready, or why not; changes can be awaited.
    pub fn watch(&self) -> watch::Receiver<Result<(), String>> {
        self.state.subscribe()
    }

    /// A command worked.
    pub(super) fn well(&self) {
        if self.failures.swap(0, Ordering::Relaxed) > 0 || self.state.borrow().is_err() {
            let recovered = self.state.send_if_modified(|state| std::mem::replace(state, Ok(())).is_err());
            if recovered {
                tracing::info!("Redis answers: ready");
            }
        }
    }

    /// A command failed: how long to wait before the next. Grows from 50 ms to 2 s; the first failure of a row is logged,
    /// then every tenth.
    pub(super) fn ill(&self, what: &'static str, error: &RedisError) -> Duration {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let reason = describe(error);
        if failures % 10 == 1 {
            if is_transient(error) {
                tracing::warn!(what, reason, failures, "Redis cannot be used; trying again");
            } else {
                tracing::error!(what, reason, failures, "Redis refuses a command");
            }
        }
        self.state.send_if_modified(|state| std::mem::replace(state, Err(reason.clone())).is_ok());
        Duration::from_millis(50 << failures.min(6).saturating_sub(1)).min(Duration::from_secs(2))
    }
}

/// An error without what the command carried: a server's message may quote it.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error.category().to_owned(),
    }
}
