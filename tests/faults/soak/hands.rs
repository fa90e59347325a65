//! Changes to Redis's data and users by something other than a worker, and their repair.
//!
//! Each repair is repeated until Redis accepts it, because Redis may be down when it is due.

use super::{
    merchant::STREAMS,
    schedule::{Event, Kind},
    world::World,
};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};
use std::time::Duration;
use tokio::time::timeout;
use xco_worker::queue::GROUP;

/// The Redis user of the workers.
pub(crate) const WORKERS_USER: &str = "worker";

/// Content of a spoiled key.
const SPOILED: &str = "spoiled by the soak";

const SPOIL: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end \
    redis.call('SET', KEYS[1], ARGV[1])";

/// Returns 1 if the key is restored, by this or by an earlier run whose answer was lost; 0 if something else wrote
/// there.
const RESTORE: &str = "local kind = redis.call('TYPE', KEYS[1]).ok \
    if kind ~= 'none' and (kind ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1]) then \
        return 1 - redis.call('EXISTS', KEYS[2]) end \
    redis.call('DEL', KEYS[1]) \
    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end \
    return 1";

/// Maximum number of deliveries that are acknowledged at once.
const MOST_ACKNOWLEDGED: usize = 5;

/// A repair.
#[derive(Debug, Clone, PartialEq)]
enum Debt {
    Key(String),
    Permission(&'static str),
}

/// Makes the changes and repairs.
#[derive(Debug)]
pub(crate) struct Hands {
    client: redis::Client,
    /// Changes in force, to be repaired when their event is over.
    standing: Vec<(Event, Debt)>,
    /// The event that takes deliveries away, if there is one.
    taking: Option<Event>,
    /// Repairs that are due as soon as Redis accepts them.
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

    /// Starts the fault `event`. Returns whether that was possible.
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
                // Without an answer it may still be done, so the repair is needed.
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

    /// Ends the fault `event`: its repair becomes due.
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

    /// Makes the due repairs, as far as Redis accepts them. Returns whether none is left.
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

    /// Continues the fault that repeats.
    pub(crate) async fn go_on(&self, world: &World) {
        let Some(event) = self.taking else { return };
        for stream in STREAMS {
            let stream = world.key(stream);
            // While Redis is down, there is nothing to take away.
            let _ = match event.kind {
                Kind::ForeignAck => self.acknowledge(&stream, 1 + event.drawn(MOST_ACKNOWLEDGED)).await,
                _ => self.delete_consumer(&stream).await,
            };
        }
    }

    /// Deletes the consumer with the most deliveries.
    async fn delete_consumer(&self, stream: &str) -> RedisResult<()> {
        // The reply is: the number, the first, the last, and the numbers by consumer.
        let summary: Vec<Value> = self.query(cmd("XPENDING").arg(stream).arg(GROUP)).await?;
        let holders = summary.into_iter().nth(3).unwrap_or(Value::Nil);
        let holders: Vec<(String, String)> = redis::from_redis_value::<Option<_>>(holders)?.unwrap_or_default();
        let most = holders.iter().max_by_key(|(_, pending)| pending.parse::<u64>().unwrap_or(0));
        if let Some((consumer, _)) = most {
            self.query::<Value>(cmd("XGROUP").arg("DELCONSUMER").arg(stream).arg(GROUP).arg(consumer)).await?;
        }
        Ok(())
    }

    /// Acknowledges the oldest few deliveries.
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
