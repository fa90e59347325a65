//! The completion streams: how full they are, and how far their slowest readers are behind.

use super::HealthCheck;
use crate::{
    config::{CompletionsConfig, RedisConfig, format_duration},
    queue::{Keys, Link, clock::now_ms, maintenance},
};
use redis::{RedisResult, cmd};
use std::time::Duration;

/// A group that is further behind than this is reported: its reader is slow, or does not exist any more.
const BEHIND: Duration = Duration::from_secs(3600);

/// The figures of all streams together.
#[derive(Debug, Default)]
struct StreamFigures {
    bytes: u64,
    length: u64,
    groups: usize,
    /// How far the slowest group is behind, its name, and its stream.
    slowest: Option<(Duration, String, String)>,
}

/// One check of all partitions' streams. Its cost grows with the number of groups.
pub(super) async fn check(
    link: &mut Link,
    redis: &RedisConfig,
    config: &CompletionsConfig,
) -> RedisResult<HealthCheck> {
    let mut seen = StreamFigures::default();
    let now_ms = now_ms(link).await?;
    for number in redis.partitions.numbers() {
        let stream = Keys::new(&redis.namespace, number).completions;
        let bytes: Option<u64> = link.query(cmd("MEMORY").arg("USAGE").arg(&stream).arg("SAMPLES").arg(64)).await?;
        seen.bytes += bytes.unwrap_or(0);
        seen.length += link.query::<u64>(cmd("XLEN").arg(&stream)).await?;
        let groups = maintenance::reader_groups(link, &stream).await?;
        seen.groups = seen.groups.max(groups.len());
        for group in groups {
            let Some(unread) = maintenance::oldest_unread(link, &stream, &group).await? else { continue };
            let behind = Duration::from_millis(now_ms.saturating_sub(unread.ms));
            if seen.slowest.as_ref().is_none_or(|(most, ..)| behind > *most) {
                seen.slowest = Some((behind, group.name, stream.clone()));
            }
        }
    }
    Ok(tell(&seen, config.max_bytes))
}

fn tell(seen: &StreamFigures, max_bytes: u64) -> HealthCheck {
    const NAME: &str = "completions";
    let figures =
        format!("{} kept, {} of {} MiB, {} reader groups", seen.length, seen.bytes >> 20, max_bytes >> 20, seen.groups);
    match &seen.slowest {
        Some((behind, group, stream)) if *behind > BEHIND => {
            let behind = format_duration(Duration::from_secs(behind.as_secs()));
            let remedy =
                format!("start its reader; a group that nobody needs any more: XGROUP DESTROY {stream} {group}");
            HealthCheck::warn(NAME, format!("{figures}; group {group} is behind by {behind}"), &remedy)
        }
        _ if seen.bytes > max_bytes / 10 * 9 => {
            let remedy =
                "the oldest are dropped at the limit, read or not: raise completions.max_bytes, or read faster";
            HealthCheck::warn(NAME, format!("{figures}: nine tenths of completions.max_bytes"), remedy)
        }
        _ => HealthCheck::ok(NAME, figures),
    }
}

#[cfg(test)]
mod tests {
    use super::super::HealthStatus;
    use super::*;

    fn seen(bytes: u64, behind_s: u64) -> StreamFigures {
        let slowest = Some((Duration::from_secs(behind_s), "shop".to_owned(), "{xco:0}:completions".to_owned()));
        StreamFigures { bytes, length: 7, groups: 1, slowest }
    }

    #[test]
    fn a_group_nobody_reads_for_is_named_and_so_is_a_stream_that_is_full() {
        assert_eq!(tell(&seen(10, 60), 1 << 20).status, HealthStatus::Ok);
        assert_eq!(tell(&StreamFigures::default(), 1 << 20).status, HealthStatus::Ok);
        let dead = tell(&seen(10, 200_000), 1 << 20);
        assert_eq!(dead.status, HealthStatus::Warn);
        assert!(dead.remedy.is_some_and(|remedy| remedy.contains("XGROUP DESTROY {xco:0}:completions shop")));
        assert_eq!(tell(&seen(1 << 20, 60), 1 << 20).status, HealthStatus::Warn);
    }
}
