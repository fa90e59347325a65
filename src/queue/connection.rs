//! Connections to Redis behind one type that reconnects: a connection of a link's own, or one that links share.

use super::{connector::Connector, trouble::is_about_connections};
use crate::net::TlsFilesFault;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::Mutex, time::Instant};

/// Why a queue could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// `redis.url` makes no client.
    #[error("redis.url: {0}")]
    Url(String),
    /// A file of `redis.tls.*` cannot be used.
    #[error("redis.{0}")]
    Tls(#[from] TlsFilesFault),
    /// Redis refused or failed.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
}

/// A connection of either kind.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To a cluster.
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

/// A connection, and until when it is of use.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) connection: Connection,
    /// The connector's generation when it was made: a later one means that Redis is elsewhere by now.
    pub(super) generation: u64,
    pub(super) at: Instant,
    /// Set by the first who finds out: all who share it make another.
    broken: Arc<AtomicBool>,
}

impl Made {
    pub(super) fn new(connection: Connection, generation: u64) -> Self {
        Self { connection, generation, at: Instant::now(), broken: Arc::default() }
    }

    fn serves(&self, connector: &Connector) -> bool {
        self.generation == connector.generation() && !self.broken.load(Ordering::Acquire)
    }
}

/// A connection that links share. Commands that do not block are sent on it side by side.
#[derive(Default)]
pub(super) struct SharedConnection(Mutex<SharedState>);

#[derive(Default)]
struct SharedState {
    made: Option<Made>,
    failed: Option<(Instant, RedisError)>,
}

impl SharedConnection {
    /// The connection, made by one for all: who waited while that failed has failed, too.
    async fn get(&self, connector: &Connector, patient: bool) -> RedisResult<Made> {
        let began = Instant::now();
        let mut state = self.0.lock().await;
        if let Some(made) = state.made.as_ref().filter(|made| made.serves(connector)) {
            return Ok(made.clone());
        }
        state.made = None;
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(error.clone());
        }
        match connector.connect(patient).await {
            Ok(made) => {
                *state = SharedState { made: Some(made.clone()), failed: None };
                Ok(made)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

/// A connection that is made when needed and dropped when it is of no more use: the next command then has a new one.
///
/// It never retries by itself: whether a command may be repeated is its caller's knowledge.
pub struct Link {
    connector: Connector,
    /// `None`: a connection of its own.
    shared: Option<Arc<SharedConnection>>,
    /// Replies may take as long as they like.
    patient: bool,
    made: Option<Made>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connected", &self.made.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(connector: Connector, shared: Option<Arc<SharedConnection>>, patient: bool) -> Self {
        Self { connector, shared, patient, made: None }
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = cmd.query_async(&mut connection).await;
        self.conclude(result).await
    }

    /// Runs a pipeline. Where commands of it were refused, the error is that of the first.
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = pipeline.query_async(&mut connection).await.map_err(first_refusal);
        self.conclude(result).await
    }

    async fn connection(&mut self) -> RedisResult<Connection> {
        if let Some(made) = self.made.as_ref().filter(|made| made.serves(&self.connector)) {
            return Ok(made.connection.clone());
        }
        self.made = None;
        let made = match &self.shared {
            None => self.connector.connect(self.patient).await?,
            Some(shared) => shared.get(&self.connector, self.patient).await?,
        };
        let connection = made.connection.clone();
        self.made = Some(made);
        Ok(connection)
    }

    /// Forgets the connection: the next command makes a new one.
    pub fn reset(&mut self) {
        if let Some(made) = self.made.take() {
            made.broken.store(true, Ordering::Release);
        }
    }

    async fn conclude<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !needs_new_connection(&error) {
            return Err(error);
        }
        let made_at = self.made.as_ref().map(|made| made.at);
        self.reset();
        Err(match made_at {
            Some(at) => self.connector.cause_of(error, at).await,
            None => error,
        })
    }
}

/// A pipeline's error has no code where the server's own (`NOGROUP`, `OOM`) is one that redis-rs does not know: nobody could
/// tell what to do about it.
fn first_refusal(error: RedisError) -> RedisError {
    match error.clone().into_server_errors() {
        Some(refusals) => refusals.first().map_or(error, |(_, refusal)| refusal.clone().into()),
        None => error,
    }
}

fn needs_new_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || is_about_connections(error)
        // A master that became a replica stays connected: ask the Sentinel (or the address) again.
        || error.code() == Some("READONLY")
}

/// Whether waiting may cure the error: everything but a mistake in the command itself.
pub fn is_transient(error: &RedisError) -> bool {
    needs_new_connection(error)
        || error.code().is_some_and(|code| passes_by_itself(code) || matches!(code, "NOGROUP" | "NOSCRIPT"))
        || matches!(
            error.kind(),
            // While a failover is under way a Sentinel knows of no master.
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel
        )
}

/// Whether an error of that code is about the server's state and not about the command.
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
