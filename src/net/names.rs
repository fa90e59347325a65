//! Resolves host names, for every connection of the process.
//!
//! It uses the system's resolver (`getaddrinfo`): that one knows `/etc/hosts`, `nsswitch.conf`, search domains, and the
//! additions of a cluster or a VPN, and it needs no dependency. This module adds two things that it lacks. A system
//! lookup cannot be cancelled, and takes five seconds or more if the first nameserver is down. So a lookup continues
//! after its caller gives up, its answer is cached, and an old answer is used while a new lookup is slow or fails.

use futures::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// The addresses of a name, or the reason why there are none.
pub type Looked = Result<Vec<IpAddr>, io::Error>;

/// A lookup in progress.
pub type Lookup = Pin<Box<dyn Future<Output = Looked> + Send>>;

/// A function that looks names up: the system's resolver, or one for tests.
pub type LookUp = dyn Fn(String) -> Lookup + Send + Sync;

/// Maximum number of names in the cache. A process talks to a few hosts; a cluster has a few hundred nodes.
const MAX_NAMES: usize = 1024;
/// Maximum number of addresses kept for a name.
const MAX_ADDRESSES: usize = 16;

/// How long cached answers are used.
#[derive(Debug, Clone, Copy)]
pub struct LookupPace {
    /// A younger answer is used without a lookup.
    pub fresh: Duration,
    /// How long to wait for a new lookup before an older answer is used.
    pub patience: Duration,
    /// An older answer is never used.
    pub stale: Duration,
}

impl Default for LookupPace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(10),
            patience: Duration::from_millis(200),
            stale: Duration::from_secs(24 * 3600),
        }
    }
}

/// A resolver with a cache. Clones are cheap and share the cache.
#[derive(Clone)]
pub struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    look_up: Box<LookUp>,
    pace: LookupPace,
    known: Mutex<HashMap<String, Entry>>,
}

/// The cache entry of one name.
#[derive(Default)]
struct Entry {
    answer: Option<(Instant, Vec<IpAddr>)>,
    /// Receives the end of the lookup that is running, if there is one.
    running: Option<watch::Receiver<Option<Told>>>,
    used: Option<Instant>,
}

/// The result of a lookup, which can be cloned for every waiting caller.
type Told = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("pace", &self.inner.pace).finish_non_exhaustive()
    }
}

impl Names {
    /// Returns the process's shared resolver, which uses the system's.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Names> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(LookupPace::default(), by_system)).clone()
    }

    /// Creates a resolver that uses `look_up`.
    pub fn new(pace: LookupPace, look_up: impl Fn(String) -> Lookup + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Inner { look_up: Box::new(look_up), pace, known: Mutex::default() }) }
    }

    /// How long an answer is used without a new lookup.
    pub fn fresh(&self) -> Duration {
        self.inner.pace.fresh
    }

    /// Returns the addresses of `host`. A literal address is returned unchanged.
    ///
    /// Without a cached answer, this waits until the resolver answers, so the caller should set a timeout. The lookup
    /// continues when its caller gives up, so that the next caller finds the answer.
    ///
    /// # Errors
    /// Returns the resolver's error if there is no older answer to use.
    pub async fn addresses(&self, host: &str) -> Looked {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        let (old, mut running) = {
            let now = Instant::now();
            let mut known = self.known();
            if !make_room(&mut known, host) {
                return Err(io::Error::other("too many names are being looked up"));
            }
            let entry = known.entry(host.to_owned()).or_default();
            entry.used = Some(now);
            let old = match &entry.answer {
                Some((at, addresses)) if now - *at < self.inner.pace.fresh => return Ok(addresses.clone()),
                Some((at, addresses)) if now - *at < self.inner.pace.stale => Some(addresses.clone()),
                _ => None,
            };
            let running = entry.running.get_or_insert_with(|| self.begin(host)).clone();
            (old, running)
        };
        let ended = async {
            match running.wait_for(Option::is_some).await {
                Ok(told) => told.clone().unwrap_or_else(|| Err(gone())),
                Err(_) => Err(gone()),
            }
        };
        let told = match old {
            None => ended.await,
            Some(old) => match timeout(self.inner.pace.patience, ended).await {
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(_)) | Err(_) => Ok(old),
            },
        };
        told.map_err(|(kind, text)| io::Error::new(kind, text))
    }

    /// Starts a lookup that runs to its end even if its callers stop waiting.
    fn begin(&self, host: &str) -> watch::Receiver<Option<Told>> {
        let (told, running) = watch::channel(None);
        let lookup = (self.inner.look_up)(host.to_owned());
        let (names, host) = (self.clone(), host.to_owned());
        tokio::spawn(async move {
            let looked = std::panic::AssertUnwindSafe(lookup)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the resolver failed")));
            let end = match looked {
                Ok(mut addresses) if !addresses.is_empty() => {
                    addresses.truncate(MAX_ADDRESSES);
                    Ok(addresses)
                }
                Ok(_) => Err((io::ErrorKind::NotFound, "the name has no address".to_owned())),
                Err(error) => Err((error.kind(), error.to_string())),
            };
            {
                let mut known = names.known();
                if let Some(entry) = known.get_mut(&host) {
                    entry.running = None;
                    if let Ok(addresses) = &end {
                        entry.answer = Some((Instant::now(), addresses.clone()));
                    }
                }
            }
            told.send_replace(Some(end));
        });
        running
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.inner.known.lock()
    }
}

fn gone() -> (io::ErrorKind, String) {
    (io::ErrorKind::Other, "the lookup was given up".to_owned())
}

/// Removes the least recently used name if the cache is full. A name with a running lookup is kept, because the lookup
/// occupies a thread and must not start twice. Returns `false` if nothing can be removed.
fn make_room(known: &mut HashMap<String, Entry>, host: &str) -> bool {
    if known.len() < MAX_NAMES || known.contains_key(host) {
        return true;
    }
    let oldest = known.iter().filter(|(_, entry)| entry.running.is_none()).min_by_key(|(_, entry)| entry.used);
    let Some(name) = oldest.map(|(name, _)| name.clone()) else { return false };
    known.remove(&name).is_some()
}

/// Looks a name up with the system's resolver, on its own thread. A hanging lookup blocks neither the runtime nor its
/// shutdown.
fn by_system(host: String) -> Lookup {
    let (told, answer) = tokio::sync::oneshot::channel();
    let begun = std::thread::Builder::new().name("name lookup".to_owned()).spawn(move || {
        use std::net::ToSocketAddrs;
        let mut addresses = Vec::new();
        let looked = (host.as_str(), 0).to_socket_addrs().map(|found| {
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            addresses
        });
        // The receiver is gone when the process is ending.
        let _ = told.send(looked);
    });
    async move {
        begun?;
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the resolver failed")))
    }
    .boxed()
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
