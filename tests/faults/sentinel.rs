//! A Sentinel for a primary and its replicas: the Redis server program in another mode.

use super::support::{RedisServer, free_port};
use redis::{Value, cmd};
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Name of the service in the Sentinel.
const SERVICE: &str = "main";

/// A replica of `primary` that receives its writes.
pub(crate) async fn replica_of(primary: &RedisServer) -> RedisServer {
    let port = primary.port().to_string();
    let replica = RedisServer::own(&["--save", "", "--appendonly", "no", "--replicaof", "127.0.0.1", &port]);
    eventually("the replica is in step", async || {
        let told = ask(replica.url(), cmd("INFO").arg("replication")).await;
        told.is_some_and(|told| format!("{told:?}").contains("master_link_status:up"))
    })
    .await;
    // For up to a second the primary sends nothing more, until the replica has acknowledged the first data.
    eventually("the replica is sent what is written", async || {
        let marker = primary.port().to_string();
        let _ = ask(primary.url(), cmd("SET").arg("marker").arg(&marker)).await;
        let copied = ask(replica.url(), cmd("GET").arg("marker")).await;
        copied == Some(Value::BulkString(marker.into_bytes()))
    })
    .await;
    let _ = ask(primary.url(), cmd("DEL").arg("marker")).await;
    replica
}

/// A primary that sends its data to replicas at once.
pub(crate) fn primary() -> RedisServer {
    RedisServer::own(&["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
}

/// A running Sentinel. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Sentinel {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    /// Watches `primary`, and knows its `replicas` when this returns. It decides alone.
    pub(crate) async fn over(primary: &RedisServer, replicas: usize) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n",
            folder.path().display(),
            primary.port()
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(RedisServer::program());
        command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        let sentinel = Self { child: command.spawn().unwrap(), port, _folder: folder };
        eventually("the Sentinel knows the replicas", async || {
            let known = ask(&sentinel.server(), cmd("SENTINEL").arg("REPLICAS").arg(SERVICE)).await;
            matches!(known, Some(Value::Array(known)) if known.len() == replicas)
        })
        .await;
        sentinel
    }

    fn server(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Value for `redis.url`.
    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{SERVICE}", self.port)
    }

    /// Port of the primary, as the Sentinel reports it.
    pub(crate) async fn primary(&self) -> Option<u16> {
        let told = ask(&self.server(), cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(SERVICE)).await?;
        let (_, port): (String, u16) = redis::from_redis_value(told).ok()?;
        Some(port)
    }

    /// Waits until one of `replicas` is the primary and reports that. Returns it, and the others.
    pub(crate) async fn promotion(&self, mut replicas: Vec<RedisServer>) -> (RedisServer, Vec<RedisServer>) {
        let mut promoted = None;
        eventually("a replica is promoted", async || {
            let port = self.primary().await;
            promoted = replicas.iter().position(|replica| Some(replica.port()) == port);
            let Some(place) = promoted else { return false };
            let role = ask(replicas[place].url(), &cmd("ROLE")).await;
            role.is_some_and(|role| format!("{role:?}").contains("master"))
        })
        .await;
        let promoted = replicas.remove(promoted.unwrap());
        (promoted, replicas)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one command on a new connection; `None` without an answer.
pub(crate) async fn ask(url: &str, command: &redis::Cmd) -> Option<Value> {
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.ok()?;
    command.query_async(&mut connection).await.ok()
}

async fn eventually(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !probe().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
