//! What others do to Redis's data and users while jobs are under way, and how it is made good.
//!
//! What is to be made good is owed until Redis takes it: it may be down or hung when its time comes.

use super::{
    schedule::{Event, Kind},
    world::World,
};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};
use std::{collections::HashMap, time::Duration};
use tokio::time::timeout;
use xco_worker::queue::GROUP;

/// Whom the workers connect as.
pub(crate) const WORKERS_USER: &str = "soak-worker";
pub(crate) const WORKERS_PASSWORD: &str = "soak";
/// What that user may do, as a server is started with it.
pub(crate) const WORKERS_RIGHTS: [&str; 5] = ["on", ">soak", "~*", "&*", "+@all"];

/// What a spoiled key holds.
const SPOILED: &str = "spoiled by the soak";

const SPOIL: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end \
    redis.call('SET', KEYS[1], ARGV[1])";

/// 1 where it is as it was; 0 where somebody else has written there.
const RESTORE: &str = "local kind = redis.call('TYPE', KEYS[1]).ok \
    if kind ~= 'none' and (kind ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1]) then return 0 end \
    redis.call('DEL', KEYS[1]) \
    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end \
    return 1";

/// The most deliveries that a foreign hand acknowledges.
const MOST_ACKNOWLEDGED: usize = 5;

/// What must be undone.
#[derive(Debug, Clone, PartialEq)]
enum Debt {
    Key(String),
    Permission(&'static str),
}

/// Those others.
#[derive(Debug)]
pub(crate) struct Hands {
    client: redis::Client,
    /// Done, and to be undone when its event is over.
    standing: Vec<(Event, Debt)>,
    /// To be undone as soon as Redis can.
    owed: Vec<Debt>,
}

fn aside(key: &str) -> String {
    format!("aside:{key}")
}

impl Hands {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: redis::Client::open(url).unwrap(), standing: Vec::new(), owed: Vec::new() }
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let asked = async {
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            command.query_async(&mut connection).await
        };
        match timeout(Duration::from_secs(2), asked).await {
            Ok(answer) => answer,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Does what `event` says. Whether it could be done.
    pub(crate) async fn strike(&mut self, event: &Event, world: &World) -> bool {
        match event.kind {
            Kind::KeySpoiled => {
                let latest = world.ledger.borrow().batches.len().saturating_sub(1).max(1);
                let key = match event.key() {
                    "batch" => world.key(&format!("batch:b{latest}")),
                    key => world.key(key),
                };
                if self.owed.contains(&Debt::Key(key.clone())) {
                    return false;
                }
                let mut spoil = cmd("EVAL");
                spoil.arg(SPOIL).arg(2).arg(&key).arg(aside(&key)).arg(SPOILED);
                // Without an answer it may be done all the same: what is owed is owed.
                let done = self.query::<Value>(&spoil).await.is_ok();
                self.standing.push((*event, Debt::Key(key)));
                done
            }
            Kind::PermissionWithdrawn => {
                let mut withdraw = cmd("ACL");
                withdraw.arg("SETUSER").arg(WORKERS_USER).arg(format!("-{}", event.command()));
                let done = self.query::<Value>(&withdraw).await.is_ok();
                self.standing.push((*event, Debt::Permission(event.command())));
                done
            }
            Kind::RepliesSpoiled => {
                world.spoil_replies.set(true);
                true
            }
            Kind::ConsumerDeleted => self.delete_consumer(event, world).await.unwrap_or(false),
            Kind::ForeignAck => self.acknowledge(event, world).await.unwrap_or(false),
            _ => false,
        }
    }

    /// What `event` began is over: it is made good as soon as Redis can.
    pub(crate) fn relent(&mut self, event: &Event, world: &World) {
        if event.kind == Kind::RepliesSpoiled {
            world.spoil_replies.set(false);
        }
        if let Some(place) = self.standing.iter().position(|(struck, _)| struck == event) {
            self.owed.push(self.standing.swap_remove(place).1);
        }
    }

    /// Makes good what is owed, as far as Redis lets it. Whether nothing is owed any more.
    pub(crate) async fn make_good(&mut self, world: &World) -> bool {
        for debt in std::mem::take(&mut self.owed) {
            let made = match &debt {
                Debt::Key(key) => {
                    let mut restore = cmd("EVAL");
                    restore.arg(RESTORE).arg(2).arg(key).arg(aside(key)).arg(SPOILED);
                    self.query::<bool>(&restore).await
                }
                Debt::Permission(command) => {
                    let mut permit = cmd("ACL");
                    permit.arg("SETUSER").arg(WORKERS_USER).arg(format!("+{command}"));
                    self.query::<Value>(&permit).await.map(|_| true)
                }
            };
            match made {
                Ok(true) => {}
                Ok(false) => world.accuse(None, format!("somebody wrote over what lay in the way: {debt:?}")),
                Err(_) => self.owed.push(debt),
            }
        }
        self.owed.is_empty()
    }

    fn stream(event: &Event, world: &World) -> String {
        let streams = ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"];
        world.key(streams[event.drawn(streams.len())])
    }

    async fn delete_consumer(&self, event: &Event, world: &World) -> RedisResult<bool> {
        let stream = Self::stream(event, world);
        let consumers: Vec<HashMap<String, Value>> =
            self.query(cmd("XINFO").arg("CONSUMERS").arg(&stream).arg(GROUP)).await?;
        let Some(consumer) = consumers.get(event.drawn(consumers.len().max(1))) else { return Ok(false) };
        let Some(name) = consumer.get("name") else { return Ok(false) };
        let name: String = redis::from_redis_value(name.clone())?;
        self.query::<Value>(cmd("XGROUP").arg("DELCONSUMER").arg(&stream).arg(GROUP).arg(name)).await?;
        Ok(true)
    }

    async fn acknowledge(&self, event: &Event, world: &World) -> RedisResult<bool> {
        let stream = Self::stream(event, world);
        let mut pending = cmd("XPENDING");
        pending.arg(&stream).arg(GROUP).arg("-").arg("+").arg(1 + event.drawn(MOST_ACKNOWLEDGED));
        let rows: Vec<(String, String, u64, u64)> = self.query(&pending).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(&stream).arg(GROUP);
        for (entry, ..) in rows {
            acknowledge.arg(entry);
        }
        self.query::<Value>(&acknowledge).await?;
        Ok(true)
    }
}
