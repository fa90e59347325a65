//! Counts the waiting and running jobs of callers.

use crate::{
    config::Config,
    contract::Lane,
    operations::jobs::Live,
    queue::{Keys, Link, Source, find, rules::scan_delayed},
};
use redis::RedisResult;

/// Delayed jobs that one step reads.
const STEP: usize = 1_000;

/// Entries of a stream that one step reads.
const PAGE: usize = 500;

/// Maximum number of entries of one stream that are looked at for jobs in flight.
const MOST_IN_FLIGHT: usize = 10_000;

/// Calls `each` with the effective caller of each delayed job of a partition, for at most `most` jobs. Returns how many were looked at,
/// and whether these were all.
pub(super) async fn delayed(
    link: &mut Link,
    keys: &Keys,
    config: &Config,
    most: u64,
    mut each: impl FnMut(&str),
) -> RedisResult<(u64, bool)> {
    let (mut cursor, mut looked_at) = (0, 0);
    while looked_at < most {
        let (next, jobs) = scan_delayed(link, keys, cursor, STEP).await?;
        looked_at += u64::try_from(jobs.len()).unwrap_or(0);
        for job in jobs {
            of(&Live::delayed(job), config, &mut each);
        }
        cursor = next;
        if cursor == 0 {
            return Ok((looked_at, true));
        }
    }
    Ok((looked_at, false))
}

/// As [`delayed`], for the jobs of a partition that workers have read and not ended.
pub(super) async fn in_flight(
    link: &mut Link,
    keys: &Keys,
    config: &Config,
    mut each: impl FnMut(&str),
) -> RedisResult<bool> {
    let mut is_complete = true;
    for lane in Lane::ALL {
        for source in [Source::Due, Source::Jobs] {
            let Some(read) = find::last_read(link, keys.stream(lane, source)).await? else { continue };
            let (mut after, mut looked_at) = (None, 0);
            loop {
                let page = find::page(link, keys, lane, source, after, PAGE).await?;
                let Some(last) = page.last().map(|entry| entry.id) else { break };
                looked_at += page.len();
                for entry in page.into_iter().filter(|entry| entry.id <= read) {
                    of(&Live::in_stream(entry, keys.partition), config, &mut each);
                }
                if last >= read {
                    break;
                }
                if looked_at >= MOST_IN_FLIGHT {
                    is_complete = false;
                    break;
                }
                after = Some(last);
            }
        }
    }
    Ok(is_complete)
}

fn of(live: &Live, config: &Config, each: &mut impl FnMut(&str)) {
    let job = live.parse(config.limits.allow_missing_caller_id);
    if let Some(caller) = job.and_then(|(job, _)| job.effective_caller) {
        each(caller.as_str());
    }
}
