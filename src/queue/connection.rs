//! Connections to Redis: of either kind, with what is known of their use, and what an error says of them.

use super::error_remedies::is_about_connections;
use crate::net::TlsFilesFault;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::Mutex, time::Instant};

/// The reason why a queue could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The client does not accept `redis.url`.
    #[error("redis.url: {0}")]
    Url(String),
    /// A file in `redis.tls.*` cannot be used.
    #[error("redis.{0}")]
    Tls(#[from] TlsFilesFault),
    /// Redis refused a command or failed.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
}

/// A connection to one server or to a cluster.
#[derive(Clone)]
pub enum Connection {
    /// A connection to one server.
    Single(MultiplexedConnection),
    /// A connection to a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// A connection, and what decides whether it is still usable.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) connection: Connection,
    /// The connector's generation when the connection was made. If the current one is higher, Redis has moved.
    generation: u64,
    pub(super) at: Instant,
    /// Set by the first link that finds the connection broken. All links that share it then make a new one.
    broken: Arc<AtomicBool>,
}

impl Made {
    pub(super) fn new(connection: Connection, generation: u64) -> Self {
        Self { connection, generation, at: Instant::now(), broken: Arc::default() }
    }

    /// Whether it is still of use while the connector's generation is `generation`.
    pub(super) fn serves(&self, generation: u64) -> bool {
        self.generation == generation && !self.broken.load(Ordering::Acquire)
    }

    /// It is of no more use to any link that shares it.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

/// A connection shared by several links. Non-blocking commands are sent on it concurrently.
#[derive(Default)]
pub(super) struct SharedConnection(pub(super) Mutex<SharedState>);

/// The connection that is there, and the last failure to make one.
#[derive(Default)]
pub(super) struct SharedState {
    pub(super) made: Option<Made>,
    pub(super) failed: Option<(Instant, RedisError)>,
}

/// Whether the connection on which it came is of no more use.
pub(super) fn needs_new_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || is_about_connections(error)
        // A master that became a replica keeps its connections. A new one asks the Sentinel (or the address) again.
        || error.code() == Some("READONLY")
}

/// Whether the error may go away by itself. This includes everything except a mistake in the command.
pub fn is_transient(error: &RedisError) -> bool {
    needs_new_connection(error)
        || error.code().is_some_and(|code| passes_by_itself(code) || matches!(code, "NOGROUP" | "NOSCRIPT"))
        || matches!(
            error.kind(),
            // While a failover is in progress, a Sentinel knows no master.
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel
        )
}

/// Whether an error with this code is about the state of the server and not about the command.
pub(super) fn passes_by_itself(code: &str) -> bool {
    matches!(
        code,
        "LOADING"
            | "BUSY"
            | "MASTERDOWN"
            | "READONLY"
            | "TRYAGAIN"
            | "CLUSTERDOWN"
            | "MOVED"
            | "ASK"
            | "OOM"
            | "MISCONF"
            | "NOREPLICAS"
            | "UNBLOCKED"
            | "NOAUTH"
            | "WRONGPASS"
    )
}
