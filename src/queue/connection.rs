//! Connections to Redis: a single server, a Sentinel's master, or a cluster, behind one type that reconnects.

use crate::config::{RedisConfig, RedisUrl, SentinelUrl, parse_redis_url};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::ExposeSecret;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, Notify};

/// Why a queue could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// `redis.url` makes no client.
    #[error("redis.url: {0}")]
    Url(String),
    /// Redis refused or failed.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
}

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    kind: Kind,
    connect_timeout: Duration,
    response_timeout: Duration,
    starved: Arc<Notify>,
}

#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a handful in a process")]
enum Kind {
    Single(redis::Client),
    Sentinel(Arc<Mutex<SentinelClient>>),
    Cluster(ClusterClient),
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs carry passwords.
        let kind = match self.kind {
            Kind::Single(_) => "single",
            Kind::Sentinel(_) => "sentinel",
            Kind::Cluster(_) => "cluster",
        };
        f.debug_struct("Connector").field("kind", &kind).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector for `redis.url`. Connects to nothing yet.
    pub fn new(config: &RedisConfig) -> Result<Self, QueueError> {
        let urls: Vec<&str> = config.url.iter().map(ExposeSecret::expose_secret).collect();
        let bad = |error: RedisError| QueueError::Url(error.category().to_owned());
        let kind = match urls.as_slice() {
            [] => return Err(QueueError::Url("is empty".to_owned())),
            [url] => match parse_redis_url(url).map_err(QueueError::Url)? {
                RedisUrl::Sentinel(url) => Kind::Sentinel(Arc::new(Mutex::new(sentinel(url).map_err(bad)?))),
                RedisUrl::Server(url) => Kind::Single(redis::Client::open(url.expose_secret()).map_err(bad)?),
            },
            many => Kind::Cluster(
                // The cluster client has no default timeouts.
                ClusterClientBuilder::new(many.to_vec())
                    .connection_timeout(config.connect_timeout)
                    .response_timeout(config.response_timeout)
                    .build()
                    .map_err(bad)?,
            ),
        };
        Ok(Self {
            kind,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            starved: Arc::default(),
        })
    }

    /// A new connection. With `blocking`, replies may take as long as they like: the caller bounds its waits.
    pub async fn connect(&self, blocking: bool) -> RedisResult<Connection> {
        let connected = self.open(blocking).await;
        if connected.is_err() && no_file_can_be_opened() {
            self.starved.notify_one();
        }
        connected
    }

    /// Comes back when a connection could not be made because this process has as many files open as it may: whoever
    /// holds some that it can do without gives them up.
    pub async fn starved(&self) {
        self.starved.notified().await;
    }

    async fn open(&self, blocking: bool) -> RedisResult<Connection> {
        // The client's own default of 500 ms would cut blocking reads short and lose what they then receive.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout((!blocking).then_some(self.response_timeout));
        match &self.kind {
            Kind::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Kind::Sentinel(sentinels) => {
                // Only asking for the master is done one by one: a master that hangs must not hold up every link in turn.
                // (Boxed: it is large, and every future that may connect would be as large.)
                let master = Box::pin(sentinels.lock().await.async_get_client()).await?;
                master.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Kind::Cluster(client) => {
                let mut builder = redis::cluster::ClusterConfig::new().set_connection_timeout(self.connect_timeout);
                if blocking {
                    builder = builder.set_response_timeout(Duration::from_secs(30));
                } else {
                    builder = builder.set_response_timeout(self.response_timeout);
                }
                client.get_async_connection_with_config(builder).await.map(Connection::Cluster)
            }
        }
    }

    /// A link that connects when first used.
    pub fn link(&self, blocking: bool) -> Link {
        Link { connector: self.clone(), blocking, connection: None }
    }
}

/// Whatever the client makes of the error, the system says it of any file.
fn no_file_can_be_opened() -> bool {
    // EMFILE of this process, ENFILE of the system.
    const TOO_MANY: [Option<i32>; 2] = [Some(24), Some(23)];
    std::fs::File::open("/dev/null").is_err_and(|error| TOO_MANY.contains(&error.raw_os_error()))
}

fn sentinel(url: SentinelUrl) -> Result<SentinelClient, RedisError> {
    let addresses = url.sentinels.into_iter().map(|(host, port)| redis::ConnectionAddr::Tcp(host, port));
    let mut builder =
        SentinelClientBuilder::new(addresses, url.service, SentinelServerType::Master)?.set_client_to_redis_db(url.db);
    if let Some(username) = url.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = url.password {
        builder = builder.set_client_to_redis_password(password.expose_secret());
    }
    builder.build()
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

/// A connection that is made when needed and dropped when it is of no more use: the next command then has a new one.
///
/// It never retries by itself: whether a command may be repeated is its caller's knowledge.
pub struct Link {
    connector: Connector,
    blocking: bool,
    connection: Option<Connection>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connected", &self.connection.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// Runs one command.
    pub async fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = cmd.query_async(&mut connection).await;
        self.keep_if_useful(&result);
        result
    }

    /// Runs a pipeline. Where commands of it were refused, the error is that of the first.
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = pipeline.query_async(&mut connection).await.map_err(first_refusal);
        self.keep_if_useful(&result);
        result
    }

    async fn connection(&mut self) -> RedisResult<Connection> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let connection = self.connector.connect(self.blocking).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Forgets the connection: the next command makes a new one.
    pub fn reset(&mut self) {
        self.connection = None;
    }

    fn keep_if_useful<T>(&mut self, result: &RedisResult<T>) {
        if let Err(error) = result
            && needs_new_connection(error)
        {
            self.connection = None;
        }
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
