//! How often each ticket is used: at most two waits at a time and 30 a minute.

use super::{
    problem::{Problem, ProblemKind},
    ticket::Ticket,
};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Waits at a time.
const AT_ONCE: u32 = 2;
/// Waits in [`WINDOW`].
const IN_WINDOW: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);
/// Jobs whose uses are counted. Beyond it, those that nobody uses now are forgotten.
const MOST: usize = 50_000;

/// Counts the uses of tickets, by job. All tickets of one job count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct TicketUses(Arc<Mutex<HashMap<String, Uses>>>);

#[derive(Debug)]
struct Uses {
    now: u32,
    in_window: u32,
    window_began: Instant,
}

/// A wait that is under way. Dropping it ends it.
pub(crate) struct TicketUse {
    uses: TicketUses,
    job: String,
}

impl TicketUses {
    /// Counts one more wait.
    pub(crate) fn begin(&self, ticket: &Ticket) -> Result<TicketUse, Problem> {
        let now = Instant::now();
        let mut jobs = self.0.lock();
        if jobs.len() >= MOST && !jobs.contains_key(&ticket.job) {
            jobs.retain(|_, uses| uses.now > 0);
            if jobs.len() >= MOST {
                return Err(Problem::new(ProblemKind::RateLimited).detail("too many browsers wait").retry_after(5));
            }
        }
        let new = Uses { now: 0, in_window: 0, window_began: now };
        let uses = jobs.entry(ticket.job.clone()).or_insert(new);
        if now - uses.window_began >= WINDOW {
            (uses.in_window, uses.window_began) = (0, now);
        }
        if uses.now >= AT_ONCE || uses.in_window >= IN_WINDOW {
            let left = WINDOW.saturating_sub(now - uses.window_began);
            let seconds = if uses.now >= AT_ONCE { 1 } else { left.as_secs() + 1 };
            return Err(Problem::new(ProblemKind::RateLimited)
                .detail("a ticket allows two waits at a time and 30 a minute")
                .retry_after(seconds));
        }
        uses.now += 1;
        uses.in_window += 1;
        Ok(TicketUse { uses: self.clone(), job: ticket.job.clone() })
    }
}

impl Drop for TicketUse {
    fn drop(&mut self) {
        if let Some(uses) = self.uses.0.lock().get_mut(&self.job) {
            uses.now -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_at_a_time_and_thirty_a_minute() {
        let uses = TicketUses::default();
        let ticket = Ticket { job: "j".to_owned(), partition: 0, expires_s: 0, merchant: None };
        let other = Ticket { job: "k".to_owned(), ..ticket.clone() };
        let (first, _second) = (uses.begin(&ticket).unwrap(), uses.begin(&ticket).unwrap());
        assert!(uses.begin(&ticket).is_err() && uses.begin(&other).is_ok());
        drop(first);
        for _ in 2..30 {
            drop(uses.begin(&ticket).unwrap());
        }
        assert!(uses.begin(&ticket).is_err());
        tokio::time::advance(WINDOW).await;
        assert!(uses.begin(&ticket).is_ok());
    }
}
