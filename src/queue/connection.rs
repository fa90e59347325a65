//! Connections to Redis that reconnect. A link has its own connection or shares one.

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
    pub(super) generation: u64,
    pub(super) at: Instant,
    /// Set by the first link that finds the connection broken. All links that share it then make a new one.
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

/// A connection shared by several links. Non-blocking commands are sent on it concurrently.
#[derive(Default)]
pub(super) struct SharedConnection(Mutex<SharedState>);

#[derive(Default)]
struct SharedState {
    made: Option<Made>,
    failed: Option<(Instant, RedisError)>,
}

impl SharedConnection {
    /// Returns the connection. Only one caller makes it. Callers that waited during a failed attempt get the same
    /// error.
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

/// A connection that is made when needed and dropped when it is broken. The next command then makes a new one.
///
/// It never retries a command, because only the caller knows whether the command can be repeated.
pub struct Link {
    connector: Connector,
    /// The shared connection. `None` if the link has its own.
    shared: Option<Arc<SharedConnection>>,
    /// Replies have no timeout.
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

    /// Runs a pipeline. If commands in it were refused, the error is that of the first.
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

    /// Drops the connection. The next command makes a new one.
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

/// Returns the first server error of a pipeline. The pipeline's own error has no code if redis-rs does not know the
/// server's code (`NOGROUP`, `OOM`), and callers decide by the code.
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
