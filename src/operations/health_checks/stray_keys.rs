//! Keys that look like lanes of the queue and that no worker reads.

use super::HealthCheck;
use crate::{config::RedisConfig, contract::Lane, queue::Link};
use redis::{RedisResult, cmd};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Keys looked at in one step.
const STEP: usize = 1_000;
/// Maximum number of steps, and maximum time for all of them: the check must not load Redis.
const STEPS: usize = 200;
const LONGEST: Duration = Duration::from_secs(2);
/// Maximum number of keys that the report names.
const SHOWN: usize = 5;

/// Finds streams with `jobs` in their name that are not lanes of this queue.
pub(super) async fn check(link: &mut Link, redis: &RedisConfig) -> RedisResult<HealthCheck> {
    const NAME: &str = "stray keys";
    let until = Instant::now() + LONGEST;
    let (mut cursor, mut steps) = (0_u64, 0);
    let mut strays = BTreeMap::new();
    let complete = loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("*jobs:*").arg("COUNT").arg(STEP).arg("TYPE").arg("stream");
        let (next, names): (u64, Vec<Vec<u8>>) = link.query(&scan).await?;
        for name in names {
            let name = String::from_utf8_lossy(&name).into_owned();
            if strays.len() < 100
                && let Some(hint) = stray(&name, &redis.namespace, redis.partitions.get())
            {
                strays.insert(name, hint);
            }
        }
        (cursor, steps) = (next, steps + 1);
        if cursor == 0 {
            break true;
        }
        if steps >= STEPS || Instant::now() >= until {
            break false;
        }
    };
    let rest = if complete { "" } else { " (not all keys were looked at: there are too many)" };
    let Some(first) = strays.values().next() else {
        return Ok(HealthCheck::ok(NAME, format!("no lane that nobody reads{rest}")));
    };
    let named: Vec<_> = strays.keys().take(SHOWN).map(String::as_str).collect();
    let more = strays.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(HealthCheck::warn(
        NAME,
        format!("no worker of this configuration reads {}{more}{rest}", named.join(", ")),
        first,
    ))
}

/// What to do about a key that is not a lane of this queue. `None` for a lane.
fn stray(name: &str, namespace: &str, partitions: u16) -> Option<String> {
    let lanes = Lane::ALL.map(|lane| format!("jobs:{}", lane.as_str()));
    let Some((tag, rest)) = name.strip_prefix('{').and_then(|inner| inner.split_once("}:")) else {
        let (tag, rest) = name.split_at(name.find(":jobs:")?);
        let meant = nearest(&rest[1..], &lanes);
        let tag = if tag.contains(':') { tag.to_owned() } else { format!("{namespace}:0") };
        let tag = tag.trim_start_matches('{').trim_end_matches('}');
        return Some(format!("producers have to write to {{{tag}}}:{meant}, braces included"));
    };
    if !rest.starts_with("jobs:") {
        return None;
    }
    let (theirs, number) = tag.rsplit_once(':').unwrap_or((tag, ""));
    if theirs != namespace {
        let meant = nearest(rest, &lanes);
        return Some(format!(
            "redis.namespace is {namespace} here: {name} needs a worker with namespace {theirs}, or was meant for \
             {{{namespace}:0}}:{meant}"
        ));
    }
    match number.parse::<u16>() {
        Ok(partition) if partition < partitions && number == partition.to_string() => {}
        _ => {
            return Some(format!(
                "redis.partitions is {partitions} here, so partitions are 0 to {}: producers have to use the same number",
                partitions - 1
            ));
        }
    }
    (!lanes.iter().any(|lane| lane == rest))
        .then(|| format!("{{{tag}}}:{} was meant: correct the producer, and move what is in it", nearest(rest, &lanes)))
}

/// The lane with the most similar name.
fn nearest<'a>(name: &str, lanes: &'a [String; 2]) -> &'a str {
    let [interactive, bulk] = lanes;
    if strsim::jaro_winkler(name, bulk) > strsim::jaro_winkler(name, interactive) { bulk } else { interactive }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nobody_reads_is_told_from_a_lane() {
        for lane in ["{xco:0}:jobs:interactive", "{xco:3}:jobs:bulk"] {
            assert_eq!(stray(lane, "xco", 4), None);
        }
        for (name, hint) in [
            ("{xco:0}:jobs:interactiv", "{xco:0}:jobs:interactive was meant"),
            ("{xco:0}:jobs:blk", "{xco:0}:jobs:bulk was meant"),
            ("xco:0:jobs:interactive", "{xco:0}:jobs:interactive, braces included"),
            ("{shop:0}:jobs:bulk", "redis.namespace is xco"),
            ("{xco:4}:jobs:bulk", "partitions are 0 to 3"),
            ("{xco}:jobs:bulk", "partitions are 0 to 3"),
            ("{xco:01}:jobs:bulk", "partitions are 0 to 3"),
        ] {
            let told = stray(name, "xco", 4).unwrap();
            assert!(told.contains(hint), "{name}: {told}");
        }
    }
}
