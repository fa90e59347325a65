//! What a parked job waits for.

use super::Report;
use crate::{
    cli::{
        Context,
        ages::age,
        locate::{self, Live},
    },
    contract::{MerchantId, format_ms},
    control::{Decision, Selector, Subject},
    jobs::{Surroundings, Waiting, plan},
    limits::Limits,
    queue::{Keys, Link, control, find},
};
use redis::RedisResult;
use std::fmt::Write;

/// A pause without an end parks a job until then: later than any `run_at` or deadline.
const FOR_EVER_MS: u64 = 1 << 52;

pub(super) async fn tell(
    report: &mut Report,
    link: &mut Link,
    keys: &Keys,
    context: &Context,
    live: &Live,
    (due_ms, now_ms): (u64, u64),
) -> RedisResult<()> {
    let why = live.state.as_ref().and_then(|state| state.waiting).map(|(why, _)| why);
    let (name, because) = match why {
        Some(Waiting::Limit) => ("limit", limit(link, keys, context, live, now_ms).await?),
        Some(Waiting::Retry) => {
            let failures = live.state.as_ref().map_or(0, |state| state.failures);
            ("retry", format!("its next attempt, after {failures} that failed"))
        }
        Some(Waiting::Schedule) => ("run_at", "its run_at".to_owned()),
        Some(Waiting::Paused) if live.state.as_ref().is_some_and(|state| state.by_breaker) => {
            ("breaker", "XCO, which fails the call that it would make: it comes up once XCO is back".to_owned())
        }
        Some(Waiting::Paused) => ("paused", paused(link, context, live, now_ms).await?),
        Some(Waiting::Slot) | None => ("slot", "a free slot".to_owned()),
    };
    let until = if due_ms >= FOR_EVER_MS {
        "until an operator resumes it".to_owned()
    } else {
        report.set("until", format_ms(due_ms));
        format!("until {} (in {})", format_ms(due_ms), age(due_ms.saturating_sub(now_ms)))
    };
    let id = report.data.get("id").and_then(|id| id.as_str()).unwrap_or("").to_owned();
    report.lines.insert(0, format!("{id}: parked {until}: waits for {because}"));
    report.set("waits_for", name);
    report.set("because", because);
    Ok(())
}

async fn limit(link: &mut Link, keys: &Keys, context: &Context, live: &Live, now_ms: u64) -> RedisResult<String> {
    let config = &context.config;
    let Some(state) = &live.state else { return Ok("its limit".to_owned()) };
    let lenient = config.limits.allow_missing_caller_id;
    let Some(job) = locate::parse(&live.job, live.origin, state.generation, lenient) else {
        return Ok("its limit".to_owned());
    };
    let merchant = job.merchant_id.clone().or_else(|| config.xco.merchant_id.clone());
    let merchant = merchant.unwrap_or_else(|| MerchantId::from_checked(""));
    let limits = Limits::new(config.limits.clone(), config.redis.partitions);
    let planned = plan(&job, state, Surroundings { merchant: &merchant });
    let bucket = limits.bucket(planned.rate_class, planned.spender).name;
    let lesson = find::lesson(link, keys, &bucket).await?;
    let mut because = if state.reserved_total {
        format!("its turn in the limit of all calls, after that of {bucket}")
    } else {
        format!("its turn in the limit of {bucket}")
    };
    if let Some(lesson) = lesson {
        let closed_until_ms = lesson.closed_until_us / 1000;
        if closed_until_ms > now_ms {
            let _ = write!(because, ", closed by a 429 until {}", format_ms(closed_until_ms));
        }
        if let Some(rate) = lesson.calls_per_second {
            let _ = write!(because, ", which has learned a rate of {rate:.1}/s");
        }
    }
    Ok(because)
}

async fn paused(link: &mut Link, context: &Context, live: &Live, now_ms: u64) -> RedisResult<String> {
    let (_, rules) = control::load(link, &Keys::new(&context.config.redis.namespace, 0)).await?;
    let generation = live.state.as_ref().map_or(0, |state| state.generation);
    let lenient = context.config.limits.allow_missing_caller_id;
    let job = locate::parse(&live.job, live.origin, generation, lenient);
    let told = job.and_then(|job| {
        let id = job.id.as_ref().map_or_else(|| live.origin.to_string(), |id| id.as_str().to_owned());
        match rules.decide(&Subject::of(&job, &id, live.lane, live.origin.entry.ms), now_ms) {
            Decision::Pause(name, order) => Some(format!(
                "the end of an operator's pause ({}), by {} from {} since {}",
                selector_of(&name),
                order.who,
                order.from,
                format_ms(order.at_ms)
            )),
            _ => None,
        }
    });
    Ok(told.unwrap_or_else(|| "the end of a pause, which is over: it comes up now".to_owned()))
}

/// What a rule is about, as people say it: from its name.
fn selector_of(name: &str) -> String {
    let selector = name.split_once(' ').and_then(|(_, json)| serde_json::from_str::<Selector>(json).ok());
    selector.map_or_else(|| name.to_owned(), |selector| selector.shown())
}
