//! Adds jobs to their lanes, as a producer does. No other code of this program does so, scripts aside.

use super::{Keys, Link, is_transient};
use crate::{
    contract::{EntryId, Lane},
    net::Backoff,
};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, pipe};
use std::time::Duration;

/// Maximum number of jobs in one pipeline.
pub const MAX_PIPELINE_JOBS: usize = 256;
/// A pipeline takes no further job once it holds this many bytes.
pub const MAX_PIPELINE_BYTES: usize = 1 << 20;
/// Attempts to send jobs that all have ids. The delays between them (0.2, 0.4 … 6.4 s) outlast a failover.
const MAX_ATTEMPTS: u32 = 7;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_millis(6_400);

/// A job's text and the lane that it goes to. It has no `Debug`: a job is about a person.
#[derive(Clone, PartialEq, Eq)]
pub struct LaneJob {
    /// The lane that the job goes to.
    pub lane: Lane,
    /// The partition of the lane.
    pub partition: u16,
    /// The job's JSON.
    pub json: String,
    /// Whether the job has an id. Workers drop a second job with the same id, so that it can be sent again.
    pub has_id: bool,
}

/// What Redis answered to [`enqueue`].
#[derive(Debug)]
pub struct Replies {
    /// The entry of each job, in the order of the jobs. `None`: Redis did not confirm the job; it may be in its lane or not.
    pub entries: Vec<Option<EntryId>>,
    /// Why some jobs are not confirmed.
    pub error: Option<RedisError>,
}

/// Adds jobs to their lanes, with one pipeline at a time for each partition (in a cluster, a pipeline goes to one node).
///
/// A pipeline whose jobs all have ids is sent again after an error that waiting can cure. No other pipeline is: its jobs
/// could run twice. The first pipeline that fails for good ends the work.
pub async fn enqueue(link: &mut Link, namespace: &str, jobs: &[&LaneJob]) -> Replies {
    let mut entries = vec![None; jobs.len()];
    for group in groups(jobs) {
        match add(link, namespace, jobs, &group).await {
            Ok(added) => {
                for (index, entry) in group.into_iter().zip(added) {
                    entries[index] = Some(entry);
                }
            }
            Err(error) => return Replies { entries, error: Some(error) },
        }
    }
    Replies { entries, error: None }
}

/// As [`enqueue`], of one job.
pub async fn enqueue_one(link: &mut Link, namespace: &str, job: &LaneJob) -> RedisResult<EntryId> {
    add(link, namespace, &[job], &[0]).await?.pop().ok_or_else(unexpected)
}

/// The indices of the jobs of each pipeline. A pipeline holds jobs of one partition, in their order.
fn groups(jobs: &[&LaneJob]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| jobs[*index].partition);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for index in order {
        let fits = |group: &Vec<usize>| {
            group.len() < MAX_PIPELINE_JOBS
                && bytes < MAX_PIPELINE_BYTES
                && group.first().is_some_and(|first| jobs[*first].partition == jobs[index].partition)
        };
        if let Some(group) = groups.last_mut().filter(|group| fits(group)) {
            group.push(index);
        } else {
            bytes = 0;
            groups.push(vec![index]);
        }
        bytes += jobs[index].json.len();
    }
    groups
}

async fn add(link: &mut Link, namespace: &str, jobs: &[&LaneJob], group: &[usize]) -> RedisResult<Vec<EntryId>> {
    let mut pipeline = pipe();
    for job in group.iter().map(|index| jobs[*index]) {
        let keys = Keys::new(namespace, job.partition);
        pipeline.cmd("XADD").arg(keys.jobs(job.lane)).arg("*").arg("job").arg(&job.json);
    }
    let is_repeatable = group.iter().all(|index| jobs[*index].has_id);
    let added = send(link, &pipeline, if is_repeatable { MAX_ATTEMPTS } else { 1 }).await?;
    added.iter().map(|entry| entry.parse().map_err(|_| unexpected())).collect()
}

async fn send(link: &mut Link, pipeline: &Pipeline, max_attempts: u32) -> RedisResult<Vec<String>> {
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    for _ in 1..max_attempts {
        match link.pipeline(pipeline).await {
            Err(error) if is_transient(&error) => {}
            result => return result,
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
    link.pipeline(pipeline).await
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "XADD did not answer with an entry id").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(jobs: &[LaneJob]) -> Vec<Vec<usize>> {
        groups(&jobs.iter().collect::<Vec<_>>())
    }

    fn job(partition: u16, bytes: usize) -> LaneJob {
        LaneJob { lane: Lane::Bulk, partition, json: "x".repeat(bytes), has_id: true }
    }

    #[test]
    fn a_pipeline_holds_one_partition_and_is_bounded() {
        let jobs: Vec<_> = [1, 0, 1, 0].into_iter().map(|partition| job(partition, 1)).collect();
        assert_eq!(grouped(&jobs), [[1, 3], [0, 2]]);
        let jobs: Vec<_> = (0..=MAX_PIPELINE_JOBS).map(|_| job(0, 1)).collect();
        assert_eq!(grouped(&jobs).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_PIPELINE_JOBS, 1]);
        let jobs: Vec<_> = (0..5).map(|_| job(0, MAX_PIPELINE_BYTES / 2)).collect();
        assert_eq!(grouped(&jobs).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(groups(&[]).is_empty());
    }
}
