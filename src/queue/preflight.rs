//! The checks before work begins: every command is permitted, every key has its type, and the workers agree. The worker
//! at its start and `doctor` both use them.
//!
//! Redis does not roll back a script. If it refuses a command while a job is being ended, half of the work remains. So
//! faults that can be known in advance are looked for in advance: `lua/preflight/preflight.lua` runs each command once, on keys
//! made for that purpose.

mod finding;
mod server;

pub use finding::{Finding, count};
pub use server::ServerInfo;

use super::{Keys, Link, connection::passes_by_itself, keys::Kind, script::Script};
use crate::{
    config::{Durability, RedisConfig},
    contract::{EntryId, JobType, Lane, Partitions, Status},
};
use redis::{RedisError, RedisResult, Value, cmd};
use std::{collections::BTreeSet, sync::LazyLock};

const TEXT: &str = concat!(include_str!("lua/shared/fields.lua"), include_str!("lua/preflight/preflight.lua"));
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("preflight", TEXT));

/// The answer of the script: failed commands with their messages, types, last ids, counters, the time.
type Answer = (Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<u64>);

/// The types of the keys that the script creates and deletes.
const PROBES: [&str; 6] = ["stream", "hash", "zset", "list", "string", "set"];

/// The field of `{NS:0}:meta` that stores the number of partitions.
const PARTITIONS: &str = "partitions";

/// A stream with fewer remaining ids than this counts as exhausted.
const FEW_IDS: u64 = 1 << 32;

/// If a lane's last id is this far ahead of Redis's clock, a producer must have chosen the id. After a smaller step
/// back, the clock soon catches up.
const AHEAD_MS: u64 = 60_000;

/// What this check requires of Redis.
#[derive(Debug, Clone)]
pub struct Wanted {
    user: String,
    partitions: Partitions,
    strict: bool,
    replicated: bool,
    /// Whether to write the number of partitions if none is stored yet.
    settle: bool,
}

impl Wanted {
    /// The requirements of a worker. The first worker stores the number of partitions.
    pub fn new(redis: &RedisConfig) -> Self {
        Self {
            user: redis.user(),
            partitions: redis.partitions,
            strict: redis.strict,
            replicated: redis.durability == Durability::Replicated,
            settle: true,
        }
    }

    /// The same requirements, for a check that writes nothing permanent.
    #[must_use]
    pub fn looking(self) -> Self {
        Self { settle: false, ..self }
    }
}

/// Checks the partitions of `keys`, which must begin with partition 0. Returns all findings. Returns an error if Redis
/// is unreachable or accepts no writes at present, because nothing is then known. A few round trips per partition.
pub async fn check<'a>(
    link: &mut Link,
    keys: impl Iterator<Item = &'a Keys>,
    wanted: &Wanted,
) -> RedisResult<BTreeSet<Finding>> {
    let mut findings = BTreeSet::new();
    for keys in keys {
        if keys.partition == 0 {
            // The script may be loaded already, and forbidden when it must be loaded again.
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

/// Converts a missing permission into a finding. Any other error is returned.
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

/// Checks what the server reports about itself, and what can only be asked outside a script.
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
        // `WAIT 0` waits for no replica, so the answer comes at once.
        let answer = link.query::<Value>(cmd("WAIT").arg(0).arg(1)).await;
        findings.extend(refusal(answer, "WAIT", wanted)?);
    }
    Ok(())
}

/// Checks every command and every fixed key of a partition.
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
            // A master that became a replica reports it only inside the script. A new connection asks for the current
            // master.
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
                    // A producer's lane that accepts no entries does not affect the other lanes.
                    findings.insert(Finding::Exhausted { key: name(), forbids: key.is_for_jobs && !is_lane });
                } else if is_lane && let Some(last_ms) = ahead_of(last, &now_ms) {
                    findings.insert(Finding::Ahead { key: name(), last_ms });
                }
            }
            _ => {}
        }
    }
    for (field, value) in counters.into_iter().zip(values) {
        // The counter needs room to grow, because `HINCRBY` fails at the maximum.
        if !value.is_empty() && !value.parse::<i64>().is_ok_and(|count| count < i64::MAX / 2) {
            findings.insert(Finding::NotANumber { key: keys.stats.clone(), field });
        }
    }
    Ok(())
}

/// Returns the keys that the user may not access, if it may not access all of them. The keys that the script creates
/// count as one.
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

/// Converts the script's failures into findings. Returns an error if a failure is of a kind that goes away by itself.
fn failures(failed: &[String], wanted: &Wanted) -> RedisResult<Vec<Finding>> {
    let (mut forbidden_ones, mut others) = (Vec::new(), Vec::new());
    for pair in failed.chunks_exact(2) {
        // Redis 6.2 puts the script's line first: `@user_script: 18: -OOM …`.
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
    // A forbidden command makes later ones fail.
    Ok(if forbidden_ones.is_empty() { others } else { forbidden_ones })
}

/// Whether a command in a script failed because a permission is missing. Each server words this differently.
fn is_refusal(message: &str) -> bool {
    ["NOPERM", "can't run this command", "can't access at least one of the keys", "ACL failure"]
        .iter()
        .any(|words| message.contains(words))
}

/// The fields of `stats` that are counted with every job.
fn counters() -> Vec<String> {
    let types = JobType::ALL.map(JobType::as_str).into_iter().chain([""]);
    types.flat_map(|job_type| Status::ALL.map(|status| format!("{job_type}:{}", status.as_str()))).collect()
}

fn is_exhausted(last: &str) -> bool {
    last.parse::<EntryId>().is_ok_and(|last| last.ms == u64::MAX && last.seq > u64::MAX - FEW_IDS)
}

/// Returns the time of a last id that is ahead of now, else `None`.
fn ahead_of(last: &str, now_ms: &[u64]) -> Option<u64> {
    let last_ms = last.parse::<EntryId>().ok()?.ms;
    let now_ms = now_ms.first()?;
    (last_ms > now_ms.saturating_add(AHEAD_MS)).then_some(last_ms)
}

/// Checks that all workers use the same number of partitions. The first worker decides it.
async fn agreement(link: &mut Link, keys: &Keys, wanted: &Wanted, findings: &mut BTreeSet<Finding>) -> RedisResult<()> {
    let mut kept: Option<String> = link.query(cmd("HGET").arg(&keys.meta).arg(PARTITIONS)).await?;
    if kept.is_none() && wanted.settle {
        let _: i64 = link.query(cmd("HSETNX").arg(&keys.meta).arg(PARTITIONS).arg(wanted.partitions.get())).await?;
        kept = link.query(cmd("HGET").arg(&keys.meta).arg(PARTITIONS)).await?;
    }
    if let Some(kept) = kept.filter(|kept| *kept != wanted.partitions.get().to_string()) {
        let kept = kept.chars().take(20).collect();
        findings.insert(Finding::Partitions { configured: wanted.partitions.get(), kept, key: keys.meta.clone() });
    }
    Ok(())
}
