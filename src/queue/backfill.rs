//! The state of a backfill: up to which row each partition was enqueued, and the result of each row.
//!
//! A run takes the backfill over ([`take_over`]); from then on an earlier run can enqueue no more rows. The batch has a
//! consumer group on the completions that no consumer reads. It only keeps completions from being trimmed before they are
//! collected.

pub mod customers;

use super::{
    Keys, Link,
    script::{Script, integers, script},
};
use crate::contract::{EntryId, Lane};
use redis::{RedisResult, Value, cmd, pipe};
use std::{collections::HashMap, sync::LazyLock};

static FEED: LazyLock<Script> = LazyLock::new(|| script!("backfill/backfill_enqueue" on "shared/atomic"));
static RECORD: LazyLock<Script> = LazyLock::new(|| script!("backfill/backfill_record" on "shared/atomic"));

/// Maximum number of rows that are enqueued, or results that are recorded, in one step.
pub const MAX_ROWS: usize = 256;
/// Bytes of a row's result: outcome, error, calls of its `CheckUser`, calls of its `CreateUser`.
pub const RESULT_BYTES: usize = 4;
/// Maximum number of corrections of a backfill.
pub const MAX_CORRECTIONS: usize = 100;
/// A backfill is forgotten this long after its last step.
const LIFE_S: u64 = 30 * 86_400;
/// The name of a backfill stays in the list this long after a run began last: longer than Redis knows the backfill, so that a later one
/// can report whose customers it does not know.
const LISTED_S: u64 = 2 * LIFE_S;

/// The identity of a backfill, the same for all its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIdentity {
    /// Digest of the files and of everything that determines their rows.
    pub fingerprint: String,
    /// The files and flags, as JSON.
    pub json: String,
}

/// What Redis keeps of a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its identity, without corrections.
    pub identity: StoredIdentity,
    /// Its corrections, in their order.
    pub corrections: Vec<StoredIdentity>,
    /// The counts of its files' rows, as JSON, once a run has read them.
    pub counts: Option<String>,
    /// Its result files have its name in theirs, because another batch had written the usual ones.
    pub has_own_results: bool,
}

/// How far a backfill is in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EnqueueCheckpoint {
    /// The highest row enqueued in this partition. 0 means none.
    pub row: u64,
    /// Number of rows enqueued here.
    pub enqueued: u64,
    /// The last completion that was collected.
    pub collected: Option<EntryId>,
}

/// Number of rows that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedRows {
    /// All of them.
    pub rows: u64,
    /// Of these, the rows without success.
    pub unsuccessful: u64,
}

/// The answer to [`enqueue_rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsEnqueued {
    /// The rows are in their lane.
    Done,
    /// Nothing was enqueued: another run has taken the backfill over, or its checkpoint is gone.
    TakenOver,
}

/// A change of a row's result, from one completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultUpdate {
    /// The row's number.
    pub row: u64,
    /// Outcome and error, one ASCII character each.
    pub code: [u8; 2],
    /// Calls of the row's `CheckUser`, if the completion is that job's.
    pub checks: Option<u8>,
    /// Calls of the row's `CreateUser`, if the completion is that job's.
    pub creates: Option<u8>,
}

impl ResultUpdate {
    /// A row whose customer an earlier batch created. It replaces `needs_consent`, and is not replaced by it.
    pub const fn created_before(row: u64) -> Self {
        Self { row, code: [b'b', b'-'], checks: None, creates: None }
    }

    /// A row that has ended with an unknown outcome. It replaces no known outcome, and a known one replaces it.
    pub const fn unknown(row: u64) -> Self {
        Self { row, code: [b'u', b'-'], checks: None, creates: None }
    }
}

fn group(batch: &str) -> String {
    format!("backfill:{batch}")
}

/// What Redis keeps of a backfill; `None` if it is not known. `first` is partition 0.
pub async fn stored(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<Option<Stored>> {
    type Fields = (Option<String>, Option<String>, Option<String>, Option<String>);
    let mut get = cmd("HMGET");
    get.arg(first.backfill(batch)).arg("fingerprint").arg("plan").arg("counts").arg("results");
    let (fingerprint, json, counts, results): Fields = link.query(&get).await?;
    let Some((fingerprint, json)) = fingerprint.zip(json) else { return Ok(None) };
    let mut get = cmd("HMGET");
    get.arg(first.backfill(batch)).arg((1..=MAX_CORRECTIONS).map(correction).collect::<Vec<_>>());
    let corrections: Vec<Option<String>> = link.query(&get).await?;
    Ok(Some(Stored {
        identity: StoredIdentity { fingerprint, json },
        corrections: corrections.iter().map_while(|text| text.as_deref().and_then(parse_correction)).collect(),
        counts,
        has_own_results: results.as_deref() == Some("own"),
    }))
}

/// The field of a correction.
fn correction(number: usize) -> String {
    format!("correction:{number}")
}

fn parse_correction(text: &str) -> Option<StoredIdentity> {
    let (fingerprint, json) = text.split_once(' ')?;
    Some(StoredIdentity { fingerprint: fingerprint.to_owned(), json: json.to_owned() })
}

/// Stores the identity of a backfill, unless one is stored. Returns the stored one. `has_own_results` is stored with it.
pub async fn register(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    identity: &StoredIdentity,
    has_own_results: bool,
) -> RedisResult<StoredIdentity> {
    let key = first.backfill(batch);
    let mut set = pipe();
    set.cmd("HSETNX").arg(&key).arg("fingerprint").arg(&identity.fingerprint).ignore();
    set.cmd("HSETNX").arg(&key).arg("plan").arg(&identity.json).ignore();
    if has_own_results {
        set.cmd("HSETNX").arg(&key).arg("results").arg("own").ignore();
    }
    for key in [&key, &first.backfill_results(batch), &first.backfill_customers(batch)] {
        set.cmd("EXPIRE").arg(key).arg(LIFE_S).ignore();
    }
    set.cmd("HMGET").arg(&key).arg("fingerprint").arg("plan");
    let ((fingerprint, json),): ((String, String),) = link.pipeline(&set).await?;
    Ok(StoredIdentity { fingerprint, json })
}

/// Adds a backfill to the list, and removes those that have been forgotten for a while.
pub async fn list_as_begun(link: &mut Link, first: &Keys, batch: &str, now_ms: u64) -> RedisResult<()> {
    let since_ms = now_ms.saturating_sub(LISTED_S * 1000);
    let is_old = |(_, is_known, begun_ms): &(String, bool, u64)| !is_known && *begun_ms < since_ms;
    let forgotten: Vec<String> =
        listed(link, first).await?.into_iter().filter(is_old).map(|(batch, ..)| batch).collect();
    let mut set = pipe();
    if !forgotten.is_empty() {
        set.cmd("HDEL").arg(first.backfills()).arg(forgotten).ignore();
    }
    set.cmd("HSET").arg(first.backfills()).arg(batch).arg(now_ms).ignore();
    set.cmd("EXPIRE").arg(first.backfills()).arg(LISTED_S).ignore();
    link.pipeline(&set).await
}

/// The listed backfills and when a run of each began last (ms), in no order. Redis may have forgotten some. One round trip,
/// O(backfills of 60 days).
pub async fn begun(link: &mut Link, first: &Keys) -> RedisResult<Vec<(String, u64)>> {
    let all: HashMap<String, u64> = link.query(cmd("HGETALL").arg(first.backfills())).await?;
    Ok(all.into_iter().collect())
}

/// The listed backfills: batch, whether Redis still knows it, and when a run began last (ms). O(backfills of 60 days).
pub async fn listed(link: &mut Link, first: &Keys) -> RedisResult<Vec<(String, bool, u64)>> {
    let all = begun(link, first).await?;
    let mut listed = Vec::with_capacity(all.len());
    for (batch, begun_ms) in all {
        let known: u64 = link.query(cmd("HEXISTS").arg(first.backfill(&batch)).arg("fingerprint")).await?;
        listed.push((batch, known > 0, begun_ms));
    }
    Ok(listed)
}

/// Stores correction `number` of a backfill, counted from 1, unless one is stored. Returns the fingerprint of the stored one.
pub async fn add_correction(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    number: usize,
    identity: &StoredIdentity,
) -> RedisResult<String> {
    let (key, field) = (first.backfill(batch), correction(number));
    let mut set = pipe();
    set.cmd("HSETNX").arg(&key).arg(&field).arg(format!("{} {}", identity.fingerprint, identity.json)).ignore();
    set.cmd("HGET").arg(&key).arg(&field);
    let (stored,): (String,) = link.pipeline(&set).await?;
    Ok(parse_correction(&stored).map(|stored| stored.fingerprint).unwrap_or_default())
}

/// Stores the counts of the files' rows. `counts` is JSON.
pub async fn store_counts(link: &mut Link, first: &Keys, batch: &str, counts: &str) -> RedisResult<()> {
    link.query(cmd("HSET").arg(first.backfill(batch)).arg("counts").arg(counts)).await
}

/// Takes the backfill over for `run`, in one partition: no other run can enqueue rows there any more. From here on,
/// completions are kept until they are collected.
pub async fn take_over(link: &mut Link, keys: &Keys, batch: &str, run: &str) -> RedisResult<EnqueueCheckpoint> {
    let key = keys.backfill(batch);
    let mut set = pipe();
    set.cmd("HSET").arg(&key).arg("run").arg(run).ignore();
    set.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    link.pipeline::<()>(&set).await?;
    let mut checkpoint = checkpoint(link, keys, batch).await?;
    let from = checkpoint.collected.map_or_else(|| "$".to_owned(), |entry| entry.to_string());
    let mut create = cmd("XGROUP");
    create.arg("CREATE").arg(&keys.completions).arg(group(batch)).arg(from).arg("MKSTREAM");
    match link.query::<Value>(&create).await {
        Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
        _ => {}
    }
    if checkpoint.collected.is_none() {
        let from = group_at(link, keys, batch).await?.unwrap_or(EntryId { ms: 0, seq: 0 });
        let _: u64 = link.query(cmd("HSETNX").arg(&key).arg("collected").arg(from.to_string())).await?;
        checkpoint.collected = Some(from);
    }
    Ok(checkpoint)
}

/// How far a backfill is in one partition.
pub async fn checkpoint(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<EnqueueCheckpoint> {
    let mut get = cmd("HMGET");
    get.arg(keys.backfill(batch)).arg("mark").arg("fed").arg("collected");
    let (row, enqueued, collected): (Option<u64>, Option<u64>, Option<String>) = link.query(&get).await?;
    let collected = collected.and_then(|entry| entry.parse().ok());
    Ok(EnqueueCheckpoint { row: row.unwrap_or(0), enqueued: enqueued.unwrap_or(0), collected })
}

async fn group_at(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<Option<EntryId>> {
    let groups: Vec<HashMap<String, Value>> = link.query(cmd("XINFO").arg("GROUPS").arg(&keys.completions)).await?;
    let text = |group: &HashMap<String, Value>, name: &str| -> Option<String> {
        redis::from_redis_value(group.get(name)?.clone()).ok()
    };
    let ours = groups.iter().find(|found| text(found, "name") == Some(group(batch)));
    Ok(ours.and_then(|group| text(group, "last-delivered-id")).and_then(|id| id.parse().ok()))
}

/// Enqueues the jobs of rows (at most [`MAX_ROWS`]) and moves the checkpoint from row `before` to row `after`, in one step.
/// Idempotent: after a lost reply, call it again.
pub async fn enqueue_rows(
    link: &mut Link,
    keys: &Keys,
    batch: &str,
    run: &str,
    (before, after): (u64, u64),
    jobs: &[&str],
) -> RedisResult<RowsEnqueued> {
    let mut call = FEED.call(2);
    call.arg(keys.jobs(Lane::Bulk)).arg(keys.backfill(batch)).arg(run).arg(before).arg(after).arg(LIFE_S).arg(jobs);
    let reply = FEED.run(link, &call).await?;
    Ok(if matches!(reply, Value::Int(1 | 2)) { RowsEnqueued::Done } else { RowsEnqueued::TakenOver })
}

/// Records results of rows, at most [`MAX_ROWS`] at once. Idempotent. `first` is partition 0, which holds all results.
pub async fn record_results(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    updates: &[ResultUpdate],
) -> RedisResult<EndedRows> {
    let mut call = RECORD.call(3);
    call.arg(first.backfill_results(batch)).arg(first.backfill(batch)).arg(first.backfill_customers(batch)).arg(LIFE_S);
    for ResultUpdate { row, code, checks, creates } in updates {
        let calls = |calls: &Option<u8>| calls.map_or(-1, i16::from);
        call.arg(*row).arg(&code[..]).arg(calls(checks)).arg(calls(creates));
    }
    let reply = integers(RECORD.run(link, &call).await?)?;
    let field = |at: usize| reply.get(at).and_then(|number| u64::try_from(*number).ok()).unwrap_or(0);
    Ok(EndedRows { rows: field(0), unsuccessful: field(1) })
}

/// The rows that have ended, as far as recorded, and the run that has taken the backfill over.
pub async fn progress(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<(EndedRows, Option<String>)> {
    let mut get = cmd("HMGET");
    get.arg(first.backfill(batch)).arg("ended").arg("unsuccessful").arg("run");
    let (rows, unsuccessful, run): (Option<u64>, Option<u64>, Option<String>) = link.query(&get).await?;
    Ok((EndedRows { rows: rows.unwrap_or(0), unsuccessful: unsuccessful.unwrap_or(0) }, run))
}

/// Records that completions of the batch may have been trimmed before they were collected.
pub async fn set_missed(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<()> {
    link.query(cmd("HSET").arg(first.backfill(batch)).arg("missed").arg(1)).await
}

/// Whether completions of the batch may have been trimmed before they were collected.
pub async fn has_missed(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<bool> {
    let recorded: Option<String> = link.query(cmd("HGET").arg(first.backfill(batch)).arg("missed")).await?;
    Ok(recorded.is_some())
}

/// The results of `count` rows from row `from` on, [`RESULT_BYTES`] each; fewer if no later row has a result.
pub async fn results(link: &mut Link, first: &Keys, batch: &str, from: u64, count: u64) -> RedisResult<Vec<u8>> {
    let at = from * RESULT_BYTES as u64;
    let end = at + count * RESULT_BYTES as u64 - 1;
    link.query(cmd("GETRANGE").arg(first.backfill_results(batch)).arg(at).arg(end)).await
}

/// Records that all completions up to `entry` are collected: they may be trimmed.
pub async fn set_collected(link: &mut Link, keys: &Keys, batch: &str, entry: EntryId) -> RedisResult<()> {
    let entry = entry.to_string();
    let () = link.query(cmd("HSET").arg(keys.backfill(batch)).arg("collected").arg(&entry)).await?;
    let mut set = cmd("XGROUP");
    set.arg("SETID").arg(&keys.completions).arg(group(batch)).arg(&entry);
    match link.query::<Value>(&set).await {
        // The backfill was complete before, and its group is gone: these completions are a replay's.
        Err(error) if error.code() == Some("NOGROUP") => Ok(()),
        result => result.map(drop),
    }
}

/// Ends the keeping of completions for a backfill whose rows have all ended.
pub async fn drop_group(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<()> {
    let mut destroy = cmd("XGROUP");
    destroy.arg("DESTROY").arg(&keys.completions).arg(group(batch));
    match link.query::<Value>(&destroy).await {
        // The stream is gone, and its group with it.
        Err(error) if error.code() == Some("ERR") => Ok(()),
        result => result.map(drop),
    }
}
