//! What others do to Redis's data and users while jobs are under way, and how it is made good.
//!
//! What is to be made good is owed until Redis takes it: it may be down or hung when its time comes.

use super::{
    merchant::STREAMS,
    schedule::{Event, Kind},
    world::World,
};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};
use std::time::Duration;
use tokio::time::timeout;
use xco_worker::queue::GROUP;

/// Whom the workers connect as.
pub(crate) const WORKERS_USER: &str = "worker";

/// What a spoiled key holds.
const SPOILED: &str = "spoiled by the soak";

const SPOIL: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end \
    redis.call('SET', KEYS[1], ARGV[1])";

/// 1 where it is as it was, by this or by an earlier run whose answer was lost; 0 where somebody else has written there.
const RESTORE: &str = "local kind = redis.call('TYPE', KEYS[1]).ok \
    if kind ~= 'none' and (kind ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1]) then \
        return 1 - redis.call('EXISTS', KEYS[2]) end \
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
    /// Takes deliveries away, each time that it is its turn.
    taking: Option<Event>,
    /// To be undone as soon as Redis can.
    owed: Vec<Debt>,
}

fn aside(key: &str) -> String {
    format!("aside:{key}")
}

impl Hands {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: redis::Client::open(url).unwrap(), standing: Vec::new(), taking: None, owed: Vec::new() }
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
            Kind::ConsumerDeleted | Kind::ForeignAck => {
                self.taking = Some(*event);
                self.go_on(world).await;
                true
            }
            _ => false,
        }
    }

    /// What `event` began is over: it is made good as soon as Redis can.
    pub(crate) fn relent(&mut self, event: &Event, world: &World) {
        if event.kind == Kind::RepliesSpoiled {
            world.spoil_replies.set(false);
        }
        if self.taking == Some(*event) {
            self.taking = None;
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

    /// Goes on with what is done again and again.
    pub(crate) async fn go_on(&self, world: &World) {
        let Some(event) = self.taking else { return };
        for stream in STREAMS {
            let stream = world.key(stream);
            // Where Redis is down there is nothing to be taken.
            let _ = match event.kind {
                Kind::ForeignAck => self.acknowledge(&stream, 1 + event.drawn(MOST_ACKNOWLEDGED)).await,
                _ => self.delete_consumer(&stream).await,
            };
        }
    }

    /// The one that holds most.
    async fn delete_consumer(&self, stream: &str) -> RedisResult<()> {
        // How many, the first, the last, and by consumer.
        let summary: Vec<Value> = self.query(cmd("XPENDING").arg(stream).arg(GROUP)).await?;
        let holders = summary.into_iter().nth(3).unwrap_or(Value::Nil);
        let holders: Vec<(String, String)> = redis::from_redis_value::<Option<_>>(holders)?.unwrap_or_default();
        let most = holders.iter().max_by_key(|(_, pending)| pending.parse::<u64>().unwrap_or(0));
        if let Some((consumer, _)) = most {
            self.query::<Value>(cmd("XGROUP").arg("DELCONSUMER").arg(stream).arg(GROUP).arg(consumer)).await?;
        }
        Ok(())
    }

    /// The oldest few.
    async fn acknowledge(&self, stream: &str, most: usize) -> RedisResult<()> {
        let mut pending = cmd("XPENDING");
        pending.arg(stream).arg(GROUP).arg("-").arg("+").arg(most);
        let rows: Vec<(String, String, u64, u64)> = self.query(&pending).await?;
        if !rows.is_empty() {
            let mut acknowledge = cmd("XACK");
            acknowledge.arg(stream).arg(GROUP);
            for (entry, ..) in rows {
                acknowledge.arg(entry);
            }
            self.query::<Value>(&acknowledge).await?;
        }
        Ok(())
    }
}
