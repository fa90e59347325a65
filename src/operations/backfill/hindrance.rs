//! What keeps a backfill from going faster.

use crate::{
    config::{format_limit, read_limit},
    contract::{CallerId, CustomerReference, JobType, Lane},
    limits::LimitName,
    operations::Backend,
    queue::{breakers, overrides, rules, workers},
    rules::{Decision, Subject},
};
use redis::RedisResult;
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// Delay between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The setting of the limit of all calls, as workers report it.
const TOTAL_LIMIT: &str = "limits.total";

/// What keeps a backfill from going faster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hindrance {
    /// Nothing that is known.
    #[default]
    Nothing,
    /// No worker has reported lately.
    NoWorker,
    /// An operator paused its jobs.
    Paused {
        /// The operator.
        by: String,
    },
    /// The breaker is open: no worker calls XCO.
    Breaker,
    /// The limit of all calls that is in force, such as `20/s, burst 20`.
    Limit(String),
}

impl Hindrance {
    /// Whether no row ends while it lasts.
    pub const fn stops(&self) -> bool {
        matches!(self, Self::NoWorker | Self::Paused { .. } | Self::Breaker)
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::NoWorker => f.write_str("no worker is running"),
            Self::Paused { by } => write!(f, "paused by {by}"),
            Self::Breaker => f.write_str("the breaker is open: XCO cannot be called"),
            Self::Limit(limit) => write!(f, "{TOTAL_LIMIT} is {limit}"),
        }
    }
}

/// Looks for hindrances now and then.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looked_at: Option<Instant>,
    found: Hindrance,
}

impl Watch {
    /// The present hindrance. A look that Redis does not answer leaves the last one.
    pub(super) async fn look(&mut self, backend: &mut Backend<'_>, batch: &str) -> &Hindrance {
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.looked_at = Some(Instant::now());
            if let Ok(found) = find(backend, batch).await {
                self.found = found;
            }
        }
        &self.found
    }
}

async fn find(backend: &mut Backend<'_>, batch: &str) -> RedisResult<Hindrance> {
    let first = backend.common_keys();
    let link = &mut backend.link;
    let now_ms = rules::now_ms(link).await?;
    let mut running = workers::workers(link, &first).await?;
    running.retain(|_, heartbeat| heartbeat.is_recent(now_ms));
    if running.is_empty() {
        return Ok(Hindrance::NoWorker);
    }
    let rules = rules::load(link, &first).await?;
    for job_type in [JobType::CheckUser, JobType::CreateUser] {
        let (caller, customer): (Option<&CallerId>, Option<&CustomerReference>) = (None, None);
        let subject = Subject {
            lane: Lane::Bulk,
            job_type,
            caller,
            customer,
            batch: Some(batch),
            id: "",
            enqueued_at_ms: now_ms,
        };
        if let Decision::LanePaused(order) | Decision::Pause(_, order) = rules.decide(&subject, now_ms) {
            return Ok(Hindrance::Paused { by: order.who.clone() });
        }
    }
    if !breakers::open(link, &first).await?.is_empty() {
        return Ok(Hindrance::Breaker);
    }
    let configured = running.values().find_map(|heartbeat| heartbeat.settings.get(TOTAL_LIMIT));
    let configured = configured.and_then(|text| read_limit(text).ok()).flatten();
    let stored = overrides::load(link, &first).await?;
    let limit = stored.overrides.limit(LimitName::Total, configured);
    Ok(limit.map_or(Hindrance::Nothing, |limit| Hindrance::Limit(format_limit(limit))))
}
