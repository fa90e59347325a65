//! Whether the workers know the operators' rules and overrides.

use super::{Backend, Error};
use crate::queue::{rules, workers};
use redis::RedisResult;
use serde::Serialize;
use std::{fmt, time::Duration};
use tokio::time::{Instant, sleep};

/// How long an operator reasonably waits for it: a worker that reaches Redis loads changed rules and overrides within a second.
pub const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);

/// How often the heartbeats are read while waiting.
const LOOK: Duration = Duration::from_millis(50);

/// On how many workers the operators' rules and overrides are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Workers that have loaded the rules and overrides as they are now.
    pub in_force_on: usize,
    /// Workers that are running. Each worker that starts loads the rules before its first job.
    pub workers: usize,
}

impl InForce {
    /// Every running worker has loaded the rules; true without workers.
    pub const fn is_everywhere(self) -> bool {
        self.in_force_on == self.workers
    }
}

/// `in force on 3 of 3 workers`
impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.in_force_on, self.workers) {
            (_, 0) => f.write_str("no worker is running; in force on each that starts"),
            (1, 1) => f.write_str("in force on 1 of 1 worker"),
            (on, of) if on == of => write!(f, "in force on {on} of {of} workers"),
            (on, of) => write!(f, "in force on {on} of {of} workers so far; the others follow when they reach Redis"),
        }
    }
}

/// Waits until every running worker has loaded the rules and overrides as they are now, for `timeout` at most. A worker counts as running while its
/// last heartbeat is less than ten seconds old.
///
/// # Errors
/// [`Error::Redis`].
pub async fn in_force(backend: &mut Backend<'_>, timeout: Duration) -> Result<InForce, Error> {
    let until = Instant::now() + timeout;
    let failed = backend.failed();
    loop {
        let seen = look(backend).await.map_err(&failed)?;
        if seen.is_everywhere() || Instant::now() >= until {
            return Ok(seen);
        }
        sleep(LOOK).await;
    }
}

async fn look(backend: &mut Backend<'_>) -> RedisResult<InForce> {
    let keys = backend.common_keys();
    let link = &mut backend.link;
    // The version first: a worker cannot have loaded one that does not exist yet.
    let version = workers::loaded_rules(rules::version(link, &keys).await?.as_deref());
    let listed = workers::workers(link, &keys).await?;
    let now_ms = rules::now_ms(link).await?;
    let running = || listed.values().filter(|beat| beat.is_recent(now_ms));
    let in_force_on = running().filter(|beat| beat.rules_version.as_deref() == Some(&version)).count();
    Ok(InForce { in_force_on, workers: running().count() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_on_how_many_workers() {
        for (on, of, text) in [(3, 3, "in force on 3 of 3 workers"), (2, 3, "in force on 2 of 3 workers so far")] {
            let shown = InForce { in_force_on: on, workers: of }.to_string();
            assert!(shown.starts_with(text), "{shown}");
        }
        assert!(InForce { in_force_on: 0, workers: 0 }.to_string().starts_with("no worker is running"));
    }
}
