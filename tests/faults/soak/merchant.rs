//! The merchant's side: enqueues at a steady rate and reads the completions.

use super::{
    ledger::id,
    traffic::{NewJob, Traffic},
    world::{World, now_ms},
};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use xco_worker::sandbox::Sandbox;

/// Number of unfinished jobs above which the merchant waits. It bounds the backlog that faults can cause.
const MOST_OUTSTANDING: u64 = 3_000;

/// Streams in which jobs wait for workers.
pub(crate) const STREAMS: [&str; 4] = ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"];

/// Enqueues a job whose reply list has a wrong type before anything is written to it.
const SPOILED_REPLY: &str = "redis.call('SET', KEYS[2], 'spoiled', 'EX', 600) \
    return redis.call('XADD', KEYS[1], '*', 'job', ARGV[1])";

/// A direct connection to Redis, without the workers' proxies, which reconnects after a restart of Redis.
#[derive(Debug)]
pub(crate) struct Wire {
    client: redis::Client,
    open: Option<MultiplexedConnection>,
}

impl Wire {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: redis::Client::open(url).unwrap(), open: None }
    }

    pub(crate) async fn query<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Option<T> {
        if self.open.is_none() {
            let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
            self.open = self.client.get_multiplexed_async_connection_with_config(&config).await.ok();
        }
        if let Some(open) = &mut self.open
            && let Ok(answer) = command.query_async(open).await
        {
            return Some(answer);
        }
        self.open = None;
        sleep(Duration::from_millis(20)).await;
        None
    }
}

/// Enqueues `rate` jobs a second until there are enough.
pub(crate) async fn produce(world: &World, sandbox: &Sandbox, url: &str, rate: u32, seed: u64) {
    let mut wire = Wire::new(url);
    let mut traffic = Traffic::new(seed, sandbox);
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = 0.0;
    while !world.enough.is_cancelled() && !world.accused.is_cancelled() {
        ticks.tick().await;
        if world.ledger.borrow().outstanding() > MOST_OUTSTANDING {
            continue;
        }
        due += f64::from(rate) / 20.0;
        loop {
            let order = traffic.greedy(&mut world.ledger.borrow_mut());
            let Some(order) = order else { break };
            due -= 1.0;
            enqueue(world, &mut wire, order).await;
        }
        while due >= 1.0 {
            let ended = world.ended.borrow_mut().pop_front();
            let orders = match ended {
                Some(ended) => Vec::from_iter(traffic.after(&ended, &mut world.ledger.borrow_mut(), sandbox)),
                None => traffic.next(&mut world.ledger.borrow_mut(), sandbox),
            };
            for order in orders {
                due -= 1.0;
                enqueue(world, &mut wire, order).await;
            }
        }
    }
}

/// Enqueues a job until Redis confirms it. A job without an id is enqueued once.
async fn enqueue(world: &World, wire: &mut Wire, order: NewJob) {
    let mut command = redis::cmd("XADD");
    command.arg(world.key(&format!("jobs:{}", order.lane))).arg("*").arg("job").arg(&order.text);
    if let (Some(number), false) = (order.number, order.duplicate)
        && order.text.contains("\"reply\":true")
    {
        world.replies_wanted.borrow_mut().insert(number);
        if world.spoil_replies.get() {
            world.replies_spoiled.borrow_mut().insert(number);
            command = redis::cmd("EVAL");
            command.arg(SPOILED_REPLY).arg(2).arg(world.key(&format!("jobs:{}", order.lane)));
            command.arg(world.key(&format!("reply:{}", id(number)))).arg(&order.text);
        }
    }
    loop {
        if let Some(number) = order.number
            && let Some(entry) = world.ledger.borrow_mut().entry(number)
        {
            let sent = if order.duplicate { &mut entry.duplicates } else { &mut entry.sent };
            *sent = sent.saturating_add(1);
        }
        let added: Option<String> = wire.query(&command).await;
        let mut ledger = world.ledger.borrow_mut();
        match (added, order.number) {
            (Some(_), Some(number)) => return ledger.accept(number),
            (Some(entry), None) => return ledger.accept_nameless(format!("{}:0:{entry}", order.lane)),
            (None, _) if order.has_id && !world.accused.is_cancelled() => ledger.resent += 1,
            (None, number) => {
                ledger.nameless_uncertain += usize::from(number.is_none());
                return;
            }
        }
    }
}

/// Maximum number of completions in one read.
const READ_MOST: usize = 500;

/// Reads completions as they come and checks each one.
pub(crate) async fn follow(world: &World, url: &str) {
    let mut wire = Wire::new(url);
    let mut last = "0-0".to_owned();
    let mut replies = Vec::new();
    // Completions read now were written after this time.
    let mut read_all_at_ms = now_ms();
    let key = world.key("completions");
    while !world.over.is_cancelled() {
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(100).arg("COUNT").arg(READ_MOST).arg("STREAMS").arg(&key).arg(&last);
        let asked_at_ms = now_ms();
        let Some(reply) = wire.query::<Option<redis::streams::StreamReadReply>>(&read).await else { continue };
        let mut count = 0;
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
            let text: String = entry.get("event").unwrap_or_default();
            let event: Value = serde_json::from_str(&text).unwrap_or_default();
            let judged = world.ledger.borrow_mut().complete(&event, |from, until| world.all_arrived(from, until));
            match judged {
                Ok(Some(ended)) => {
                    world.admissions.borrow_mut().note(&event);
                    if world.replies_wanted.borrow_mut().remove(&ended.number) {
                        replies.push(Reply { number: ended.number, event: text, written_after_ms: read_all_at_ms });
                    }
                    if matches!(ended.outcome.as_str(), "otp_sent" | "in_doubt" | "verified") {
                        world.ended.borrow_mut().push_back(ended);
                    }
                }
                Ok(None) => {}
                Err(why) => {
                    let number = event["id"].as_str().and_then(|id| id.strip_prefix('j')?.parse().ok());
                    world.accuse(number, format!("{}: {why}: {event:#}", event["id"]));
                }
            }
            last = entry.id;
            count += 1;
        }
        if count < READ_MOST {
            read_all_at_ms = asked_at_ms;
        }
        replies = check_replies(world, &mut wire, replies).await;
    }
}

/// A reply that must exist.
struct Reply {
    number: usize,
    event: String,
    /// Its completion was written after this time on the machine's clock.
    written_after_ms: u64,
}

fn is_reply(world: &World, reply: &Reply, found: &[String]) -> bool {
    let most =
        world.ledger.borrow_mut().entry(reply.number).map_or(1, |entry| entry.sent.saturating_add(entry.duplicates));
    !found.is_empty() && found.len() <= usize::from(most) && found.iter().all(|one| *one == reply.event)
}

/// Checks that each reply list contains its completion: once for the job, and at most once more for each time that it was enqueued
/// again. Returns the replies that could not be checked.
async fn check_replies(world: &World, wire: &mut Wire, replies: Vec<Reply>) -> Vec<Reply> {
    let mut later = Vec::new();
    for reply in replies {
        let number = reply.number;
        let key = world.key(&format!("reply:{}", id(number)));
        // If a foreign key was in its place, a reply may be missing.
        if world.replies_spoiled.borrow().contains(&number) {
            match wire.query::<String>(redis::cmd("TYPE").arg(&key)).await.as_deref() {
                Some("list") => {}
                Some(_) => continue,
                None => {
                    later.push(reply);
                    continue;
                }
            }
        }
        let mut look = redis::cmd("LRANGE");
        look.arg(&key).arg(0).arg(-1);
        match wire.query::<Vec<String>>(&look).await {
            Some(found) if is_reply(world, &reply, &found) => {
                world.replies_checked.set(world.replies_checked.get() + 1);
            }
            Some(found) if found.is_empty() && world.may_miss_a_reply(reply.written_after_ms) => {}
            Some(found) => world.accuse(Some(number), format!("replied {} times: {found:?}", found.len())),
            None => later.push(reply),
        }
    }
    later
}

/// Whether no stream has a waiting job. Duplicates must have been dropped, too.
pub(crate) async fn is_empty(world: &World, wire: &mut Wire) -> bool {
    for stream in STREAMS {
        if wire.query::<u64>(redis::cmd("XLEN").arg(world.key(stream))).await != Some(0) {
            return false;
        }
    }
    wire.query::<u64>(redis::cmd("ZCARD").arg(world.key("delayed"))).await == Some(0)
}

/// Where jobs wait, for reports about a slow drain.
pub(crate) async fn whereabouts(world: &World, wire: &mut Wire) -> String {
    let mut lengths = Vec::new();
    for stream in STREAMS {
        let length: Option<u64> = wire.query(redis::cmd("XLEN").arg(world.key(stream))).await;
        lengths.push(format!("{stream} {}", length.unwrap_or(0)));
    }
    let parked: Option<Vec<(String, f64)>> =
        wire.query(redis::cmd("ZRANGE").arg(world.key("delayed")).arg(0).arg(-1).arg("WITHSCORES")).await;
    let parked = parked.unwrap_or_default();
    let now = now_ms();
    #[allow(clippy::cast_precision_loss)]
    let wait_ms = parked.last().map_or(0.0, |(_, due_ms)| due_ms - now as f64);
    format!("{}, parked {}, the last for {wait_ms:.0} ms", lengths.join(", "), parked.len())
}

/// Checks that the counters of batches match the number of their jobs.
pub(crate) async fn check_batches(world: &World, wire: &mut Wire) {
    let batches = world.ledger.borrow().batches.clone();
    for (number, expected) in batches.into_iter().enumerate().skip(1) {
        let key = world.key(&format!("batch:b{number}"));
        let Some(counts) = wire.query::<std::collections::BTreeMap<String, u32>>(redis::cmd("HGETALL").arg(key)).await
        else {
            return world.accuse(None, "a batch could not be read");
        };
        let accepted = counts.get("accepted").copied().unwrap_or(0);
        let ended: u32 = counts.iter().filter(|(name, _)| *name != "accepted").map(|(_, count)| count).sum();
        let fewer = world.may_miss_counts() && accepted <= expected && ended <= expected;
        if (accepted, ended) != (expected, expected) && !fewer {
            world.accuse(None, format!("batch {number} holds {expected} jobs and counts {counts:?}"));
        }
    }
}

pub(crate) async fn history(world: &World, sandbox: &Sandbox, url: &str, number: usize) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let entry = world.ledger.borrow_mut().entry(number).copied();
    let _ = writeln!(text, "  {}: {entry:?}", id(number));
    for call in sandbox.calls() {
        if call.traceparent.as_deref().and_then(super::ledger::of_trace) == Some(number) {
            let _ = writeln!(text, "  {call:?}");
        }
    }
    let Ok(client) = redis::Client::open(url) else { return text };
    let Ok(Ok(mut connection)) = timeout(Duration::from_secs(5), client.get_multiplexed_async_connection()).await
    else {
        return text;
    };
    let name = format!("\"{}\"", id(number));
    for key in ["completions", "dead", "jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"] {
        let found: redis::RedisResult<redis::streams::StreamRangeReply> =
            connection.xrevrange_count(world.key(key), "+", "-", 100_000).await;
        for entry in found.into_iter().flat_map(|reply| reply.ids) {
            let fields = ["event", "job", "state"].map(|field| entry.get::<String>(field).unwrap_or_default());
            if fields.iter().any(|field| field.contains(&name)) {
                let _ = writeln!(text, "  {key} {}: {fields:?}", entry.id);
            }
        }
    }
    for key in ["delayed:jobs", "begun"] {
        let found: Vec<(String, String)> = connection.hgetall(world.key(key)).await.unwrap_or_default();
        for (origin, value) in found.iter().filter(|(_, value)| key == "begun" || value.contains(&name)) {
            let _ = writeln!(text, "  {key} {origin}: {value}");
        }
    }
    text
}
