//! Redis: whether it can be reached, whether a worker can use it, and what waits in it.

use super::{
    super::{error::redis_remedy, redis_place},
    HealthCheck, completions, limits, removed_jobs, server, stray_keys, workers,
};
use crate::{
    config::{Config, RedisConfig, format_duration},
    contract::Lane,
    queue::{
        Connector, GROUP, Keys, Link, Load, QueueError, Source, cause,
        clock::RedisTime,
        lane_load, maintenance,
        preflight::{self, ServerInfo, Wanted},
        remedy,
    },
};
use redis::{RedisError, RedisResult, Value, cmd};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};

/// A lane whose oldest job is older than this is reported.
const OLD: Duration = Duration::from_secs(300);

/// The checks of Redis.
#[derive(Debug)]
pub(super) struct RedisChecks {
    pub(super) checks: Vec<HealthCheck>,
    /// Number of workers that run on this queue. 0 if it could not be read.
    pub(super) running: usize,
}

impl RedisChecks {
    /// Checks that ended before the workers could be counted.
    const fn early(checks: Vec<HealthCheck>) -> Self {
        Self { checks, running: 0 }
    }
}

/// All checks of Redis. Each step takes at most `longest`; `host_clock` reads the clock of this machine.
pub(super) async fn checks(config: &Config, host_clock: fn() -> SystemTime, longest: Duration) -> RedisChecks {
    const NAME: &str = "redis";
    let redis = &config.redis;
    let connector = match Connector::new(redis) {
        Ok(connector) => connector,
        Err(QueueError::Tls(fault)) => {
            let check = HealthCheck::fail(NAME, format!("redis.tls.{} {}", fault.key, fault.problem), fault.remedy);
            return RedisChecks::early(vec![check]);
        }
        Err(error) => {
            return RedisChecks::early(vec![HealthCheck::fail(NAME, error.to_string(), "correct redis.url")]);
        }
    };
    let mut link = connector.link(false);
    let began = Instant::now();
    let pong = timeout(longest, link.query::<String>(&cmd("PING"))).await;
    let why = match pong {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some((cause(&error), redis_remedy(&error))),
        Err(_) => Some(("no answer in time".to_owned(), None)),
    };
    if let Some((why, remedy)) = why {
        let remedy = remedy.unwrap_or("start it, or say where it is: --redis-url, XCO_WORKER__REDIS__URL or redis.url");
        let unreachable = HealthCheck::fail(NAME, format!("{}: {why}", redis_place(redis)), remedy);
        return RedisChecks::early(vec![unreachable, HealthCheck::skip("redis …", "not looked at")]);
    }
    let mut checks =
        vec![HealthCheck::ok(NAME, format!("{} answers in {} ms", redis_place(redis), began.elapsed().as_millis()))];
    let rest = async {
        checks.extend(of_server(&mut link, redis.url.len() > 1).await);
        checks.extend(preflight(&mut link, redis).await);
        checks.extend(clock(&mut link, host_clock).await);
    };
    if timeout(longest, rest).await.is_err() {
        checks.push(HealthCheck::fail(NAME, "no answer in time", "look at Redis's load and at the network"));
        return RedisChecks::early(checks);
    }
    checks.push(match timeout(longest, queue(&mut link, redis, config.queue.max_pending)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => {
            HealthCheck::fail("queue", cause(&error), remedy_or(&error, "is something else stored under these keys?"))
        }
        Err(_) => HealthCheck::warn("queue", "no answer in time", "look at Redis's load"),
    });
    checks.push(match timeout(longest, removed_jobs::check(&mut link, redis)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => HealthCheck::warn("removed jobs", cause(&error), remedy_or(&error, "allow the user HMGET")),
        Err(_) => HealthCheck::warn("removed jobs", "no answer in time", "look at Redis's load"),
    });
    checks.push(match timeout(longest, stray_keys::check(&mut link, redis)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => HealthCheck::warn("stray keys", cause(&error), remedy_or(&error, "allow the user SCAN")),
        Err(_) => HealthCheck::warn("stray keys", "no answer in time", "look at Redis's load"),
    });
    checks.push(match timeout(longest, completions::check(&mut link, redis, &config.completions)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => {
            HealthCheck::warn("completions", cause(&error), remedy_or(&error, "allow the user XINFO and MEMORY USAGE"))
        }
        Err(_) => HealthCheck::warn("completions", "no answer in time", "look at Redis's load"),
    });
    let (check, running) = match timeout(longest, workers::check(&mut link, redis)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let remedy = remedy_or(&error, "is something else stored under this key?");
            (HealthCheck::warn("workers", cause(&error), remedy), 0)
        }
        Err(_) => (HealthCheck::warn("workers", "no answer in time", "look at Redis's load"), 0),
    };
    checks.push(check);
    checks.extend(match timeout(longest, limits::overridden(&mut link, config)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => {
            let remedy = remedy_or(&error, "allow the user EVALSHA and HMGET");
            Some(HealthCheck::warn("limits", cause(&error), remedy))
        }
        Err(_) => Some(HealthCheck::warn("limits", "no answer in time", "look at Redis's load")),
    });
    RedisChecks { checks, running }
}

/// The remedy of a known error, else that of the check. The check's own remedy for a missing permission names the command.
fn remedy_or(error: &RedisError, of_check: &'static str) -> &'static str {
    match error.code() {
        Some("NOPERM") => of_check,
        _ => remedy(error).unwrap_or(of_check),
    }
}

async fn of_server(link: &mut Link, in_cluster: bool) -> Vec<HealthCheck> {
    let unsaid = |why: &str| {
        let remedy = "allow the user INFO, so that this can be checked";
        vec![HealthCheck::warn("redis server", format!("INFO: {why}"), remedy)]
    };
    let infos = match link.query::<Value>(&cmd("INFO")).await {
        Ok(info) => ServerInfo::of(&info),
        Err(error) => return unsaid(&cause(&error)),
    };
    if infos.is_empty() {
        return unsaid("not understood");
    }
    let mut checks: Vec<HealthCheck> = infos.iter().flat_map(|info| server::checks(info, in_cluster)).collect();
    // Nodes with the same result are reported once.
    checks.sort_by(|a, b| a.name.cmp(&b.name));
    checks.dedup();
    checks
}

/// Whether a worker has every permission that it needs, and every key the right type. A worker asks the same before it takes a job.
async fn preflight(link: &mut Link, redis: &RedisConfig) -> Vec<HealthCheck> {
    const NAME: &str = "redis writes";
    let keys: Vec<_> = redis.partitions.numbers().map(|number| Keys::new(&redis.namespace, number)).collect();
    let findings = match preflight::check(link, keys.iter(), &Wanted::new(redis).looking()).await {
        Ok(findings) => findings,
        Err(error) => {
            let remedy = remedy_or(&error, "a worker writes by scripts only: see Redis's log");
            return vec![HealthCheck::fail(NAME, cause(&error), remedy)];
        }
    };
    let mut checks = Vec::new();
    if !findings.iter().any(|finding| finding.what() == "permission") {
        checks.push(HealthCheck::ok(NAME, "a script may write, and run all that a worker runs"));
    }
    for finding in &findings {
        let name = match finding.what() {
            "permission" => NAME,
            "partitions" => "redis partitions",
            "command" => "redis commands",
            // The server's own checks tell.
            "eviction" if !finding.forbids_work() => continue,
            "persistence" | "unseen" => continue,
            "eviction" => "redis.strict",
            _ => "redis keys",
        };
        let check = if finding.forbids_work() { HealthCheck::fail } else { HealthCheck::warn };
        checks.push(check(name, finding.to_string(), &finding.remedy()));
    }
    checks
}

async fn clock(link: &mut Link, host_clock: fn() -> SystemTime) -> Option<HealthCheck> {
    let asked = host_clock();
    let theirs = RedisTime::now(link).await.ok()?;
    let answered = host_clock();
    let theirs = SystemTime::UNIX_EPOCH + theirs.since_1970();
    // Somewhere between asking and answering; outside of it there is a difference for sure.
    let skew = match (asked.duration_since(theirs), theirs.duration_since(answered)) {
        (Ok(behind), _) => behind,
        (_, Ok(ahead)) => ahead,
        _ => Duration::ZERO,
    };
    Some(server::clock(skew))
}

/// What waits, and whether a worker takes it.
async fn queue(link: &mut Link, redis: &RedisConfig, max_pending: u64) -> RedisResult<HealthCheck> {
    const NAME: &str = "queue";
    let (mut waiting, mut in_flight, mut parked, mut dead) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut oldest = Duration::ZERO;
    let mut workers = std::collections::BTreeSet::new();
    let mut ungrouped = 0_u64;
    let mut overloaded: Option<(Lane, Load)> = None;
    let share = Load::share(max_pending, redis.partitions);
    for number in redis.partitions.numbers() {
        let keys = Keys::new(&redis.namespace, number);
        parked += link.query::<u64>(cmd("ZCARD").arg(&keys.delayed)).await?;
        dead += link.query::<u64>(cmd("XLEN").arg(&keys.dead)).await?;
        for lane in Lane::ALL {
            let load = lane_load(link, &keys, lane, share).await?;
            if load.is_over() {
                overloaded = Some((lane, load));
            }
            let mut grouped = true;
            for source in [Source::Due, Source::Jobs] {
                match consumers(link, keys.stream(lane, source)).await? {
                    Some(names) => workers.extend(names),
                    None => grouped = false,
                }
            }
            if grouped {
                let backlog = maintenance::backlog(link, &keys, lane).await?;
                waiting += backlog.entries.saturating_sub(backlog.in_flight);
                in_flight += backlog.in_flight;
                oldest = oldest.max(backlog.oldest);
            } else {
                ungrouped += link.query::<u64>(cmd("XLEN").arg(keys.jobs(lane))).await?;
            }
        }
    }
    let figures = format!(
        "{} waiting, {in_flight} in flight, {parked} parked, {dead} dead letters, {} workers",
        waiting + ungrouped,
        workers.len()
    );
    Ok(if waiting + ungrouped > 0 && workers.is_empty() {
        HealthCheck::warn(NAME, figures, "nobody takes these jobs: start a worker with `xco-worker run`")
    } else if let Some((lane, Load { pending, max_pending })) = overloaded {
        let detail = format!("{figures}; {} holds {pending}, more than the {max_pending} it may", lane.as_str());
        HealthCheck::warn(NAME, detail, "start more workers, or find out who enqueues so many (queue.max_pending)")
    } else if oldest > OLD {
        let detail = format!("{figures}; the oldest is {} old", format_duration(Duration::from_secs(oldest.as_secs())));
        HealthCheck::warn(NAME, detail, "workers are behind, or gone: look at their logs and /readyz")
    } else {
        HealthCheck::ok(NAME, figures)
    })
}

/// The workers that read a stream within the last minute. `None` where the group does not exist yet.
async fn consumers(link: &mut Link, stream: &str) -> RedisResult<Option<Vec<String>>> {
    let rows: Vec<HashMap<String, Value>> = match link.query(cmd("XINFO").arg("CONSUMERS").arg(stream).arg(GROUP)).await
    {
        Ok(rows) => rows,
        Err(error) if matches!(error.code(), Some("ERR" | "NOGROUP")) => return Ok(None),
        Err(error) => return Err(error),
    };
    let recent = |row: &HashMap<String, Value>| matches!(row.get("idle"), Some(Value::Int(ms)) if *ms < 60_000);
    let name = |row: &HashMap<String, Value>| match row.get("name") {
        Some(Value::BulkString(name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    Ok(Some(rows.iter().filter(|row| recent(row)).filter_map(name).collect()))
}
