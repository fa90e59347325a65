//! The summary of the demo.

use super::runner::{DemoTally, Runner, StepEnd};
use crate::{
    cli::{print_json, style::Tone},
    contract::JobType,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Completions with the same type, status and outcome.
#[derive(Debug, Default)]
struct SummaryGroup {
    calls: u64,
    total_ms: Vec<u64>,
    limited: usize,
    retried: usize,
}

/// Prints the summary.
pub(super) fn print(runner: &Runner<'_>, tally: &DemoTally) -> anyhow::Result<()> {
    let ends: Vec<&StepEnd> = runner.seen.values().flatten().collect();
    let groups = grouped(&ends);
    let longest = |of: fn(&StepEnd) -> u64| ends.iter().map(|ended| of(ended)).max().unwrap_or(0);
    let stats = runner.sandbox.stats();
    let answered = |wanted: u16| -> u64 { stats.answers.values().filter_map(|by_status| by_status.get(&wanted)).sum() };
    let (limited_ms, retrying_ms) = (longest(|ended| ended.limited_ms), longest(|ended| ended.retrying_ms));
    let narrator = &runner.narrator;
    if narrator.is_json() {
        return print_json(&json!({"summary": {
            "jobs": tally.jobs, "completions": tally.completions, "missing": tally.missing, "twice": tally.twice,
            "unexpected": tally.otherwise, "exactly_once": tally.is_good(), "calls": stats.calls,
            "answered_429": answered(429), "answered_503": answered(503),
            "longest_limited_ms": limited_ms, "longest_retrying_ms": retrying_ms,
        }}));
    }
    narrator.heading("What it came to")?;
    let header = format!(
        "{:<15}  {:<9}  {:<14}  {:>5}  {:>6}  {:>7}  {:>7}  {:>7}  {:>7}",
        "TYPE", "STATUS", "OUTCOME", "JOBS", "CALLS", "LIMITED", "RETRIED", "P50 MS", "P95 MS"
    );
    narrator.say("")?;
    narrator.say(&narrator.paint(Tone::Strong, &header))?;
    for ((job_type, status, outcome), mut group) in groups {
        group.total_ms.sort_unstable();
        narrator.say(&format!(
            "{job_type:<15}  {status:<9}  {outcome:<14}  {:>5}  {:>6}  {:>7}  {:>7}  {:>7}  {:>7}",
            group.total_ms.len(),
            group.calls,
            group.limited,
            group.retried,
            percentile(&group.total_ms, 50),
            percentile(&group.total_ms, 95),
        ))?;
    }
    narrator.say("")?;
    narrator.say(&format!(
        "Calls to XCO    {}, of which {} were answered 503 and {} answered 429",
        stats.calls,
        answered(503),
        answered(429)
    ))?;
    narrator.say(&format!("Longest waits   {limited_ms} ms for a limit, {retrying_ms} ms between tries"))?;
    let verdict = if tally.is_good() {
        let text = "none missing, none twice, each ended as it should";
        narrator.paint(Tone::Good, text)
    } else {
        narrator.paint(Tone::Bad, "not as it should be")
    };
    narrator.say(&format!("Exactly once    {} jobs, {} completions: {verdict}", tally.jobs, tally.completions))?;
    for (what, ids) in [("missing", &tally.missing), ("twice", &tally.twice), ("not as expected", &tally.otherwise)] {
        if !ids.is_empty() {
            let shown: Vec<&str> = ids.iter().map(String::as_str).take(10).collect();
            let more = if ids.len() > shown.len() { ", …" } else { "" };
            narrator.say(&format!("                {what}: {}{more}", shown.join(", ")))?;
        }
    }
    Ok(())
}

fn grouped<'a>(ends: &[&'a StepEnd]) -> BTreeMap<(&'static str, &'static str, &'a str), SummaryGroup> {
    let mut groups: BTreeMap<_, SummaryGroup> = BTreeMap::new();
    for ended in ends {
        let job_type = ended.job_type.map_or("-", JobType::as_str);
        let group = groups.entry((job_type, ended.status.as_str(), ended.outcome.as_str())).or_default();
        group.calls += ended.attempts;
        group.total_ms.push(ended.total_ms);
        group.limited += usize::from(ended.limited_ms > 0);
        group.retried += usize::from(ended.retrying_ms > 0);
    }
    groups
}

/// The smallest of the sorted values that `percent` of them do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 95), 7);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (50, 95));
    }
}
