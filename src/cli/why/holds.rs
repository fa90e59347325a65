//! What holds a job beside its own wait: the whole queue, its lane, an order about it.

use super::Report;
use crate::{
    cli::{
        Context,
        ages::age,
        locate::{self, Live},
    },
    contract::{JobType, MerchantId, format_ms},
    control::Subject,
    jobs::{JobState, Surroundings, plan},
    limits::Scope,
    queue::{Keys, Link, breakers, control, workers},
};
use redis::RedisResult;
use serde_json::Value;

/// A worker that has said nothing for so long is not counted on.
const SILENT_MS: u64 = 10_000;

/// The route of a job's next call.
fn next_route(context: &Context, live: &Live) -> Option<JobType> {
    let state = live.state.clone().unwrap_or_else(|| JobState::new(live.origin));
    let job = locate::parse(&live.job, live.origin, state.generation, context.config.limits.allow_missing_caller_id)?;
    // Which route it is does not depend on the merchant.
    let merchant = MerchantId::from_checked("");
    Some(plan(&job, &state, Surroundings { merchant: &merchant }).rate_class)
}

pub(super) async fn tell(
    report: &mut Report,
    link: &mut Link,
    context: &Context,
    live: &Live,
    now_ms: u64,
) -> RedisResult<()> {
    let keys = Keys::new(&context.config.redis.namespace, 0);
    let mut holds: Vec<(&str, String)> = Vec::new();
    let workers = workers::workers(link, &keys).await?.into_values();
    let alive: Vec<_> = workers.filter(|worker| worker.seen_at_ms.saturating_add(SILENT_MS) > now_ms).collect();
    if alive.is_empty() {
        holds.push(("no_worker", "no worker is running".to_owned()));
    }
    let open = breakers::open(link, &keys).await?;
    if let Some((_, open_ms)) = open.iter().find(|(scope, _)| *scope == Scope::All) {
        let refused = alive.iter().any(|worker| worker.breaker_reason.is_some());
        let why =
            if refused { "XCO refuses this client (401, 403; see the worker's log)" } else { "XCO cannot be reached" };
        holds.push(("breaker", format!("{why}: no job is taken for another {}", age(*open_ms))));
    } else if let Some(route) = next_route(context, live)
        && (open.iter().any(|(scope, _)| *scope == Scope::Route(route))
            || alive.iter().any(|worker| worker.breaker_routes.contains_key(&route)))
    {
        holds.push(("breaker", format!("XCO fails {route} calls, which it would make next: such jobs wait")));
    }
    let (_, rules) = control::load(link, &keys).await?;
    if let Some(order) = rules.lane_paused(live.lane, now_ms) {
        let until = order.until_ms.map_or_else(|| "`resume`".to_owned(), format_ms);
        let what = format!("the {} lane is paused until {until}, by {} from {}", live.lane, order.who, order.from);
        holds.push(("lane_paused", what));
    }
    let generation = live.state.as_ref().map_or(0, |state| state.generation);
    let lenient = context.config.limits.allow_missing_caller_id;
    if let Some(job) = locate::parse(&live.job, live.origin, generation, lenient) {
        let id = job.id.as_ref().map_or_else(|| live.origin.to_string(), |id| id.as_str().to_owned());
        if let Some(order) = rules.cancels(&Subject::of(&job, &id, live.lane, live.origin.entry.ms), now_ms) {
            let what = format!("cancelled by {} from {}: it ends when it comes up", order.who, order.from);
            holds.push(("cancelled", what));
        }
    }
    for (_, what) in &holds {
        report.say(what);
    }
    report.set("holds", holds.into_iter().map(|(name, _)| Value::from(name)).collect::<Vec<_>>());
    Ok(())
}
