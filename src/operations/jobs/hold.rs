//! What keeps a job from running, beside its own delay: no worker, XCO, its lane, a cancellation.

use super::live::Live;
use crate::{
    config::Config,
    contract::{JobType, Lane, MerchantId, format_ms},
    jobs::{CallInputs, JobState, next_call},
    limits::BreakerScope,
    operations::Backend,
    queue::{breakers, rules, workers},
    rules::Subject,
};
use redis::RedisResult;
use serde::{Serialize, Serializer};

/// Something that keeps a job from running. As JSON it is its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// `no_worker`: no worker is running.
    NoWorker,
    /// `breaker`: workers call XCO no more, for now.
    Breaker {
        /// The next call is tried after this time.
        open_for_ms: u64,
        /// XCO refuses this client (401, 403). Otherwise XCO cannot be reached.
        is_refused: bool,
    },
    /// `breaker`: XCO fails the call that the job would make next.
    RouteBreaker(JobType),
    /// `lane_paused`: an operator paused the whole lane.
    LanePaused {
        /// The lane.
        lane: Lane,
        /// When the pause ends by itself, RFC 3339.
        until: Option<String>,
        /// Who paused it.
        who: String,
        /// From which host or address.
        from: String,
    },
    /// `cancelled`: the job ends as soon as a worker takes it.
    Cancelled {
        /// Who cancelled it.
        who: String,
        /// From which host or address.
        from: String,
    },
}

impl Hold {
    /// The name that its JSON is.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoWorker => "no_worker",
            Self::Breaker { .. } | Self::RouteBreaker(_) => "breaker",
            Self::LanePaused { .. } => "lane_paused",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The type whose call a job makes next.
fn route_of(live: &Live, lenient: bool) -> Option<JobType> {
    let (job, _) = live.parse(lenient)?;
    let state = live.state.clone().unwrap_or_else(|| JobState::new(live.origin));
    // The merchant does not decide which call it is.
    let merchant = MerchantId::from_checked("");
    Some(next_call(&job, &state, CallInputs { merchant: &merchant }).rate_class)
}

/// Everything that keeps a job from running now.
pub(super) async fn holds(
    backend: &mut Backend<'_>,
    config: &Config,
    live: &Live,
    now_ms: u64,
) -> RedisResult<Vec<Hold>> {
    let keys = backend.common_keys();
    let link = &mut backend.link;
    let lenient = config.limits.allow_missing_caller_id;
    let mut holds = Vec::new();
    let workers = workers::workers(link, &keys).await?.into_values();
    let running: Vec<_> = workers.filter(|worker| worker.is_recent(now_ms)).collect();
    if running.is_empty() {
        holds.push(Hold::NoWorker);
    }
    let open = breakers::open(link, &keys).await?;
    if let Some((_, open_for_ms)) = open.iter().find(|(scope, _)| *scope == BreakerScope::All) {
        let is_refused = running.iter().any(|worker| worker.breaker_reason.is_some());
        holds.push(Hold::Breaker { open_for_ms: *open_for_ms, is_refused });
    } else if let Some(route) = route_of(live, lenient)
        && (open.iter().any(|(scope, _)| *scope == BreakerScope::Route(route))
            || running.iter().any(|worker| worker.breaker_routes.contains_key(&route)))
    {
        holds.push(Hold::RouteBreaker(route));
    }
    let rules = rules::load(link, &keys).await?;
    if let Some(order) = rules.lane_paused(live.lane, now_ms) {
        let (who, from) = (order.who.clone(), order.from.clone());
        holds.push(Hold::LanePaused { lane: live.lane, until: order.until_ms.map(format_ms), who, from });
    }
    if let Some((job, id)) = live.parse(lenient)
        && let Some(order) = rules.cancels(&Subject::of(&job, &id, live.lane, live.origin.entry.ms), now_ms)
    {
        holds.push(Hold::Cancelled { who: order.who.clone(), from: order.from.clone() });
    }
    Ok(holds)
}
