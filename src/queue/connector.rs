//! Making connections to Redis: to a single server, a Sentinel's master, or a cluster.
//!
//! Redis can be elsewhere from one moment to the next while the old place still answers: its name has another address, or
//! the Sentinels name another master. A worker that stayed would do jobs that others do at the new place. So the place is
//! looked up again every few seconds ([`Connector::look`]), and a move makes every connection of the old *generation* useless.

use super::{
    connection::{Connection, Made, QueueError, SharedConnection},
    reach::{Reach, is_full},
    sentinel::Sentinels,
    trouble::{self, ConnectionFault},
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

/// How often the Sentinels are asked who the master is.
const ASK_SENTINELS: Duration = Duration::from_secs(2);

/// Links of one kind share this many connections at most, however many partitions there are.
pub const SHARED: usize = 4;

/// A connection that ends at this age was, perhaps, never accepted.
const YOUNG: Duration = Duration::from_secs(2);

/// How long Redis may take to say why it accepts no connection.
const SAYS_WHY: Duration = Duration::from_millis(300);

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    reach: Reach,
    starved: Notify,
    place: Place,
    shared: Mutex<HashMap<(&'static str, usize), Arc<SharedConnection>>>,
}

#[allow(clippy::large_enum_variant, reason = "a handful in a process")]
enum Kind {
    Single(ConnectionInfo),
    Sentinel(Sentinels),
    Cluster(Vec<ConnectionInfo>),
}

/// Where Redis is, as far as is known.
#[derive(Default)]
struct Place {
    generation: AtomicU64,
    /// Addresses, or the master's host and port. Empty before the first connection.
    known: Mutex<BTreeSet<String>>,
    watched: AtomicBool,
}

impl Place {
    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock()
    }

    /// Notes where Redis is now. A place that has nothing in common with the last is another: true.
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
        // URLs carry passwords.
        let kind = match self.inner.kind {
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
        Self::with_names(config, Names::shared())
    }

    /// As [`Connector::new`], with another resolver than the process's.
    pub fn with_names(config: &RedisConfig, names: Names) -> Result<Self, QueueError> {
        let bad = |error: RedisError| QueueError::Url(error.category().to_owned());
        let server = |url: &str| url.into_connection_info().map_err(bad);
        let urls: Vec<&str> = config.url.iter().map(ExposeSecret::expose_secret).collect();
        let kind = match urls.as_slice() {
            [] => return Err(QueueError::Url("is empty".to_owned())),
            [url] => match parse_redis_url(url).map_err(QueueError::Url)? {
                RedisUrl::Sentinel(url) => Kind::Sentinel(Sentinels::new(url, config.sentinel.clone())),
                RedisUrl::Server(url) => Kind::Single(server(url.expose_secret())?),
            },
            many => Kind::Cluster(many.iter().map(|url| server(url)).collect::<Result<_, _>>()?),
        };
        let reach = Reach::new(config, names)?;
        let inner = Inner { kind, reach, starved: Notify::new(), place: Place::default(), shared: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The connection that the links of that kind and number share.
    pub(super) fn shared_connection(&self, kind: &'static str, number: usize) -> Arc<SharedConnection> {
        let mut shared = self.inner.shared.lock();
        Arc::clone(shared.entry((kind, number % SHARED)).or_default())
    }

    /// Whether one server holds all keys, so that one command may name keys of several partitions.
    pub fn is_one_server(&self) -> bool {
        !matches!(self.inner.kind, Kind::Cluster(_))
    }

    /// Comes back when a connection could not be made because this process has as many files open as it may: whoever
    /// holds some that it can do without gives them up.
    pub async fn starved(&self) {
        self.inner.starved.notified().await;
    }

    fn is_secure(&self) -> bool {
        match &self.inner.kind {
            Kind::Single(info) => is_tls(info),
            Kind::Sentinel(sentinels) => !sentinels.is_plain(),
            Kind::Cluster(nodes) => nodes.iter().any(is_tls),
        }
    }

    /// Grows when Redis is found to be elsewhere.
    pub(super) fn generation(&self) -> u64 {
        self.inner.place.generation.load(Ordering::Acquire)
    }

    pub(super) async fn connect(&self, patient: bool) -> RedisResult<Made> {
        let before = self.generation();
        match self.open(patient).await {
            Ok((connection, place)) => {
                // One that was made while a move was noticed may be to the old place: it is not used.
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
            Kind::Single(info) => {
                let (connection, place) = reach.connect(info.clone(), patient).await?;
                Ok((Connection::Single(connection), place))
            }
            Kind::Sentinel(sentinels) => {
                // (Boxed: it is large, and every future that may connect would be as large.)
                let (connection, place) = Box::pin(sentinels.connect(reach, patient)).await?;
                Ok((Connection::Single(connection), BTreeSet::from([place])))
            }
            Kind::Cluster(nodes) => Ok((Connection::Cluster(reach.cluster(nodes, patient).await?), BTreeSet::new())),
        }
    }

    /// Looks for Redis again from time to time, as long as anybody has the connector. Begun once.
    fn watch(&self) {
        let every = match &self.inner.kind {
            Kind::Sentinel(_) => ASK_SENTINELS,
            Kind::Single(info) if host_name(info.addr()).is_some() => self.inner.reach.names().fresh(),
            Kind::Single(_) | Kind::Cluster(_) => return,
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

    /// Looks where Redis is now. What cannot be found out changes nothing.
    async fn look(&self) {
        let inner = &self.inner;
        let now = match &inner.kind {
            Kind::Sentinel(sentinels) => match Box::pin(sentinels.master(&inner.reach)).await {
                Ok(master) => BTreeSet::from([master.place()]),
                Err(_) => return,
            },
            Kind::Single(info) => match host_name(info.addr()) {
                Some(host) => match timeout(inner.reach.connect_timeout(), inner.reach.names().addresses(host)).await {
                    Ok(Ok(addresses)) => addresses.iter().map(ToString::to_string).collect(),
                    _ => return,
                },
                None => return,
            },
            Kind::Cluster(_) => return,
        };
        if inner.place.note(now) {
            tracing::warn!(
                "Redis is at another address now (its name, or the Sentinels, say so): connecting to that one"
            );
        }
    }

    /// The error, or what is behind it where Redis closed a young connection: it says why only to those who ask nothing.
    pub(super) async fn cause_of(&self, error: RedisError, made_at: Instant) -> RedisError {
        if trouble::is_full(&error) {
            return ConnectionFault::FULL.error();
        }
        let closed = error.is_connection_dropped() && !error.is_connection_refusal() && !error.is_timeout();
        if !closed || made_at.elapsed() > YOUNG {
            return error;
        }
        // With TLS it says nothing.
        let places: Vec<SocketAddr> = match &self.inner.kind {
            Kind::Single(info) => match info.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let addresses = timeout(SAYS_WHY, self.inner.reach.names().addresses(host)).await;
                    let Ok(Ok(addresses)) = addresses else { return error };
                    addresses.into_iter().map(|address| SocketAddr::new(address, *port)).collect()
                }
                _ => return error,
            },
            Kind::Sentinel(sentinels) if sentinels.is_plain() => {
                let named = timeout(SAYS_WHY, Box::pin(sentinels.master(&self.inner.reach))).await;
                let Ok(Ok(master)) = named else { return error };
                master.place().parse().into_iter().collect()
            }
            Kind::Sentinel(_) | Kind::Cluster(_) => return error,
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

/// The host that a name must be looked up for.
fn host_name(address: &ConnectionAddr) -> Option<&str> {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host.parse::<IpAddr>().is_err().then_some(host.as_str())
        }
        _ => None,
    }
}

/// Whatever the client makes of the error, the system says it of any file.
fn no_file_can_be_opened() -> bool {
    // EMFILE of this process, ENFILE of the system.
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
        let known = Place::default();
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
