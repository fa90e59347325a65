//! Host names to addresses, for every connection of the process.
//!
//! The system's own resolver is asked (`getaddrinfo`), not one of our own: it knows `/etc/hosts`, `nsswitch.conf`, search
//! domains and what a cluster or a VPN adds to them, and it costs no dependency. What it lacks is added here. A lookup
//! cannot be cut short, and takes five seconds and more where the first nameserver is dead. So a lookup outlives its caller,
//! its answer is kept a while, and an old answer serves while a new lookup is slow or fails.

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

/// The addresses of a name, or why there are none.
pub type Looked = Result<Vec<IpAddr>, io::Error>;

/// A lookup under way.
pub type Lookup = Pin<Box<dyn Future<Output = Looked> + Send>>;

/// How names are looked up: the system's resolver, or a test's.
pub type LookUp = dyn Fn(String) -> Lookup + Send + Sync;

/// Names kept at once. A process talks to a handful of hosts; a cluster has a few hundred nodes.
const MAX_NAMES: usize = 1024;
/// Addresses kept of one name.
const MAX_ADDRESSES: usize = 16;

/// How long answers serve.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// An answer younger than this is used without a lookup.
    pub fresh: Duration,
    /// With an older answer at hand, a new lookup is waited for this long.
    pub patience: Duration,
    /// An answer older than this is never used.
    pub stale: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(10),
            patience: Duration::from_millis(200),
            stale: Duration::from_secs(24 * 3600),
        }
    }
}

/// A resolver that remembers. Cheap to clone: clones share what is known.
#[derive(Clone)]
pub struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    look_up: Box<LookUp>,
    pace: Pace,
    known: Mutex<HashMap<String, Entry>>,
}

/// What is known of one name.
#[derive(Default)]
struct Entry {
    answer: Option<(Instant, Vec<IpAddr>)>,
    /// The end of the lookup under way.
    running: Option<watch::Receiver<Option<Told>>>,
    used: Option<Instant>,
}

/// The end of a lookup, for all who wait for it.
type Told = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("pace", &self.inner.pace).finish_non_exhaustive()
    }
}

impl Names {
    /// The process's own, over the system's resolver.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Names> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(Pace::default(), by_system)).clone()
    }

    /// Over another resolver.
    pub fn new(pace: Pace, look_up: impl Fn(String) -> Lookup + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Inner { look_up: Box::new(look_up), pace, known: Mutex::default() }) }
    }

    /// How long an answer serves without being looked up again.
    pub fn fresh(&self) -> Duration {
        self.inner.pace.fresh
    }

    /// The addresses of `host`. An address stands for itself.
    ///
    /// Waits as long as the resolver takes where nothing is known yet: the caller bounds its wait. A lookup goes on when its
    /// caller has given up, so that the next caller finds its answer.
    ///
    /// # Errors
    /// The resolver's, where no older answer is at hand.
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

    /// Begins a lookup, which ends whoever waits for it.
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

/// Forgets the name that was used least lately where there are too many. One that is being looked up is kept: its lookup
/// holds a thread, and must not be begun twice. False where none can be forgotten.
fn make_room(known: &mut HashMap<String, Entry>, host: &str) -> bool {
    if known.len() < MAX_NAMES || known.contains_key(host) {
        return true;
    }
    let oldest = known.iter().filter(|(_, entry)| entry.running.is_none()).min_by_key(|(_, entry)| entry.used);
    let Some(name) = oldest.map(|(name, _)| name.clone()) else { return false };
    known.remove(&name).is_some()
}

/// The system's resolver, on a thread of its own: one that hangs holds up neither the runtime nor its end.
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
        // Nobody waits any more where the process ends.
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
