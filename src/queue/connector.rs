//! Makes connections to Redis: to a single server, to a Sentinel's master, or to a cluster.
//!
//! Redis can move while the old server still answers: its host name gets another address, or the Sentinels name another
//! master. A worker that stayed would process jobs that others process on the new server. So the connector looks up the
//! location every few seconds ([`Connector::look`]). When it changes, all connections of the old *generation* become
//! unusable.

use super::{
    connection::{Connection, Made, QueueError, SharedConnection},
    error_remedies::{self, ConnectionFault},
    reach::{Reach, is_full},
    sentinel::Sentinels,
};
use crate::{
    config::{RedisConfig, RedisUrl, parse_redis_url},
    net::Names,
};
use parking_lot::{Mutex, MutexGuard};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult};
use secrecy::ExposeSecret;
use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How often the Sentinels are asked for the master.
const ASK_SENTINELS: Duration = Duration::from_secs(2);

/// Maximum number of connections that links of one kind share, for any number of partitions.
pub const SHARED: usize = 4;

/// A connection that closes within this time may never have been accepted.
const YOUNG: Duration = Duration::from_secs(2);

/// How long Redis may take to report why it accepts no connection.
const SAYS_WHY: Duration = Duration::from_millis(300);

/// Makes connections. Clones are cheap.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ServerKind,
    reach: Reach,
    starved: Notify,
    place: Location,
    shared: Mutex<HashMap<(&'static str, usize), Arc<SharedConnection>>>,
}

#[allow(clippy::large_enum_variant, reason = "a handful in a process")]
enum ServerKind {
    Single(ConnectionInfo),
    Sentinel(Sentinels),
    Cluster(Vec<ConnectionInfo>),
}

/// The known location of Redis.
#[derive(Default)]
struct Location {
    generation: AtomicU64,
    /// Addresses, or the master's host and port. Empty before the first connection.
    known: Mutex<BTreeSet<String>>,
    watched: AtomicBool,
}

impl Location {
    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock()
    }

    /// Records the current location of Redis. Returns `true` if it has nothing in common with the previous one, which
    /// means that Redis has moved.
    fn note(&self, now: BTreeSet<String>) -> bool {
        let mut known = self.known();
        if now.is_empty() {
            return false;
        }
        let moved = !known.is_empty() && known.is_disjoint(&now);
        *known = now;
        if moved {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        moved
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs contain passwords, so only the kind is shown.
        let kind = match self.inner.kind {
            ServerKind::Single(_) => "single",
            ServerKind::Sentinel(_) => "sentinel",
            ServerKind::Cluster(_) => "cluster",
        };
        f.debug_struct("Connector").field("kind", &kind).finish_non_exhaustive()
    }
}

impl Connector {
    /// Creates a connector for `redis.url`. It connects to nothing yet.
    pub fn new(config: &RedisConfig) -> Result<Self, QueueError> {
        Self::with_names(config, Names::shared())
    }

    /// Like [`Connector::new`], with another resolver instead of the process's.
    pub fn with_names(config: &RedisConfig, names: Names) -> Result<Self, QueueError> {
        let bad = |error: RedisError| QueueError::Url(error.category().to_owned());
        let server = |url: &str| url.into_connection_info().map_err(bad);
        let urls: Vec<&str> = config.url.iter().map(ExposeSecret::expose_secret).collect();
        let kind = match urls.as_slice() {
            [] => return Err(QueueError::Url("is empty".to_owned())),
            [url] => match parse_redis_url(url).map_err(QueueError::Url)? {
                RedisUrl::Sentinel(url) => ServerKind::Sentinel(Sentinels::new(url, config.sentinel.clone())),
                RedisUrl::Server(url) => ServerKind::Single(server(url.expose_secret())?),
            },
            many => ServerKind::Cluster(many.iter().map(|url| server(url)).collect::<Result<_, _>>()?),
        };
        let reach = Reach::new(config, names)?;
        let inner = Inner { kind, reach, starved: Notify::new(), place: Location::default(), shared: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The connection that the links of that kind and number share.
    pub(super) fn shared_connection(&self, kind: &'static str, number: usize) -> Arc<SharedConnection> {
        let mut shared = self.inner.shared.lock();
        Arc::clone(shared.entry((kind, number % SHARED)).or_default())
    }

    /// Whether all keys are on one server, so that one command may use keys of several partitions.
    pub fn is_one_server(&self) -> bool {
        !matches!(self.inner.kind, ServerKind::Cluster(_))
    }

    /// Waits until a connection fails because this process has too many open files. Components with spare open files
    /// should then close them.
    pub async fn starved(&self) {
        self.inner.starved.notified().await;
    }

    fn is_secure(&self) -> bool {
        match &self.inner.kind {
            ServerKind::Single(info) => is_tls(info),
            ServerKind::Sentinel(sentinels) => !sentinels.is_plain(),
            ServerKind::Cluster(nodes) => nodes.iter().any(is_tls),
        }
    }

    /// Returns the generation, which grows each time Redis moves.
    pub(super) fn generation(&self) -> u64 {
        self.inner.place.generation.load(Ordering::Acquire)
    }

    pub(super) async fn connect(&self, patient: bool) -> RedisResult<Made> {
        let before = self.generation();
        match self.open(patient).await {
            Ok((connection, place)) => {
                // If a move was noticed meanwhile, this connection may be to the old location, so it is not used.
                let moved = self.inner.place.note(place);
                self.watch();
                Ok(Made::new(connection, if moved { self.generation() } else { before }))
            }
            Err(error) => {
                if no_file_can_be_opened() {
                    self.inner.starved.notify_one();
                }
                if error.is_timeout() && self.is_secure() {
                    return Err(ConnectionFault::NO_HANDSHAKE.error());
                }
                Err(self.cause_of(error, Instant::now()).await)
            }
        }
    }

    async fn open(&self, patient: bool) -> RedisResult<(Connection, BTreeSet<String>)> {
        let reach = &self.inner.reach;
        match &self.inner.kind {
            ServerKind::Single(info) => {
                let (connection, place) = reach.connect(info.clone(), patient).await?;
                Ok((Connection::Single(connection), place))
            }
            ServerKind::Sentinel(sentinels) => {
                // In a box, because every future that may connect would otherwise be this large.
                let (connection, place) = Box::pin(sentinels.connect(reach, patient)).await?;
                Ok((Connection::Single(connection), BTreeSet::from([place])))
            }
            ServerKind::Cluster(nodes) => {
                Ok((Connection::Cluster(reach.cluster(nodes, patient).await?), BTreeSet::new()))
            }
        }
    }

    /// Starts looking for the location of Redis at regular intervals, for as long as the connector exists. Only the
    /// first call starts it.
    fn watch(&self) {
        let every = match &self.inner.kind {
            ServerKind::Sentinel(_) => ASK_SENTINELS,
            ServerKind::Single(info) if host_name(info.addr()).is_some() => self.inner.reach.names().fresh(),
            ServerKind::Single(_) | ServerKind::Cluster(_) => return,
        };
        if self.inner.place.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner: Weak<Inner> = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                sleep(every).await;
                let Some(inner) = inner.upgrade() else { return };
                Self { inner }.look().await;
            }
        });
    }

    /// Looks up the current location of Redis. A failed look-up changes nothing.
    async fn look(&self) {
        let inner = &self.inner;
        let now = match &inner.kind {
            ServerKind::Sentinel(sentinels) => match Box::pin(sentinels.master(&inner.reach)).await {
                Ok(master) => BTreeSet::from([master.place()]),
                Err(_) => return,
            },
            ServerKind::Single(info) => match host_name(info.addr()) {
                Some(host) => match timeout(inner.reach.connect_timeout(), inner.reach.names().addresses(host)).await {
                    Ok(Ok(addresses)) => addresses.iter().map(ToString::to_string).collect(),
                    _ => return,
                },
                None => return,
            },
            ServerKind::Cluster(_) => return,
        };
        if inner.place.note(now) {
            tracing::warn!(
                "Redis has moved to another address (according to its host name or the Sentinels): connecting to it"
            );
        }
    }

    /// Returns the error, or its cause if Redis closed a new connection. Redis reports that cause only to a client that
    /// sends no command.
    pub(super) async fn cause_of(&self, error: RedisError, made_at: Instant) -> RedisError {
        if error_remedies::is_full(&error) {
            return ConnectionFault::FULL.error();
        }
        let closed = error.is_connection_dropped() && !error.is_connection_refusal() && !error.is_timeout();
        if !closed || made_at.elapsed() > YOUNG {
            return error;
        }
        // With TLS, the server does not report it.
        let places: Vec<SocketAddr> = match &self.inner.kind {
            ServerKind::Single(info) => match info.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let addresses = timeout(SAYS_WHY, self.inner.reach.names().addresses(host)).await;
                    let Ok(Ok(addresses)) = addresses else { return error };
                    addresses.into_iter().map(|address| SocketAddr::new(address, *port)).collect()
                }
                _ => return error,
            },
            ServerKind::Sentinel(sentinels) if sentinels.is_plain() => {
                let named = timeout(SAYS_WHY, Box::pin(sentinels.master(&self.inner.reach))).await;
                let Ok(Ok(master)) = named else { return error };
                master.place().parse().into_iter().collect()
            }
            ServerKind::Sentinel(_) | ServerKind::Cluster(_) => return error,
        };
        for place in places.into_iter().take(2) {
            if timeout(SAYS_WHY, is_full(place)).await.unwrap_or(false) {
                return ConnectionFault::FULL.error();
            }
        }
        error
    }
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

/// Returns the host if its name must be resolved.
fn host_name(address: &ConnectionAddr) -> Option<&str> {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host.parse::<IpAddr>().is_err().then_some(host.as_str())
        }
        _ => None,
    }
}

/// Tests directly whether a file can be opened, because the client's error does not show it.
fn no_file_can_be_opened() -> bool {
    // EMFILE: too many files in this process. ENFILE: too many in the system.
    const TOO_MANY: [Option<i32>; 2] = [Some(24), Some(23)];
    std::fs::File::open("/dev/null").is_err_and(|error| TOO_MANY.contains(&error.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_place_that_has_nothing_in_common_with_the_last_is_another() {
        let known = Location::default();
        for (now, moved) in [
            ("", false),
            ("10.0.0.1", false),
            ("10.0.0.1 10.0.0.2", false),
            ("10.0.0.2", false),
            ("", false),
            ("10.0.0.3", true),
            ("10.0.0.3", false),
        ] {
            assert_eq!(known.note(place(now)), moved, "{now}");
        }
        assert_eq!(known.generation.load(Ordering::Acquire), 1);
    }
}
