//! Operators' rules in Redis (`{NS:0}:control`), and what they do to parked jobs: the typed faces of `lua/rule_set.lua`,
//! `lua/rule_drop.lua`, `lua/hold.lua`, `lua/release.lua` and `lua/call_up.lua`.

pub use super::clock::now_ms;

use super::{
    Keys, Link, Source,
    finish::parked,
    script::{Script, ScriptFailure, failures, integers, script},
    upkeep,
};
use crate::{
    contract::{EntryId, Lane, Origin},
    control::{MAX_RULES, Rule, Rules},
};
use redis::{RedisResult, Value, cmd, pipe};
use std::{collections::HashMap, sync::LazyLock, time::Duration};

static SET: LazyLock<Script> = LazyLock::new(|| script!("rule_set"));
static DROP: LazyLock<Script> = LazyLock::new(|| script!("rule_drop"));
static HOLD: LazyLock<Script> = LazyLock::new(|| script!("hold" on "atomic"));
static RELEASE: LazyLock<Script> = LazyLock::new(|| script!("release" on "order"));
static CALL_UP: LazyLock<Script> = LazyLock::new(|| script!("call_up" on "atomic"));

/// The most deliveries one hold parks.
pub const MAX_HOLD: usize = 256;
/// The most jobs one step calls up.
pub const MAX_CALL_UP: usize = 500;

/// How often a millisecond is waited for to end. One that has not by then is of a clock that was put back.
const MOST_TICKS: u8 = 20;

/// The field that changes with every change of the rules.
const VERSION: &str = "v";

/// A millisecond of Redis's clock that is over: what was enqueued before this was called lies in it or before it, and what is
/// enqueued once it has returned lies after it. An order that covers "up to now" covers exactly that.
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

/// The rules' version: another whenever they have changed, none where there are none.
pub async fn version(link: &mut Link, keys: &Keys) -> RedisResult<Option<String>> {
    link.query(cmd("HGET").arg(&keys.control).arg(VERSION)).await
}

/// All rules, with their version. What is no rule is left out.
pub async fn load(link: &mut Link, keys: &Keys) -> RedisResult<(Option<String>, Rules)> {
    let mut fields: HashMap<String, String> = link.query(cmd("HGETALL").arg(&keys.control)).await?;
    let version = fields.remove(VERSION);
    Ok((version, fields.iter().filter_map(|(name, value)| Rule::parse(name, value)).collect()))
}

/// Puts a rule in force; false where there are too many.
pub async fn set_rule(link: &mut Link, keys: &Keys, rule: &Rule) -> RedisResult<bool> {
    let mut call = SET.call(1);
    call.arg(&keys.control).arg(Rule::name(rule.verb, &rule.selector)).arg(rule.value()).arg(MAX_RULES);
    Ok(SET.run(link, &call).await? == Value::Int(1))
}

/// Takes the rule of that name out of force; with `value`, only where its order is still that one. False where there was
/// none.
pub async fn drop_rule(link: &mut Link, keys: &Keys, name: &str, value: Option<&str>) -> RedisResult<bool> {
    let mut call = DROP.call(1);
    call.arg(&keys.control).arg(name).arg(value.unwrap_or(""));
    Ok(DROP.run(link, &call).await? == Value::Int(1))
}

/// A delivery that a rule pauses.
#[derive(Debug)]
pub struct Hold {
    /// Which.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// When it comes back by itself, milliseconds on Redis's clock.
    pub due_ms: u64,
    /// The state's JSON.
    pub state: String,
    /// The job's JSON.
    pub job: Vec<u8>,
}

/// Parks up to [`MAX_HOLD`] deliveries of one stream that the rule of that name pauses; returns those that could not be parked,
/// by their places in `holds`: they are still pending for `consumer`. Safe to repeat.
pub async fn hold(
    link: &mut Link,
    keys: &Keys,
    (lane, source): (Lane, Source),
    (rule, consumer): (&str, &str),
    holds: &[Hold],
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

/// The names of the rules that hold jobs of this partition, or held them.
pub async fn holding_rules(link: &mut Link, keys: &Keys) -> RedisResult<Vec<String>> {
    link.query(cmd("SMEMBERS").arg(&keys.held)).await
}

/// Calls up jobs that the rule of that name held, the first enqueued first, `most` at most ([`MAX_CALL_UP`] in any case); tells
/// how many are left.
pub async fn release(link: &mut Link, keys: &Keys, rule: &str, most: usize) -> RedisResult<u64> {
    let mut call = RELEASE.call(3);
    call.arg(&keys.delayed).arg(&keys.held).arg(keys.held_by(rule)).arg(rule).arg(most.clamp(1, MAX_CALL_UP));
    Ok(u64::try_from(redis::from_redis_value::<i64>(RELEASE.run(link, &call).await?)?).unwrap_or(0))
}

/// Calls up parked jobs to be cancelled ([`MAX_CALL_UP`] at most); tells how many of them were parked.
pub async fn call_up(link: &mut Link, keys: &Keys, origins: &[Origin]) -> RedisResult<u64> {
    let mut call = CALL_UP.call(2);
    call.arg(&keys.delayed).arg(&keys.delayed_jobs);
    for origin in origins {
        call.arg(origin.to_string());
    }
    let found = integers(Value::Array(vec![CALL_UP.run(link, &call).await?]))?;
    Ok(found.first().and_then(|found| u64::try_from(*found).ok()).unwrap_or(0))
}

/// A parked job.
#[derive(Debug)]
pub struct Parked {
    /// Where it entered.
    pub origin: Origin,
    /// The state's JSON.
    pub state: Vec<u8>,
    /// The job's JSON.
    pub job: Vec<u8>,
}

impl Parked {
    /// From `delayed:jobs`.
    pub fn parse(origin: &str, kept: &[u8]) -> Option<Self> {
        let newline = kept.iter().position(|byte| *byte == b'\n')?;
        let (state, job) = kept.split_at(newline);
        Some(Self { origin: origin.parse().ok()?, state: state.to_vec(), job: job[1..].to_vec() })
    }
}

/// One step through the parked jobs, about `count` of them: where to go on (0: at the end), and what was found. Every job
/// parked from the first step to the last is found, some of them twice.
pub async fn scan_parked(link: &mut Link, keys: &Keys, cursor: u64, count: usize) -> RedisResult<(u64, Vec<Parked>)> {
    let mut scan = cmd("HSCAN");
    scan.arg(&keys.delayed_jobs).arg(cursor).arg("COUNT").arg(count);
    let (next, flat): (u64, Vec<Vec<u8>>) = link.query(&scan).await?;
    let pairs = flat.chunks_exact(2);
    let found = pairs.filter_map(|pair| Parked::parse(std::str::from_utf8(&pair[0]).ok()?, &pair[1])).collect();
    Ok((next, found))
}

/// When the oldest job that may wait or run in a partition was enqueued, milliseconds on Redis's clock; none where there is
/// none. Jobs that were put aside or came back may be of any age: 0.
pub async fn oldest_ms(link: &mut Link, keys: &Keys) -> RedisResult<Option<u64>> {
    // In this order: a job that leaves its lane meanwhile is found where it went.
    let first = upkeep::heads(link, &Lane::ALL.map(|lane| keys.jobs(lane))).await?;
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
