//! How the queue was: points for charts, from the records that workers and gateways write.

use super::{Backend, Error};
use crate::{
    contract::{Lane, Status, format_ms},
    jobs::{JobState, delayed_because},
    queue::{
        clock,
        history::{self, BOUNDS_MS, Histogram, Ring, Sample},
    },
};
use serde::Serialize;
use std::collections::BTreeMap;

/// How far back a history goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// An hour, in steps of 10 s.
    Hour,
    /// Twelve hours, in steps of a minute.
    HalfDay,
    /// Seven days, in steps of ten minutes.
    Week,
}

impl Range {
    const fn ring(self) -> Ring {
        match self {
            Self::Hour => Ring::Hour,
            Self::HalfDay => Ring::HalfDay,
            Self::Week => Ring::Week,
        }
    }

    /// Milliseconds between two points.
    pub const fn step_ms(self) -> u64 {
        self.ring().step_s() * 1000
    }
}

/// How the queue was at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// When its step began, RFC 3339, on Redis's clock.
    pub at: String,
    /// The same in milliseconds since 1970.
    #[serde(skip)]
    pub at_ms: u64,
    /// The lanes by their names.
    pub lanes: BTreeMap<&'static str, LanePoint>,
    /// Delayed jobs.
    pub delayed: u32,
    /// Of these: by `limit`, `retry`, `run_at`, `paused`, `breaker`.
    pub delayed_by: BTreeMap<&'static str, u32>,
    /// The counts by reason are exact, not projected from some of the jobs.
    pub delayed_exact: bool,
    /// Dead letters.
    pub dead_letters: u32,
    /// Calls that ended within the minute before.
    pub calls_last_minute: u32,
    /// Those of them that failed because of XCO or the network.
    pub failures_last_minute: u32,
    /// Workers that ran.
    pub workers: u16,
    /// Worker slots that might be used.
    pub slots_allowed: u32,
    /// Worker slots that were used.
    pub slots_used: u32,
    /// Workers called XCO no more.
    pub breaker_open: bool,
    /// Operators' rules in force.
    pub rules: u16,
    /// Callers and shared limits that were closed because of a 429.
    pub closed_limits: u16,
    /// What happened since the step before. `None`: there is no record of that, or the counters began anew.
    pub since: Option<Since>,
}

/// A lane at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LanePoint {
    /// Entries that no worker had read.
    pub waiting: u32,
    /// Entries that a worker had.
    pub in_flight: u32,
    /// Age of the oldest entry in milliseconds.
    pub oldest_ms: u32,
    /// An operator had paused the whole lane.
    pub paused: bool,
}

/// What happened within one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Since {
    /// Completions a second, by status.
    pub ended_per_second: BTreeMap<&'static str, f64>,
    /// Calls a second that XCO answered with 429.
    pub rate_limited_per_second: f64,
    /// How long the interactive jobs took that ended. `None`: none ended.
    pub people: Option<Quantiles>,
    /// How long the calls of the jobs took that ended. `None`: none called.
    pub xco: Option<Quantiles>,
}

/// Durations that half, and nineteen of twenty, did not exceed. Estimated from buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half took at most this long, in milliseconds.
    pub p50_ms: u64,
    /// Nineteen of twenty took at most this long, in milliseconds.
    pub p95_ms: u64,
}

/// The points of a range up to now, the oldest first. A step without a record is missing.
///
/// # Errors
/// [`Error::Redis`].
pub async fn read(backend: &mut Backend<'_>, range: Range) -> Result<Vec<Point>, Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let now_ms = clock::now_ms(&mut backend.link).await.map_err(&failed)?;
    let records = history::read(&mut backend.link, &keys, range.ring(), now_ms).await.map_err(failed)?;
    Ok(points(&records, range.ring().step_s()))
}

/// Records the step of this moment, unless another process has. Whether it did. A gateway calls it every ten seconds, so that a
/// backlog without any worker is seen.
///
/// # Errors
/// [`Error::Redis`].
pub async fn record_step(backend: &mut Backend<'_>) -> Result<bool, Error> {
    let (partitions, keys, failed) = (backend.keys(), backend.common_keys(), backend.failed());
    let link = &mut backend.link;
    let now_ms = clock::now_ms(link).await.map_err(&failed)?;
    if !history::take_turn(link, &keys, now_ms).await.map_err(&failed)? {
        return Ok(false);
    }
    let reason = |state: &[u8]| delayed_because(JobState::from_json(state).as_ref());
    let (at_ms, sample) = history::collect(link, &partitions, reason).await.map_err(&failed)?;
    history::write(link, &keys, &sample, at_ms).await.map_err(failed)?;
    Ok(true)
}

fn points(records: &[(u64, Sample)], step_s: u64) -> Vec<Point> {
    let mut before: Option<&(u64, Sample)> = None;
    let mut points = Vec::with_capacity(records.len());
    for record in records {
        let adjacent = before.filter(|(start_s, _)| start_s + step_s == record.0);
        points.push(point(record, adjacent.and_then(|(_, earlier)| since(earlier, &record.1, step_s))));
        before = Some(record);
    }
    points
}

fn point((start_s, sample): &(u64, Sample), since: Option<Since>) -> Point {
    let lanes = Lane::ALL.into_iter().zip(sample.lanes).map(|(lane, figures)| {
        let history::LaneSample { waiting, in_flight, oldest_ms, paused } = figures;
        (lane.as_str(), LanePoint { waiting, in_flight, oldest_ms, paused })
    });
    let at_ms = start_s.saturating_mul(1000);
    Point {
        at: format_ms(at_ms),
        at_ms,
        lanes: lanes.collect(),
        delayed: sample.delayed,
        delayed_by: history::REASONS
            .into_iter()
            .map(crate::contract::DelayReason::as_str)
            .zip(sample.delayed_by)
            .collect(),
        delayed_exact: sample.delayed_exact,
        dead_letters: sample.dead_letters,
        calls_last_minute: sample.calls_last_minute,
        failures_last_minute: sample.failures_last_minute,
        workers: sample.workers,
        slots_allowed: sample.slots_allowed,
        slots_used: sample.slots_used,
        breaker_open: sample.breaker_open,
        rules: sample.rules,
        closed_limits: sample.closed_limits,
        since,
    }
}

/// What happened between two samples; `None` if a counter began anew.
fn since(earlier: &Sample, later: &Sample, step_s: u64) -> Option<Since> {
    let mut ended = BTreeMap::new();
    for ((status, before), after) in Status::ALL.into_iter().zip(earlier.completions).zip(later.completions) {
        ended.insert(status.as_str(), per_second(difference(before, after)?, step_s));
    }
    Some(Since {
        ended_per_second: ended,
        rate_limited_per_second: per_second(difference(earlier.rate_limited, later.rate_limited)?, step_s),
        people: quantiles(&grown(&earlier.people, &later.people)?),
        xco: quantiles(&grown(&earlier.xco, &later.xco)?),
    })
}

/// How much a counter grew that wraps. `None`: it went back, because it began anew.
fn difference(before: u32, after: u32) -> Option<u32> {
    Some(after.wrapping_sub(before)).filter(|grown| *grown < u32::MAX / 2)
}

fn per_second(count: u32, seconds: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a step has few seconds")]
    let seconds = seconds.max(1) as f64;
    f64::from(count) / seconds
}

/// What two histograms differ by. `None`: a counter began anew.
fn grown(before: &Histogram, after: &Histogram) -> Option<[u64; 16]> {
    let mut counts = [0; 16];
    for (count, (before, after)) in counts.iter_mut().zip(before.0.into_iter().zip(after.0)) {
        *count = u64::from(difference(before, after)?);
    }
    Some(counts)
}

/// The quantiles of these counts by bucket; `None` if nothing was counted.
fn quantiles(counts: &[u64; 16]) -> Option<Quantiles> {
    let total: u64 = counts.iter().sum();
    let at = |percent| quantile(counts, total, percent);
    (total > 0).then(|| Quantiles { p50_ms: at(50), p95_ms: at(95) })
}

/// The duration that `percent` of the jobs did not exceed, as if they were spread evenly within a bucket.
fn quantile(counts: &[u64; 16], total: u64, percent: u64) -> u64 {
    let rank = (total * percent).div_ceil(100).max(1);
    let (mut below, mut lower_ms) = (0, 0);
    for (place, count) in counts.iter().enumerate() {
        // What took longer than the last bound took at least that.
        let Some(upper_ms) = BOUNDS_MS.get(place) else { break };
        if below + count >= rank {
            return lower_ms + (upper_ms - lower_ms) * (rank - below) / count.max(&1);
        }
        below += count;
        lower_ms = *upper_ms;
    }
    lower_ms
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    fn sample(succeeded: u32) -> Sample {
        Sample { completions: [succeeded, 0, 0, 0, 0], ..Sample::default() }
    }

    #[test]
    fn rates_are_differences_of_neighbours_and_a_gap_has_none() {
        let records = [(100, sample(10)), (110, sample(40)), (130, sample(90)), (140, sample(5)), (150, sample(6))];
        let points = points(&records, 10);
        let rates: Vec<_> =
            points.iter().map(|point| point.since.as_ref().map(|since| since.ended_per_second["succeeded"])).collect();
        // The first has no neighbour; 120 is missing; at 140 the counters began anew.
        assert_eq!(rates, [None, Some(3.0), None, None, Some(0.1)]);
        assert_eq!(points[2].at, "1970-01-01T00:02:10.000Z");
    }

    #[test]
    fn a_counter_that_wraps_grows_on() {
        let points = points(&[(0, sample(u32::MAX - 4)), (10, sample(15))], 10);
        assert_eq!(points[1].since.as_ref().unwrap().ended_per_second["succeeded"], 2.0);
    }

    #[test]
    fn quantiles_are_those_of_the_jobs_that_ended_in_the_step() {
        let histogram = |pairs: &[(usize, u32)]| {
            let mut counts = Histogram::default();
            for (place, count) in pairs {
                counts.0[*place] = *count;
            }
            counts
        };
        let before = histogram(&[(0, 1_000), (15, u32::MAX)]);
        // 90 of 100 to 200 ms, 10 of 2 to 5 s.
        let after = histogram(&[(0, 1_000), (5, 90), (9, 10), (15, u32::MAX)]);
        let found = quantiles(&grown(&before, &after).unwrap()).unwrap();
        assert_eq!((found.p50_ms, found.p95_ms), (155, 3_500));
        let longest = quantiles(&grown(&before, &histogram(&[(0, 1_000), (15, 0)])).unwrap()).unwrap();
        assert_eq!((longest.p50_ms, longest.p95_ms), (1_800_000, 1_800_000));
        assert_eq!(quantiles(&grown(&after, &after).unwrap()), None);
        assert_eq!(grown(&after, &Histogram::default()), None);
    }
}
