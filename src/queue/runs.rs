//! Runs of replays and discards that a program does for an operator: who works on one, how far it is. Their plans, and how
//! often a person was shown personal data.
//!
//! A run is a hash that is kept for a week. The process that works on it writes a heartbeat; when that is silent, another
//! process may take the run over. The typed wrappers of `lua/dead_letters/run_claim.lua` and `lua/dead_letters/run_beat.lua`.

use super::{
    Keys, Link,
    script::{Script, script},
};
use redis::{RedisResult, Value, cmd, pipe};
use std::{collections::HashMap, sync::LazyLock};

static CLAIM: LazyLock<Script> = LazyLock::new(|| script!("dead_letters/run_claim" on "shared/atomic"));
static BEAT: LazyLock<Script> = LazyLock::new(|| script!("dead_letters/run_beat" on "shared/atomic"));

/// A run whose process has been silent for this time is interrupted.
pub const SILENT_MS: u64 = 5_000;
/// Maximum number of runs that go on at a time.
pub const MAX_LIVE: usize = 4;
/// Life of a run in seconds, from the last write: a week.
pub const LIFE_S: u64 = 604_800;
/// Maximum number of runs in the list.
pub const MAX_LISTED: usize = 1_000;
/// Life of a plan in seconds: ten minutes.
pub const PLAN_LIFE_S: u64 = 600;
/// The span in which revelations are counted, in milliseconds: an hour.
const REVEALS_SPAN_MS: u64 = 3_600_000;

/// The fields of a run. What they hold is decided by `operations`.
pub type Fields = HashMap<String, String>;

/// A request to work on a run.
#[derive(Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The name of the run.
    pub name: &'a str,
    /// A digest of what the run is asked to do. A run with the same name and another digest is a different one.
    pub digest: &'a str,
    /// A text that no other process has.
    pub token: &'a str,
    /// Fields that are set in any case.
    pub always: &'a [(&'a str, String)],
    /// Fields that are set only in a new run.
    pub new: &'a [(&'a str, String)],
}

/// The answer to a request to work on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The run is new, and this process works on it.
    Begun,
    /// The run was interrupted, and this process works on it from now on.
    TakenOver,
    /// The run goes on elsewhere, has ended or was stopped.
    Known,
    /// [`MAX_LIVE`] other runs go on.
    TooMany,
    /// A run with this name was asked to do something else.
    Different,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Recorded.
    GoesOn,
    /// Recorded. An operator wants the run to stop.
    Stop,
    /// Not recorded: another process works on the run, or the run is gone.
    Lost,
}

/// Takes a run for this process. Safe to repeat with the same token.
pub async fn claim(link: &mut Link, keys: &Keys, request: ClaimRequest<'_>) -> RedisResult<Claim> {
    let ClaimRequest { name, digest, token, always, new } = request;
    let mut call = CLAIM.call(3);
    call.arg(keys.runs()).arg(keys.live_runs()).arg(keys.run(name));
    call.arg(name).arg(digest).arg(token).arg(SILENT_MS).arg(MAX_LIVE).arg(LIFE_S).arg(MAX_LISTED);
    call.arg(2 * always.len());
    for (field, value) in always.iter().chain(new) {
        call.arg(field).arg(value);
    }
    Ok(match CLAIM.run(link, &call).await? {
        Value::Int(1) => Claim::Begun,
        Value::Int(2) => Claim::TakenOver,
        Value::Int(-1) => Claim::TooMany,
        Value::Int(-2) => Claim::Different,
        _ => Claim::Known,
    })
}

/// Records how far a run is. With another state than `running`, the run no longer counts as going on.
pub async fn beat(
    link: &mut Link,
    keys: &Keys,
    (name, token): (&str, &str),
    state: &str,
    fields: &[(&str, String)],
) -> RedisResult<Beat> {
    let mut call = BEAT.call(2);
    call.arg(keys.live_runs()).arg(keys.run(name)).arg(name).arg(token).arg(LIFE_S).arg(state);
    for (field, value) in fields {
        call.arg(field).arg(value);
    }
    Ok(match BEAT.run(link, &call).await? {
        Value::Int(1) => Beat::GoesOn,
        Value::Int(2) => Beat::Stop,
        _ => Beat::Lost,
    })
}

/// Returns the fields of a run. Empty: there is none with this name.
pub async fn read(link: &mut Link, keys: &Keys, name: &str) -> RedisResult<Fields> {
    link.query(cmd("HGETALL").arg(keys.run(name))).await
}

/// Returns the runs that began last, the newest first: name and fields. At most `count`.
pub async fn newest(link: &mut Link, keys: &Keys, count: usize) -> RedisResult<Vec<(String, Fields)>> {
    let mut ask = cmd("ZREVRANGEBYSCORE");
    ask.arg(keys.runs()).arg("+inf").arg("-inf").arg("LIMIT").arg(0).arg(count.min(MAX_LISTED));
    let names: Vec<String> = link.query(&ask).await?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = pipe();
    for name in &names {
        asked.cmd("HGETALL").arg(keys.run(name));
    }
    let runs: Vec<Fields> = link.pipeline(&asked).await?;
    Ok(names.into_iter().zip(runs).filter(|(_, fields)| !fields.is_empty()).collect())
}

/// Asks the process that works on a run to stop. A run that is interrupted cannot be taken over any more.
pub async fn ask_to_stop(link: &mut Link, keys: &Keys, name: &str, by: &str) -> RedisResult<()> {
    let key = keys.run(name);
    let mut asked = pipe();
    asked.cmd("HSET").arg(&key).arg("stop").arg(by).ignore();
    // A run that expired just now is not brought back for long.
    asked.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    link.pipeline(&asked).await
}

/// Erases what a run that nobody works on was asked to do. It can then not be continued, so it is stopped.
pub async fn erase_request(link: &mut Link, keys: &Keys, name: &str, by: &str) -> RedisResult<()> {
    let key = keys.run(name);
    let mut asked = pipe();
    asked.cmd("HSETNX").arg(&key).arg("stop").arg(by).ignore();
    asked.cmd("HSET").arg(&key).arg("request").arg("").ignore();
    asked.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    link.pipeline(&asked).await
}

/// Keeps a plan for [`PLAN_LIFE_S`]. `now_ms` is on Redis's clock.
pub async fn keep_plan(link: &mut Link, keys: &Keys, id: &str, plan: &str, now_ms: u64) -> RedisResult<()> {
    let mut set = pipe();
    let expired_ms = now_ms.saturating_sub(PLAN_LIFE_S * 1000);
    set.cmd("ZREMRANGEBYSCORE").arg(keys.plans()).arg("-inf").arg(format!("({expired_ms}")).ignore();
    set.cmd("ZADD").arg(keys.plans()).arg(now_ms).arg(id).ignore();
    set.cmd("EXPIRE").arg(keys.plans()).arg(PLAN_LIFE_S).ignore();
    set.cmd("SET").arg(keys.plan(id)).arg(plan).arg("EX").arg(PLAN_LIFE_S).ignore();
    link.pipeline(&set).await
}

/// Returns the plans that have not expired: id and plan. O(plans of ten minutes).
pub async fn plans(link: &mut Link, keys: &Keys) -> RedisResult<Vec<(String, String)>> {
    let ids: Vec<String> = link.query(cmd("ZRANGE").arg(keys.plans()).arg(0).arg(-1)).await?;
    let mut plans = Vec::new();
    // One at a time: a plan may have 256 KiB.
    for id in ids {
        plans.extend(plan(link, keys, &id).await?.map(|plan| (id, plan)));
    }
    Ok(plans)
}

/// Deletes a plan. Returns 1, or 0 if there is none.
pub async fn delete_plan(link: &mut Link, keys: &Keys, id: &str) -> RedisResult<u64> {
    link.query(cmd("DEL").arg(keys.plan(id))).await
}

/// Returns a plan. `None`: there is none, or it has expired.
pub async fn plan(link: &mut Link, keys: &Keys, id: &str) -> RedisResult<Option<String>> {
    link.query(cmd("GET").arg(keys.plan(id))).await
}

/// How many dead letters of a partition a replay moved, by the name of its [`super::dead_letters::ReplayRun`]. 0 an hour after its
/// last step.
pub async fn moved_by(link: &mut Link, keys: &Keys, replay: u32) -> RedisResult<u64> {
    let moved: Option<u64> = link.query(cmd("HGET").arg(keys.replay(&replay.to_string())).arg("moved")).await?;
    Ok(moved.unwrap_or(0))
}

/// Counts a revelation of personal data to a person, at `now_ms` on Redis's clock. Returns `false`, and counts nothing, if there
/// were `most` within an hour.
pub async fn count_reveal(link: &mut Link, keys: &Keys, person: &str, now_ms: u64, most: u64) -> RedisResult<bool> {
    let key = keys.reveals(person);
    let entry = format!("{now_ms}:{:016x}", rand::random::<u64>());
    let mut asked = pipe();
    asked.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now_ms.saturating_sub(REVEALS_SPAN_MS)).ignore();
    asked.cmd("ZADD").arg(&key).arg(now_ms).arg(&entry).ignore();
    asked.cmd("EXPIRE").arg(&key).arg(REVEALS_SPAN_MS / 1000).ignore();
    asked.cmd("ZCARD").arg(&key);
    let (count,): (u64,) = link.pipeline(&asked).await?;
    if count > most {
        link.query::<u64>(cmd("ZREM").arg(&key).arg(&entry)).await?;
    }
    Ok(count <= most)
}
