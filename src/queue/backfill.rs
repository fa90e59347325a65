//! The stored progress of a backfill: how far each partition was enqueued, and the result of each row.
//!
//! A run takes over the backfill ([`take_over`]). From then on, an earlier run can enqueue nothing more. No one reads
//! the batch's consumer group on the completions: it marks a position, so that trimming keeps the completions that were
//! not collected yet.

use super::{
    Keys, Link,
    script::{Script, integers, script},
};
use crate::contract::{EntryId, Lane};
use redis::{RedisResult, Value, cmd, pipe};
use std::{collections::HashMap, sync::LazyLock};

static FEED: LazyLock<Script> = LazyLock::new(|| script!("feed" on "atomic"));
static RECORD: LazyLock<Script> = LazyLock::new(|| script!("record" on "atomic"));

/// Maximum number of rows to enqueue, or completions to record, in one call.
pub const MAX_ROWS: usize = 256;
/// Size of a row's result in bytes: outcome, error, calls of its check, calls of its creation.
pub const RESULT_BYTES: usize = 4;
/// How long an abandoned backfill is remembered, in seconds.
const LIFE_S: u64 = 30 * 86_400;

/// The identity of a backfill. It is the same in all its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Digest of the files and of everything that determines their rows.
    pub fingerprint: String,
    /// The files and flags, as JSON.
    pub what: String,
}

/// The progress of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The highest row enqueued in this partition. 0 means none.
    pub row: u64,
    /// The number of rows enqueued in this partition.
    pub fed: u64,
    /// The last completion that was collected.
    pub collected: Option<EntryId>,
}

/// The numbers of completed rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// All completed rows.
    pub rows: u64,
    /// Completed rows without success.
    pub unsuccessful: u64,
}

/// The result of an attempt to enqueue rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// The rows are enqueued.
    Done,
    /// Nothing was enqueued: another run has taken over, or the checkpoint is gone.
    NotOurs,
}

/// What a completion says about its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// The number of the row.
    pub row: u64,
    /// Outcome and error, one ASCII character each.
    pub code: [u8; 2],
    /// Calls made by the check. `None` if this completion is not the check's.
    pub checks: Option<u8>,
    /// Calls made by the creation. `None` if this completion is not the creation's.
    pub creates: Option<u8>,
}

impl Update {
    /// An update for a row that has completed with an unknown result. It never replaces a known result, and a known
    /// result that is recorded later replaces it.
    pub const fn unknown(row: u64) -> Self {
        Self { row, code: [b'u', b'-'], checks: None, creates: None }
    }
}

fn group(batch: &str) -> String {
    format!("backfill:{batch}")
}

/// Returns the identity of a backfill and, once all its files were read completely, their counts as JSON. `first` is
/// partition 0.
pub async fn plan(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<Option<(Plan, Option<String>)>> {
    let mut get = cmd("HMGET");
    get.arg(first.backfill(batch)).arg("fingerprint").arg("plan").arg("counts");
    let (fingerprint, what, counts): (Option<String>, Option<String>, Option<String>) = link.query(&get).await?;
    Ok(fingerprint.zip(what).map(|(fingerprint, what)| (Plan { fingerprint, what }, counts)))
}

/// Registers the backfill, unless it exists. Returns the identity that is stored.
pub async fn begin(link: &mut Link, first: &Keys, batch: &str, plan: &Plan) -> RedisResult<Plan> {
    let key = first.backfill(batch);
    let mut set = pipe();
    set.cmd("HSETNX").arg(&key).arg("fingerprint").arg(&plan.fingerprint).ignore();
    set.cmd("HSETNX").arg(&key).arg("plan").arg(&plan.what).ignore();
    set.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    set.cmd("HMGET").arg(&key).arg("fingerprint").arg("plan");
    let ((fingerprint, what),): ((String, String),) = link.pipeline(&set).await?;
    Ok(Plan { fingerprint, what })
}

/// Records that all files were read. `counts` describes their contents, as JSON.
pub async fn read_to_the_end(link: &mut Link, first: &Keys, batch: &str, counts: &str) -> RedisResult<()> {
    link.query(cmd("HSET").arg(first.backfill(batch)).arg("counts").arg(counts)).await
}

/// Takes over one partition for `run`, and ensures that completions are kept until they are collected.
pub async fn take_over(link: &mut Link, keys: &Keys, batch: &str, run: &str) -> RedisResult<Mark> {
    let key = keys.backfill(batch);
    let mut set = pipe();
    set.cmd("HSET").arg(&key).arg("run").arg(run).ignore();
    set.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    link.pipeline::<()>(&set).await?;
    let mut mark = mark(link, keys, batch).await?;
    let from = mark.collected.map_or_else(|| "$".to_owned(), |entry| entry.to_string());
    let mut create = cmd("XGROUP");
    create.arg("CREATE").arg(&keys.completions).arg(group(batch)).arg(from).arg("MKSTREAM");
    match link.query::<Value>(&create).await {
        Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
        _ => {}
    }
    if mark.collected.is_none() {
        let from = group_at(link, keys, batch).await?.unwrap_or(EntryId { ms: 0, seq: 0 });
        let _: u64 = link.query(cmd("HSETNX").arg(&key).arg("collected").arg(from.to_string())).await?;
        mark.collected = Some(from);
    }
    Ok(mark)
}

/// Returns the progress of a partition.
pub async fn mark(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<Mark> {
    let mut get = cmd("HMGET");
    get.arg(keys.backfill(batch)).arg("mark").arg("fed").arg("collected");
    let (row, fed, collected): (Option<u64>, Option<u64>, Option<String>) = link.query(&get).await?;
    let collected = collected.and_then(|entry| entry.parse().ok());
    Ok(Mark { row: row.unwrap_or(0), fed: fed.unwrap_or(0), collected })
}

async fn group_at(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<Option<EntryId>> {
    let groups: Vec<HashMap<String, Value>> = link.query(cmd("XINFO").arg("GROUPS").arg(&keys.completions)).await?;
    let text = |group: &HashMap<String, Value>, name: &str| -> Option<String> {
        redis::from_redis_value(group.get(name)?.clone()).ok()
    };
    let ours = groups.iter().find(|found| text(found, "name") == Some(group(batch)));
    Ok(ours.and_then(|group| text(group, "last-delivered-id")).and_then(|id| id.parse().ok()))
}

/// Enqueues at most [`MAX_ROWS`] `jobs` and moves the highest row from `before` to `after`, in one atomic step.
/// Idempotent, so it can be repeated after a lost reply.
pub async fn feed(
    link: &mut Link,
    keys: &Keys,
    batch: &str,
    run: &str,
    (before, after): (u64, u64),
    jobs: &[&str],
) -> RedisResult<Fed> {
    let mut call = FEED.call(2);
    call.arg(keys.jobs(Lane::Bulk)).arg(keys.backfill(batch)).arg(run).arg(before).arg(after).arg(LIFE_S).arg(jobs);
    let reply = FEED.run(link, &call).await?;
    Ok(if matches!(reply, Value::Int(1 | 2)) { Fed::Done } else { Fed::NotOurs })
}

/// Records the results of at most [`MAX_ROWS`] rows. Idempotent. `first` is partition 0, which stores all results.
pub async fn record(link: &mut Link, first: &Keys, batch: &str, updates: &[Update]) -> RedisResult<Ended> {
    let mut call = RECORD.call(2);
    call.arg(first.backfill_results(batch)).arg(first.backfill(batch)).arg(LIFE_S);
    for Update { row, code, checks, creates } in updates {
        let calls = |calls: &Option<u8>| calls.map_or(-1, i16::from);
        call.arg(*row).arg(&code[..]).arg(calls(checks)).arg(calls(creates));
    }
    let reply = integers(RECORD.run(link, &call).await?)?;
    let field = |at: usize| reply.get(at).and_then(|number| u64::try_from(*number).ok()).unwrap_or(0);
    Ok(Ended { rows: field(0), unsuccessful: field(1) })
}

/// Returns the numbers of completed rows so far, and the run that owns the backfill now.
pub async fn standing(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<(Ended, Option<String>)> {
    let mut get = cmd("HMGET");
    get.arg(first.backfill(batch)).arg("ended").arg("unsuccessful").arg("run");
    let (rows, unsuccessful, run): (Option<u64>, Option<u64>, Option<String>) = link.query(&get).await?;
    Ok((Ended { rows: rows.unwrap_or(0), unsuccessful: unsuccessful.unwrap_or(0) }, run))
}

/// Records that completions of the batch may have been trimmed before they were collected.
pub async fn missed(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<()> {
    link.query(cmd("HSET").arg(first.backfill(batch)).arg("missed").arg(1)).await
}

/// Whether [`missed`] was recorded for this backfill.
pub async fn has_missed(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<bool> {
    let noted: Option<String> = link.query(cmd("HGET").arg(first.backfill(batch)).arg("missed")).await?;
    Ok(noted.is_some())
}

/// Returns the results of `count` rows starting at row `from`, [`RESULT_BYTES`] bytes each. The result is shorter if
/// the last rows have no result yet.
pub async fn results(link: &mut Link, first: &Keys, batch: &str, from: u64, count: u64) -> RedisResult<Vec<u8>> {
    let at = from * RESULT_BYTES as u64;
    let end = at + count * RESULT_BYTES as u64 - 1;
    link.query(cmd("GETRANGE").arg(first.backfill_results(batch)).arg(at).arg(end)).await
}

/// Records that all completions up to `entry` are collected, so that they can be trimmed.
pub async fn collected(link: &mut Link, keys: &Keys, batch: &str, entry: EntryId) -> RedisResult<()> {
    let entry = entry.to_string();
    let () = link.query(cmd("HSET").arg(keys.backfill(batch)).arg("collected").arg(&entry)).await?;
    let mut set = cmd("XGROUP");
    set.arg("SETID").arg(&keys.completions).arg(group(batch)).arg(&entry);
    match link.query::<Value>(&set).await {
        // The batch was finished before, so its group is gone. This completion is from a replay.
        Err(error) if error.code() == Some("NOGROUP") => Ok(()),
        result => result.map(drop),
    }
}

/// Ends the protection of completions for this batch, when no row is outstanding.
pub async fn release(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<()> {
    let mut destroy = cmd("XGROUP");
    destroy.arg("DESTROY").arg(&keys.completions).arg(group(batch));
    match link.query::<Value>(&destroy).await {
        // The stream is gone, and its group with it.
        Err(error) if error.code() == Some("ERR") => Ok(()),
        result => result.map(drop),
    }
}
