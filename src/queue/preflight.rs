//! What must be so before work begins: every command is permitted, every key is of its kind, and the workers agree. The
//! worker's gate and `doctor` both ask here.
//!
//! A script of Redis is not rolled back: a command that it refuses in the middle of a job's end leaves a half behind. What
//! can be known before is looked for before. `lua/preflight.lua` runs each command once on keys made for that.

mod finding;
mod server;

pub use finding::{Finding, count};
pub use server::ServerInfo;

use super::{Keys, Link, connection::passes_by_itself, keys::Kind, script::Script};
use crate::{
    config::{Durability, RedisConfig},
    contract::{EntryId, JobType, Lane, Status},
};
use redis::{RedisError, RedisResult, Value, cmd};
use std::{collections::BTreeSet, sync::LazyLock};

const TEXT: &str = concat!(include_str!("lua/fields.lua"), include_str!("lua/preflight.lua"));
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("preflight", TEXT));

/// What the script answers: failed commands with their messages, types, last ids, counters, the time.
type Answer = (Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<u64>);

/// How many keys the script probes with.
const PROBES: [&str; 6] = ["stream", "hash", "zset", "list", "string", "set"];

/// The field of `{NS:0}:meta` that keeps the number of partitions.
const PARTITIONS: &str = "partitions";

/// A stream with fewer ids left than this counts as exhausted.
const FEW_IDS: u64 = 1 << 32;

/// A lane whose last id is further ahead of Redis's clock than this was given an id by a producer. A clock that steps back by
/// less is caught up with soon.
const AHEAD_MS: u64 = 60_000;

/// What is wanted of Redis.
#[derive(Debug, Clone)]
pub struct Wanted {
    user: String,
    partitions: u16,
    strict: bool,
    replicated: bool,
    /// Whether the number of partitions is written where there is none yet.
    settle: bool,
}

impl Wanted {
    /// What a worker wants. The first one settles the number of partitions.
    pub fn new(redis: &RedisConfig) -> Self {
        Self {
            user: redis.user(),
            partitions: redis.partitions.max(1),
            strict: redis.strict,
            replicated: redis.durability == Durability::Replicated,
            settle: true,
        }
    }

    /// The same, for somebody who only looks.
    #[must_use]
    pub fn looking(self) -> Self {
        Self { settle: false, ..self }
    }
}

/// Checks the partitions of `keys`, which begin with the first: everything found. An error where Redis is away or takes no
/// writes at present: nothing is known then. A few round trips a partition.
pub async fn check<'a>(
    link: &mut Link,
    keys: impl Iterator<Item = &'a Keys>,
    wanted: &Wanted,
) -> RedisResult<BTreeSet<Finding>> {
    let mut findings = BTreeSet::new();
    for keys in keys {
        if keys.partition == 0 {
            // It may be known already, and forbidden once it is not any more.
            let loaded = link.query::<Value>(cmd("SCRIPT").arg("LOAD").arg(TEXT)).await;
            findings.extend(refusal(loaded, "SCRIPT LOAD", wanted)?);
            server(link, wanted, &mut findings).await?;
        }
        partition(link, keys, wanted, &mut findings).await?;
        if keys.partition == 0 && !findings.iter().any(Finding::forbids_work) {
            agreement(link, keys, wanted, &mut findings).await?;
        }
    }
    Ok(findings)
}

/// A refusal is a finding; any other failure says nothing.
fn refusal<T>(answer: RedisResult<T>, command: &str, wanted: &Wanted) -> RedisResult<Option<Finding>> {
    match answer {
        Ok(_) => Ok(None),
        Err(error) if error.code() == Some("NOPERM") => Ok(Some(forbidden(command, wanted))),
        Err(error) => Err(error),
    }
}

fn forbidden(command: &str, wanted: &Wanted) -> Finding {
    Finding::Forbidden { command: command.to_owned(), user: wanted.user.clone() }
}

/// What the server says of itself, and what can be asked of it only outside a script.
async fn server(link: &mut Link, wanted: &Wanted, findings: &mut BTreeSet<Finding>) -> RedisResult<()> {
    match link.query::<Value>(&cmd("INFO")).await {
        Ok(said) => {
            for info in ServerInfo::of(&said) {
                findings.extend(info.findings(wanted.strict));
            }
        }
        Err(error) if error.code() == Some("NOPERM") => {
            findings.insert(Finding::Unseen { user: wanted.user.clone() });
        }
        Err(error) => return Err(error),
    }
    if wanted.replicated {
        // No replica is waited for: it is answered at once.
        let answer = link.query::<Value>(cmd("WAIT").arg(0).arg(1)).await;
        findings.extend(refusal(answer, "WAIT", wanted)?);
    }
    Ok(())
}

/// Every command, and every fixed key.
async fn partition(link: &mut Link, keys: &Keys, wanted: &Wanted, findings: &mut BTreeSet<Finding>) -> RedisResult<()> {
    let fixed = keys.fixed();
    let counters = counters();
    let mut call = SCRIPT.call(fixed.len() + PROBES.len());
    for key in &fixed {
        call.arg(key.name);
    }
    for probe in PROBES {
        call.arg(keys.probe(probe));
    }
    call.arg(fixed.len());
    for counter in &counters {
        call.arg(counter);
    }
    let answer = match SCRIPT.run(link, &call).await {
        Ok(answer) => answer,
        Err(error) if is_about_a_key(&error) => {
            for key in forbidden_keys(link, keys).await? {
                findings.insert(Finding::ForbiddenKey { key, user: wanted.user.clone() });
            }
            return Ok(());
        }
        Err(error) => {
            findings.extend(refusal::<()>(Err(error), "EVALSHA", wanted)?);
            return Ok(());
        }
    };
    let (failed, types, last, values, now_ms): Answer = redis::from_redis_value(answer)?;
    match failures(&failed, wanted) {
        Ok(failures) => findings.extend(failures),
        Err(error) => {
            // A master that became a replica says so within the script alone: ask again who is the master.
            link.reset();
            return Err(error);
        }
    }
    for ((key, found), last) in fixed.iter().zip(&types).zip(&last) {
        let name = || key.name.to_owned();
        match Kind::of(found) {
            Some(kind) if kind != key.kind => {
                let (found, wanted) = (kind, key.kind);
                findings.insert(Finding::WrongType { key: name(), found, wanted, forbids: key.is_for_jobs });
            }
            Some(Kind::Stream) => {
                let is_lane = Lane::ALL.iter().any(|lane| keys.jobs(*lane) == key.name);
                if is_exhausted(last) {
                    // A producer's lane that is closed closes no other.
                    findings.insert(Finding::Exhausted { key: name(), forbids: key.is_for_jobs && !is_lane });
                } else if is_lane && let Some(last_ms) = ahead_of(last, &now_ms) {
                    findings.insert(Finding::Ahead { key: name(), last_ms });
                }
            }
            _ => {}
        }
    }
    for (field, value) in counters.into_iter().zip(values) {
        // Room to count on: beyond it HINCRBY refuses.
        if !value.is_empty() && !value.parse::<i64>().is_ok_and(|count| count < i64::MAX / 2) {
            findings.insert(Finding::NotANumber { key: keys.stats.clone(), field });
        }
    }
    Ok(())
}

/// Which keys the user may not touch, where it may not touch all of them; those to probe with count as one.
async fn forbidden_keys(link: &mut Link, keys: &Keys) -> RedisResult<Vec<String>> {
    let mut forbidden = Vec::new();
    for key in keys.fixed() {
        match link.query::<Value>(cmd("TYPE").arg(key.name)).await {
            Err(error) if is_about_a_key(&error) => forbidden.push(key.name.to_owned()),
            Err(error) if error.code() != Some("NOPERM") => return Err(error),
            _ => {}
        }
    }
    if forbidden.is_empty() {
        forbidden.push(keys.probe("*"));
    }
    Ok(forbidden)
}

fn is_about_a_key(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") && error.detail().is_some_and(|detail| detail.contains(" key"))
}

/// What the script's failures mean. An error where they are of a kind that passes by itself.
fn failures(failed: &[String], wanted: &Wanted) -> RedisResult<Vec<Finding>> {
    let (mut forbidden_ones, mut others) = (Vec::new(), Vec::new());
    for pair in failed.chunks_exact(2) {
        // Redis 6.2 puts the line of the script first: `@user_script: 18: -OOM …`.
        let (command, message) = (&pair[0], pair[1].rsplit(": -").next().unwrap_or_default().trim_start_matches('-'));
        let code = message.split(' ').next().unwrap_or_default();
        if passes_by_itself(code) {
            return Err(redis::make_extension_error(code.to_owned(), None));
        }
        if is_refusal(message) {
            forbidden_ones.push(forbidden(command, wanted));
        } else if message.contains("nknown Redis command") || message.contains("nknown command") {
            forbidden_ones.push(Finding::Unknown { command: command.clone() });
        } else {
            others.push(Finding::Refused { command: command.clone(), code: code.to_owned() });
        }
    }
    // What was forbidden makes others fail that come after it.
    Ok(if forbidden_ones.is_empty() { others } else { forbidden_ones })
}

/// Whether a script was refused a command for lack of permission. Each server has words of its own for it.
fn is_refusal(message: &str) -> bool {
    ["NOPERM", "can't run this command", "can't access at least one of the keys", "ACL failure"]
        .iter()
        .any(|words| message.contains(words))
}

/// The fields of `stats`, which are counted up with every job.
fn counters() -> Vec<String> {
    let types = JobType::ALL.map(JobType::as_str).into_iter().chain([""]);
    types.flat_map(|job_type| Status::ALL.map(|status| format!("{job_type}:{}", status.as_str()))).collect()
}

fn is_exhausted(last: &str) -> bool {
    last.parse::<EntryId>().is_ok_and(|last| last.ms == u64::MAX && last.seq > u64::MAX - FEW_IDS)
}

/// The time of a last id that lies ahead of now; none where it does not.
fn ahead_of(last: &str, now_ms: &[u64]) -> Option<u64> {
    let last_ms = last.parse::<EntryId>().ok()?.ms;
    let now_ms = now_ms.first()?;
    (last_ms > now_ms.saturating_add(AHEAD_MS)).then_some(last_ms)
}

/// Whether all workers count on the same number of partitions: the first one settles it.
async fn agreement(link: &mut Link, keys: &Keys, wanted: &Wanted, findings: &mut BTreeSet<Finding>) -> RedisResult<()> {
    let mut kept: Option<String> = link.query(cmd("HGET").arg(&keys.meta).arg(PARTITIONS)).await?;
    if kept.is_none() && wanted.settle {
        let _: i64 = link.query(cmd("HSETNX").arg(&keys.meta).arg(PARTITIONS).arg(wanted.partitions)).await?;
        kept = link.query(cmd("HGET").arg(&keys.meta).arg(PARTITIONS)).await?;
    }
    if let Some(kept) = kept.filter(|kept| *kept != wanted.partitions.to_string()) {
        let kept = kept.chars().take(20).collect();
        findings.insert(Finding::Partitions { configured: wanted.partitions, kept, key: keys.meta.clone() });
    }
    Ok(())
}
