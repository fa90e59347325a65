//! Collects a status snapshot, in bounded time and memory.

use super::snapshot::{
    BackfillFigures, BreakerFigures, DeadLetters, Delayed, LaneFigures, LearnedLimitFigures, OverrideInForce, Rates,
    RouteBreaker, Snapshot, WorkerFigures,
};
use crate::{
    contract::{Lane, format_ms, look_into},
    jobs::{JobState, delayed_because},
    limits::{BreakerScope, Overrides},
    operations::{
        Backend, Error,
        backfill::{self, BackfillSummary},
        rule_in_force::rules_in_force,
    },
    queue::{
        Keys, Link, breakers, find, learned, maintenance, overrides,
        rules::{self, scan_delayed},
        workers,
    },
};
use redis::{RedisResult, cmd};
use serde_json::Value;
use std::collections::BTreeMap;

/// Delayed jobs that one step reads.
const STEP: usize = 1_000;
/// Dead letters of a partition that are read for the kinds of error.
const LETTERS: usize = 200;
/// Maximum number of learned limits, of rules and of backfills in a snapshot.
const LISTED: usize = 20;

/// Completions by type and status.
type Totals = BTreeMap<String, u64>;

/// Collects snapshots. It keeps the counters of the last one, for the rates of the next.
#[derive(Debug, Clone)]
pub struct SnapshotCollector {
    most_delayed: usize,
    before: Option<(u64, Totals)>,
}

impl SnapshotCollector {
    /// Reads the counters for the first rates. Each snapshot reads at most `most_delayed` delayed jobs.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn start(backend: &mut Backend<'_>, most_delayed: usize) -> Result<Self, Error> {
        let mut collector = Self { most_delayed, before: None };
        let failed = backend.failed();
        collector.totals(backend).await.map_err(failed)?;
        Ok(collector)
    }

    /// Collects a snapshot. Its rates are the completions since the one before, or since [`SnapshotCollector::start`].
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn collect(&mut self, backend: &mut Backend<'_>) -> Result<Snapshot, Error> {
        let failed = backend.failed();
        self.snapshot(backend).await.map_err(failed)
    }

    /// Reads the counters, and computes the rates since they were read before.
    async fn totals(&mut self, backend: &mut Backend<'_>) -> RedisResult<Rates> {
        let now_ms = rules::now_ms(&mut backend.link).await?;
        let mut totals = Totals::new();
        for partition in 0..backend.partitions() {
            let keys = backend.keys_of(partition);
            let counted: Totals = backend.link.query(cmd("HGETALL").arg(keys.stats)).await?;
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

    async fn snapshot(&mut self, backend: &mut Backend<'_>) -> RedisResult<Snapshot> {
        let rates = self.totals(backend).await?;
        let (now_ms, totals) = self.before.clone().unwrap_or_default();
        let first = backend.common_keys();
        let rules = rules::load(&mut backend.link, &first).await?;
        let mut snapshot =
            Snapshot { at: format_ms(now_ms), partitions: backend.partitions(), rates, ..Snapshot::default() };
        for (name, count) in totals {
            let (job_type, status) = name.split_once(':').unwrap_or(("", &name));
            let job_type = if job_type.is_empty() { "unknown" } else { job_type };
            snapshot.completions.entry(job_type.to_owned()).or_default().insert(status.to_owned(), count);
        }
        for lane in Lane::ALL {
            let paused = rules.lane_paused(lane, now_ms).is_some();
            snapshot.lanes.insert(lane.as_str(), LaneFigures { paused, ..LaneFigures::default() });
        }
        let mut looked_at = 0;
        for partition in 0..snapshot.partitions {
            let keys = backend.keys_of(partition);
            let link = &mut backend.link;
            for lane in Lane::ALL {
                if let Some(figures) = snapshot.lanes.get_mut(lane.as_str()) {
                    count_lane(link, &keys, lane, figures).await?;
                }
            }
            let left = self.most_delayed.saturating_sub(usize::try_from(looked_at).unwrap_or(usize::MAX));
            looked_at += count_delayed(link, &keys, left, &mut snapshot.delayed).await?;
            count_dead(link, &keys, &mut snapshot.dead_letters).await?;
            count_learned(link, &keys, now_ms, &mut snapshot.learned_limits).await?;
        }
        project(&mut snapshot.delayed, looked_at);
        snapshot.learned_limits.sort_by(|a, b| b.last_429_at.cmp(&a.last_429_at));
        snapshot.learned_limits.truncate(LISTED);
        let stored = overrides::load(&mut backend.link, &first).await?;
        snapshot.overrides = overrides_in_force(&stored.overrides);
        let open = breakers::open(&mut backend.link, &first).await?;
        snapshot.orders = rules_in_force(&rules, now_ms);
        snapshot.orders_total = snapshot.orders.len();
        snapshot.orders.truncate(LISTED);
        snapshot.backfills = backfill::running(backend, LISTED).await?.into_iter().map(backfill_figures).collect();
        let listed = workers::workers(&mut backend.link, &first).await?;
        let running = listed.iter().filter(|(_, beat)| beat.is_recent(now_ms));
        snapshot.differing_settings = workers::differences(running.map(|(name, beat)| (name.as_str(), &beat.settings)));
        snapshot.workers = listed
            .into_iter()
            .map(|(name, heartbeat)| WorkerFigures {
                name,
                uptime_ms: now_ms.saturating_sub(heartbeat.started_at_ms),
                silent_ms: now_ms.saturating_sub(heartbeat.seen_at_ms),
                heartbeat: workers::Heartbeat { rules_version: None, looks_at_recent: false, ..heartbeat },
            })
            .collect();
        snapshot.breaker = breaker_figures(&open, &snapshot.workers);
        Ok(snapshot)
    }
}

fn backfill_figures(summary: BackfillSummary) -> BackfillFigures {
    let BackfillSummary { batch, begun_at, valid, ended, unsuccessful, .. } = summary;
    let pending = valid.map(|valid| valid.saturating_sub(ended));
    BackfillFigures { batch, begun_at, valid, ended, unsuccessful, pending }
}

fn breaker_figures(open: &[(BreakerScope, u64)], workers: &[WorkerFigures]) -> BreakerFigures {
    let mut figures = BreakerFigures::default();
    let running = workers.iter().filter(|worker| !worker.is_silent());
    for route in running.flat_map(|worker| worker.heartbeat.breaker_routes.keys()) {
        figures.routes.entry(route.as_str()).or_default();
    }
    for (scope, open_ms) in open {
        match scope {
            BreakerScope::All => (figures.open, figures.open_for_ms) = (true, Some(*open_ms)),
            BreakerScope::Route(route) => {
                figures.routes.insert(route.as_str(), RouteBreaker { open_for_ms: Some(*open_ms) });
            }
        }
    }
    figures
}

async fn count_lane(link: &mut Link, keys: &Keys, lane: Lane, figures: &mut LaneFigures) -> RedisResult<()> {
    let backlog = match maintenance::backlog(link, keys, lane).await {
        Ok(backlog) => backlog,
        // No worker ever started: the jobs are there, the group is not.
        Err(error) if error.code() == Some("NOGROUP") => {
            let entries = link.query(cmd("XLEN").arg(keys.jobs(lane))).await?;
            maintenance::Backlog { entries, ..maintenance::Backlog::default() }
        }
        Err(error) => return Err(error),
    };
    figures.waiting += backlog.entries.saturating_sub(backlog.in_flight);
    figures.in_flight += backlog.in_flight;
    figures.oldest_ms = figures.oldest_ms.max(u64::try_from(backlog.oldest.as_millis()).unwrap_or(u64::MAX));
    Ok(())
}

/// Adds the delayed jobs of a partition. Returns how many of them it read.
async fn count_delayed(link: &mut Link, keys: &Keys, most: usize, delayed: &mut Delayed) -> RedisResult<u64> {
    delayed.total += link.query::<u64>(cmd("ZCARD").arg(&keys.delayed)).await?;
    let (mut cursor, mut looked_at) = (0, 0);
    while looked_at < most {
        let (next, parked) = scan_delayed(link, keys, cursor, STEP).await?;
        looked_at += parked.len();
        for job in parked {
            let reason = delayed_because(JobState::from_json(&job.state).as_ref());
            *delayed.by_reason.entry(reason).or_default() += 1;
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(u64::try_from(looked_at).unwrap_or(0))
}

/// Projects the counts by reason from the jobs that were read to all delayed jobs.
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

async fn count_learned(
    link: &mut Link,
    keys: &Keys,
    now_ms: u64,
    limits: &mut Vec<LearnedLimitFigures>,
) -> RedisResult<()> {
    for learned in learned::learned(link, keys, LISTED).await? {
        limits.push(LearnedLimitFigures {
            partition: keys.partition,
            bucket: learned.bucket,
            calls_per_second: learned.rate_per_s,
            closed_for_ms: Some(learned.closed_until_ms.saturating_sub(now_ms)).filter(|ms| *ms > 0),
            last_429_at: format_ms(learned.last_429_ms),
        });
    }
    Ok(())
}

fn overrides_in_force(overrides: &Overrides) -> Vec<OverrideInForce> {
    let in_force = overrides.all().map(|(setting, set)| OverrideInForce {
        name: setting.as_str(),
        value: set.value.to_string(),
        who: set.who.clone(),
        from: set.from.clone(),
        at: format_ms(set.at_ms),
        reason: set.reason.clone(),
    });
    in_force.collect()
}

/// How large `count` is as a share of `of`.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DelayReason;

    #[test]
    fn a_sample_is_projected_and_a_full_count_is_not() {
        let mut delayed = Delayed {
            total: 1000,
            by_reason: [(DelayReason::Limit, 75), (DelayReason::Retry, 25)].into(),
            exact: false,
        };
        project(&mut delayed, 100);
        assert_eq!(
            (delayed.by_reason[&DelayReason::Limit], delayed.by_reason[&DelayReason::Retry], delayed.exact),
            (750, 250, false)
        );
        let mut delayed = Delayed { total: 2, by_reason: [(DelayReason::RunAt, 2)].into(), exact: false };
        project(&mut delayed, 2);
        assert!(delayed.exact && delayed.by_reason[&DelayReason::RunAt] == 2);
    }
}
