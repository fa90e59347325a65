//! Looking at everything that `status` shows: in bounded time and memory, however long the queues are.

use super::picture::{
    BreakerFigures, DeadLetters, Delayed, LaneFigures, LearnedLimit, OrderShown, Picture, Rates, RouteBreaker,
    WorkerShown,
};
use crate::{
    config::RedisConfig,
    contract::{Lane, format_ms, look_into},
    control::{Rules, Verb},
    jobs::{JobState, Waiting},
    limits::Scope,
    queue::{
        Keys, Link, breakers,
        control::{self, scan_parked},
        find, upkeep, workers,
    },
};
use redis::{RedisResult, cmd};
use serde_json::Value;
use std::collections::BTreeMap;

/// Parked jobs looked at in one step.
const STEP: usize = 1_000;
/// Dead letters of a partition looked at for the kinds of error.
const LETTERS: usize = 200;
/// A worker that has said nothing for so long is not counted on.
const SILENT_MS: u64 = 10_000;
/// Learned limits, and orders, listed at most.
const LISTED: usize = 20;

/// Completions by type and status.
type Totals = BTreeMap<String, u64>;

pub(super) struct Gatherer<'a> {
    redis: &'a RedisConfig,
    /// Parked jobs looked at, at most.
    look_at: usize,
    before: Option<(u64, Totals)>,
}

impl<'a> Gatherer<'a> {
    pub(super) const fn new(redis: &'a RedisConfig, look_at: usize) -> Self {
        Self { redis, look_at, before: None }
    }

    fn keys(&self, partition: u16) -> Keys {
        Keys::new(&self.redis.namespace, partition)
    }

    /// Reads the counters: rates are what is added to them until the next look.
    pub(super) async fn totals(&mut self, link: &mut Link) -> RedisResult<Rates> {
        let now_ms = control::now_ms(link).await?;
        let mut totals = Totals::new();
        for partition in 0..self.redis.partitions.max(1) {
            let counted: Totals = link.query(cmd("HGETALL").arg(self.keys(partition).stats)).await?;
            for (name, count) in counted {
                *totals.entry(name).or_default() += count;
            }
        }
        let mut rates = Rates::default();
        if let Some((before_ms, before)) = &self.before {
            rates.over_ms = now_ms.saturating_sub(*before_ms).max(1);
            for (name, count) in &totals {
                let added = count.saturating_sub(before.get(name).copied().unwrap_or(0));
                let per_second = ratio(added * 1000, rates.over_ms);
                let (_, status) = name.split_once(':').unwrap_or(("", name));
                if added > 0 {
                    *rates.by_status.entry(status.to_owned()).or_default() += per_second;
                    rates.per_second += per_second;
                }
            }
        }
        self.before = Some((now_ms, totals));
        Ok(rates)
    }

    pub(super) async fn picture(&mut self, link: &mut Link) -> RedisResult<Picture> {
        let rates = self.totals(link).await?;
        let (now_ms, totals) = self.before.clone().unwrap_or_default();
        let first = self.keys(0);
        let (_, rules) = control::load(link, &first).await?;
        let mut picture =
            Picture { at: format_ms(now_ms), partitions: self.redis.partitions.max(1), rates, ..Picture::default() };
        for (name, count) in totals {
            let (job_type, status) = name.split_once(':').unwrap_or(("", &name));
            let job_type = if job_type.is_empty() { "unknown" } else { job_type };
            picture.completions.entry(job_type.to_owned()).or_default().insert(status.to_owned(), count);
        }
        for lane in Lane::ALL {
            let paused = rules.lane_paused(lane, now_ms).is_some();
            picture.lanes.insert(lane.as_str(), LaneFigures { paused, ..LaneFigures::default() });
        }
        let mut looked_at = 0;
        for partition in 0..picture.partitions {
            let keys = self.keys(partition);
            for lane in Lane::ALL {
                if let Some(figures) = picture.lanes.get_mut(lane.as_str()) {
                    count_lane(link, &keys, lane, figures).await?;
                }
            }
            let left = self.look_at.saturating_sub(usize::try_from(looked_at).unwrap_or(usize::MAX));
            looked_at += count_delayed(link, &keys, left, &mut picture.delayed).await?;
            count_dead(link, &keys, &mut picture.dead_letters).await?;
            learned(link, &keys, now_ms, &mut picture.learned_limits).await?;
        }
        project(&mut picture.delayed, looked_at);
        picture.learned_limits.sort_by(|a, b| b.last_429_at.cmp(&a.last_429_at));
        picture.learned_limits.truncate(LISTED);
        let open = breakers::open(link, &first).await?;
        (picture.orders, picture.orders_total) = orders(&rules, now_ms);
        let listed = workers::workers(link, &first).await?;
        let living = listed.iter().filter(|(_, beat)| beat.seen_at_ms.saturating_add(workers::SILENT_MS) > now_ms);
        picture.differing_settings = workers::differences(living.map(|(name, beat)| (name.as_str(), &beat.settings)));
        picture.workers = listed
            .into_iter()
            .map(|(name, heartbeat)| WorkerShown {
                name,
                uptime_ms: now_ms.saturating_sub(heartbeat.started_at_ms),
                silent_ms: now_ms.saturating_sub(heartbeat.seen_at_ms),
                heartbeat,
            })
            .collect();
        picture.breaker = breaker_figures(&open, &picture.workers);
        Ok(picture)
    }
}

fn breaker_figures(open: &[(Scope, u64)], workers: &[WorkerShown]) -> BreakerFigures {
    let mut figures = BreakerFigures::default();
    let living = workers.iter().filter(|worker| worker.silent_ms <= SILENT_MS);
    for route in living.flat_map(|worker| worker.heartbeat.breaker_routes.keys()) {
        figures.routes.entry(route.as_str()).or_default();
    }
    for (scope, open_ms) in open {
        match scope {
            Scope::All => (figures.open, figures.open_for_ms) = (true, Some(*open_ms)),
            Scope::Route(route) => {
                figures.routes.insert(route.as_str(), RouteBreaker { open_for_ms: Some(*open_ms) });
            }
        }
    }
    figures
}

async fn count_lane(link: &mut Link, keys: &Keys, lane: Lane, figures: &mut LaneFigures) -> RedisResult<()> {
    let backlog = match upkeep::backlog(link, keys, lane).await {
        Ok(backlog) => backlog,
        // No worker ever started: the jobs are there, the group is not.
        Err(error) if error.code() == Some("NOGROUP") => {
            let entries = link.query(cmd("XLEN").arg(keys.jobs(lane))).await?;
            upkeep::Backlog { entries, ..upkeep::Backlog::default() }
        }
        Err(error) => return Err(error),
    };
    figures.waiting += backlog.entries.saturating_sub(backlog.in_flight);
    figures.in_flight += backlog.in_flight;
    figures.oldest_ms = figures.oldest_ms.max(u64::try_from(backlog.oldest.as_millis()).unwrap_or(u64::MAX));
    Ok(())
}

/// Adds what a partition has parked; tells how many it looked at.
async fn count_delayed(link: &mut Link, keys: &Keys, most: usize, delayed: &mut Delayed) -> RedisResult<u64> {
    delayed.total += link.query::<u64>(cmd("ZCARD").arg(&keys.delayed)).await?;
    let (mut cursor, mut looked_at) = (0, 0);
    while looked_at < most {
        let (next, parked) = scan_parked(link, keys, cursor, STEP).await?;
        looked_at += parked.len();
        for job in parked {
            *delayed.by_reason.entry(reason(&job.state)).or_default() += 1;
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(u64::try_from(looked_at).unwrap_or(0))
}

fn reason(state: &[u8]) -> &'static str {
    let Some(state) = JobState::from_json(state) else { return "slot" };
    match state.waiting {
        Some((Waiting::Limit, _)) => "limit",
        Some((Waiting::Retry, _)) => "retry",
        Some((Waiting::Schedule, _)) => "run_at",
        Some((Waiting::Paused, _)) if state.by_breaker => "breaker",
        Some((Waiting::Paused, _)) => "paused",
        Some((Waiting::Slot, _)) | None => "slot",
    }
}

/// From those looked at to all of them.
fn project(delayed: &mut Delayed, looked_at: u64) {
    delayed.exact = looked_at >= delayed.total;
    if !delayed.exact && looked_at > 0 {
        for count in delayed.by_reason.values_mut() {
            let all = u128::from(*count) * u128::from(delayed.total) / u128::from(looked_at);
            *count = u64::try_from(all).unwrap_or(u64::MAX);
        }
    }
}

async fn count_dead(link: &mut Link, keys: &Keys, dead: &mut DeadLetters) -> RedisResult<()> {
    dead.total += link.query::<u64>(cmd("XLEN").arg(&keys.dead)).await?;
    for (_, fields) in find::page_back(link, &keys.dead, None, LETTERS).await? {
        let error: Option<Value> = fields.get("error").and_then(|error| look_into(error));
        let kind = error.as_ref().and_then(|error| error["kind"].as_str()).unwrap_or("unknown");
        *dead.by_kind.entry(kind.to_owned()).or_default() += 1;
        dead.looked_at += 1;
    }
    Ok(())
}

async fn learned(link: &mut Link, keys: &Keys, now_ms: u64, limits: &mut Vec<LearnedLimit>) -> RedisResult<()> {
    let last: Vec<(String, f64)> = link
        .query(
            cmd("ZREVRANGEBYSCORE")
                .arg(&keys.learned)
                .arg("+inf")
                .arg("-inf")
                .arg("WITHSCORES")
                .arg("LIMIT")
                .arg(0)
                .arg(LISTED),
        )
        .await?;
    for (bucket, at_ms) in last {
        let lesson = find::lesson(link, keys, &bucket).await?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
        let at_ms = at_ms as u64;
        limits.push(LearnedLimit {
            partition: keys.partition,
            bucket,
            calls_per_second: lesson.and_then(|lesson| lesson.calls_per_second),
            closed_for_ms: lesson
                .map(|lesson| (lesson.closed_until_us / 1000).saturating_sub(now_ms))
                .filter(|ms| *ms > 0),
            last_429_at: format_ms(at_ms),
        });
    }
    Ok(())
}

fn orders(rules: &Rules, now_ms: u64) -> (Vec<OrderShown>, usize) {
    let mut holding: Vec<_> = rules.all().filter(|(_, _, order)| order.holds(now_ms)).collect();
    // Pauses first, they stop things; of each kind the latest.
    holding.sort_by_key(|(verb, _, order)| (*verb == Verb::Cancel, std::cmp::Reverse(order.at_ms)));
    let total = holding.len();
    let shown = holding.into_iter().take(LISTED).map(|(verb, selector, order)| OrderShown {
        order: verb.as_str(),
        jobs: selector.clone(),
        who: order.who.clone(),
        from: order.from.clone(),
        at: format_ms(order.at_ms),
        until: order.until_ms.map(format_ms),
    });
    (shown.collect(), total)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_projected_and_a_full_count_is_not() {
        let mut delayed = Delayed { total: 1000, by_reason: [("limit", 75), ("retry", 25)].into(), exact: false };
        project(&mut delayed, 100);
        assert_eq!((delayed.by_reason["limit"], delayed.by_reason["retry"], delayed.exact), (750, 250, false));
        let mut delayed = Delayed { total: 2, by_reason: [("run_at", 2)].into(), exact: false };
        project(&mut delayed, 2);
        assert!(delayed.exact && delayed.by_reason["run_at"] == 2);
    }
}
