//! Operators' rules in Redis (`{NS:0}:control`), and their effect on delayed jobs: the typed wrappers of the scripts
//! in `lua/rules`.

pub use super::clock::now_ms;

use super::{
    Keys, Link, Source,
    finish::parked,
    maintenance, overrides,
    script::{Script, ScriptFailure, failures, integers, script},
};
use crate::{
    contract::{EntryId, Lane, Origin},
    rules::{MAX_RULES, Rule, RuleSet},
};
use redis::{RedisResult, Value, cmd, pipe};
use std::{collections::HashMap, sync::LazyLock, time::Duration};

static SET: LazyLock<Script> = LazyLock::new(|| script!("rules/rule_set"));
static DROP: LazyLock<Script> = LazyLock::new(|| script!("rules/rule_drop"));
static HOLD: LazyLock<Script> = LazyLock::new(|| script!("rules/delay_paused" on "shared/atomic"));
static RELEASE: LazyLock<Script> = LazyLock::new(|| script!("rules/resume_paused" on "shared/order"));
static CALL_UP: LazyLock<Script> = LazyLock::new(|| script!("rules/cancel_delayed" on "shared/atomic"));

/// Maximum number of deliveries that one call of [`delay_paused`] delays.
pub const MAX_HOLD: usize = 256;
/// Maximum number of jobs that one call of [`resume_paused`] or [`cancel_delayed`] makes due.
pub const MAX_CANCEL_DELAYED: usize = 500;

/// Number of attempts to see a millisecond end. If it has not ended by then, the clock was set back.
const MOST_TICKS: u8 = 20;

/// The field of the rules' version, which changes with every change of the rules.
const VERSION: &str = "v";

/// Returns a millisecond of Redis's clock that has ended. Jobs enqueued before the call are within or before it. Jobs
/// enqueued after the call returns are later. An order that covers jobs "up to now" therefore has an exact limit.
pub async fn past_ms(link: &mut Link) -> RedisResult<u64> {
    let asked_ms = now_ms(link).await?;
    for _ in 0..MOST_TICKS {
        if now_ms(link).await? > asked_ms {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(asked_ms)
}

/// Returns the version of the rules and of the overrides together, which differs after every change of either. `None` if there are
/// neither.
pub async fn version(link: &mut Link, keys: &Keys) -> RedisResult<Option<String>> {
    let rules: Option<String> = link.query(cmd("HGET").arg(&keys.control).arg(VERSION)).await?;
    Ok(match (rules, overrides::version(link, keys).await?) {
        (rules, None) => rules,
        (rules, Some(overrides)) => Some(format!("{}+{overrides}", rules.unwrap_or_default())),
    })
}

/// Returns all rules. Invalid rules are ignored.
pub async fn load(link: &mut Link, keys: &Keys) -> RedisResult<RuleSet> {
    let fields: HashMap<String, String> = link.query(cmd("HGETALL").arg(&keys.control)).await?;
    Ok(fields.iter().filter_map(|(name, value)| Rule::parse(name, value)).collect())
}

/// Puts a rule in force. Returns `false` if there are too many rules.
pub async fn set_rule(link: &mut Link, keys: &Keys, rule: &Rule) -> RedisResult<bool> {
    let mut call = SET.call(1);
    call.arg(&keys.control).arg(Rule::name(rule.verb, &rule.selector)).arg(rule.value()).arg(MAX_RULES);
    Ok(SET.run(link, &call).await? == Value::Int(1))
}

/// Removes the rule with this name. With `value`, it is removed only if its order is still this one. Returns `false` if
/// nothing was removed.
pub async fn drop_rule(link: &mut Link, keys: &Keys, name: &str, value: Option<&str>) -> RedisResult<bool> {
    let mut call = DROP.call(1);
    call.arg(&keys.control).arg(name).arg(value.unwrap_or(""));
    Ok(DROP.run(link, &call).await? == Value::Int(1))
}

/// A delivery that a rule pauses.
#[derive(Debug)]
pub struct PausedDelivery {
    /// The stream entry of the delivery.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// When the job comes back by itself, in milliseconds on Redis's clock.
    pub due_ms: u64,
    /// The job's state, as JSON.
    pub state: String,
    /// The job's JSON.
    pub job: Vec<u8>,
}

/// Delays up to [`MAX_HOLD`] deliveries of one stream that the rule with this name pauses. Returns the deliveries that
/// could not be delayed, by their index in `holds`: they are still pending for `consumer`. Idempotent.
pub async fn delay_paused(
    link: &mut Link,
    keys: &Keys,
    (lane, source): (Lane, Source),
    (rule, consumer): (&str, &str),
    holds: &[PausedDelivery],
) -> RedisResult<Vec<(usize, ScriptFailure)>> {
    let mut call = HOLD.call(5);
    call.arg(keys.stream(lane, source))
        .arg(&keys.delayed)
        .arg(&keys.delayed_jobs)
        .arg(&keys.held)
        .arg(keys.held_by(rule))
        .arg(rule)
        .arg(consumer);
    for hold in holds {
        call.arg(hold.entry.to_string()).arg(&hold.origin).arg(hold.due_ms).arg(parked(&hold.state, &hold.job));
    }
    Ok(failures(HOLD.name(), redis::from_redis_value(HOLD.run(link, &call).await?)?))
}

/// Returns the names of the rules that delay jobs of this partition, or did so before.
pub async fn holding_rules(link: &mut Link, keys: &Keys) -> RedisResult<Vec<String>> {
    link.query(cmd("SMEMBERS").arg(&keys.held)).await
}

/// Makes jobs due that the rule with this name delayed, in the order in which they were enqueued: at most `most`, and
/// never more than [`MAX_CANCEL_DELAYED`]. Returns how many are left.
pub async fn resume_paused(link: &mut Link, keys: &Keys, rule: &str, most: usize) -> RedisResult<u64> {
    let mut call = RELEASE.call(3);
    call.arg(&keys.delayed).arg(&keys.held).arg(keys.held_by(rule)).arg(rule).arg(most.clamp(1, MAX_CANCEL_DELAYED));
    Ok(u64::try_from(redis::from_redis_value::<i64>(RELEASE.run(link, &call).await?)?).unwrap_or(0))
}

/// Makes delayed jobs due so that they are cancelled, at most [`MAX_CANCEL_DELAYED`]. Returns how many of them were delayed.
pub async fn cancel_delayed(link: &mut Link, keys: &Keys, origins: &[Origin]) -> RedisResult<u64> {
    let mut call = CALL_UP.call(2);
    call.arg(&keys.delayed).arg(&keys.delayed_jobs);
    for origin in origins {
        call.arg(origin.to_string());
    }
    let found = integers(Value::Array(vec![CALL_UP.run(link, &call).await?]))?;
    Ok(found.first().and_then(|found| u64::try_from(*found).ok()).unwrap_or(0))
}

/// A delayed job.
#[derive(Debug)]
pub struct DelayedJob {
    /// Where the job was first enqueued.
    pub origin: Origin,
    /// The job's state, as JSON.
    pub state: Vec<u8>,
    /// The job's JSON.
    pub job: Vec<u8>,
}

impl DelayedJob {
    /// Parses a field of `delayed:jobs`.
    pub fn parse(origin: &str, kept: &[u8]) -> Option<Self> {
        let newline = kept.iter().position(|byte| *byte == b'\n')?;
        let (state, job) = kept.split_at(newline);
        Some(Self { origin: origin.parse().ok()?, state: state.to_vec(), job: job[1..].to_vec() })
    }
}

/// One step through the delayed jobs, about `count` of them. Returns the cursor for the next step (0 at the end) and
/// the jobs found. A job that is delayed during all steps is found at least once, some jobs twice.
pub async fn scan_delayed(
    link: &mut Link,
    keys: &Keys,
    cursor: u64,
    count: usize,
) -> RedisResult<(u64, Vec<DelayedJob>)> {
    let mut scan = cmd("HSCAN");
    scan.arg(&keys.delayed_jobs).arg(cursor).arg("COUNT").arg(count);
    let (next, flat): (u64, Vec<Vec<u8>>) = link.query(&scan).await?;
    let pairs = flat.chunks_exact(2);
    let found = pairs.filter_map(|pair| DelayedJob::parse(std::str::from_utf8(&pair[0]).ok()?, &pair[1])).collect();
    Ok((next, found))
}

/// Returns a lower bound for when the oldest waiting or running job of a partition was enqueued, in milliseconds on
/// Redis's clock. `None` if there are no jobs. Delayed jobs and jobs that came back may be of any age, so with any of
/// them it is 0.
pub async fn oldest_ms(link: &mut Link, keys: &Keys) -> RedisResult<Option<u64>> {
    // The order matters: a job that leaves its lane meanwhile is then found in its new place.
    let first = maintenance::heads(link, &Lane::ALL.map(|lane| keys.jobs(lane))).await?;
    let mut asked = pipe();
    asked.cmd("ZCARD").arg(&keys.delayed);
    for lane in Lane::ALL {
        asked.cmd("XLEN").arg(keys.due(lane));
    }
    let (parked, due, due_bulk): (u64, u64, u64) = link.pipeline(&asked).await?;
    if parked + due + due_bulk > 0 {
        return Ok(Some(0));
    }
    Ok(first.into_iter().flatten().map(|id| id.ms).min())
}
