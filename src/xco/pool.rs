//! The HTTP client and its connections: how they are made, and when they are given up.

use super::{XcoSetupError, coding, http_version::HttpVersion, setup::SetupFault};
use crate::{
    config::XcoConfig,
    net::{Names, TlsFiles, TlsFilesFault, tls_fault},
};
use futures::FutureExt;
use parking_lot::{Mutex, RwLock};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Shorter than the idle time of common load balancers (60 s and more), so that we, not they, close idle connections: one
/// that they close while a request is on its way leaves that request in doubt.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Certificates are read again after a failed verification, but not more often than this.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// How often a refused certificate is logged.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Makes ring the TLS provider of the process, unless one is installed. May be called any number of times; without it
/// rustls has no provider and TLS clients cannot be built.
pub fn install_tls_provider() {
    // An error says that there is a provider already: what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The HTTP client of one server and its pool of connections, which can be forgotten.
///
/// A connection can die without a word: a firewall forgets it, a load balancer fails over. A call on it is never answered,
/// and a pool full of such connections fails one call after the other long after XCO is back. So whoever was not answered
/// in time has the pool forgotten: calls under way keep their connections, those to come make new ones. XCO being slow, that
/// happens once in `xco.timeout` at most.
///
/// A connection can also live too long: XCO's name has another address by now, and the old one still answers. And a client
/// knows the certificates that it read when it was made. So the pool has a greatest age, and a client that refuses XCO's
/// certificate is made anew.
#[derive(Debug, Clone)]
pub(super) struct Http {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: XcoConfig,
    names: Names,
    pool: RwLock<Pool>,
    renewing: AtomicBool,
    logged: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Pool {
    client: reqwest::Client,
    version: HttpVersion,
    since: Instant,
    /// When another was last tried to be made.
    tried: Instant,
    /// For when another cannot be made: that takes files (the system's certificates), and there may be none left.
    spare: Option<reqwest::Client>,
}

impl Http {
    pub(super) fn new(config: &XcoConfig, names: Names) -> Result<Self, XcoSetupError> {
        let now = Instant::now();
        let version = HttpVersion::default();
        let pool = Pool {
            client: client(config, &names, version)?,
            version,
            since: now,
            tried: now,
            spare: client(config, &names, version).ok(),
        };
        let shared = Shared {
            config: config.clone(),
            names,
            pool: RwLock::new(pool),
            renewing: AtomicBool::new(false),
            logged: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// For one exchange: a client, and the version of HTTP that it speaks.
    pub(super) fn client(&self) -> (reqwest::Client, HttpVersion) {
        let (client, version, since) = {
            let pool = self.shared.pool.read();
            (pool.client.clone(), pool.version, pool.since)
        };
        if since.elapsed() >= self.shared.config.connection_max_age {
            self.renew();
        }
        (client, version)
    }

    /// An exchange in `version` failed: whether the server wants another version of HTTP. The exchanges to come are made in
    /// that one.
    pub(super) fn wants_another_version(&self, version: HttpVersion, error: &reqwest::Error) -> bool {
        let Some(wanted) = version.wanted_instead(error) else { return false };
        let Shared { config, names, .. } = &*self.shared;
        let mut pool = self.shared.pool.write();
        // Of several exchanges that fail for this reason the first makes the change.
        if pool.version == version {
            let Ok(made) = client(config, names, wanted) else { return false };
            tracing::info!(version = ?wanted, "the server speaks another version of HTTP");
            (pool.client, pool.version, pool.since) = (made, wanted, Instant::now());
            pool.spare = client(config, names, wanted).ok();
        }
        true
    }

    /// A call that began at `began` was not answered in time.
    pub(super) fn unanswered(&self, began: Instant) {
        let mut pool = self.shared.pool.write();
        // One that began on connections forgotten since says nothing of those of now.
        if began >= pool.since {
            pool.forget(&self.shared);
        }
    }

    /// File descriptors are needed elsewhere. Idle connections are closed as soon as the calls under way have ended.
    pub(super) fn give_up_idle(&self) {
        self.shared.pool.write().forget(&self.shared);
    }

    /// A call to `what` failed. A certificate at fault is logged, and certificates are read again.
    pub(super) fn failed(&self, error: &reqwest::Error, what: &'static str) {
        let Some(fault) = tls_fault(error) else { return };
        {
            let mut logged = self.shared.logged.lock();
            if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                *logged = Some(Instant::now());
                tracing::error!(what, remedy = fault.remedy, "no secure connection: {}", fault.what);
            }
        }
        if fault.is_about_certificates {
            self.renew();
        }
    }

    /// Makes another client in the background: it reads files. Calls go on with the one at hand until it is there.
    fn renew(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let tried = self.shared.pool.read().tried;
        if tried.elapsed() < READ_AGAIN || self.shared.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        runtime.spawn_blocking(move || {
            let version = shared.pool.read().version;
            let made = client(&shared.config, &shared.names, version);
            let mut pool = shared.pool.write();
            pool.tried = Instant::now();
            match made {
                // Made for a version that is spoken no more, it is of no use.
                Ok(_) if pool.version != version => {}
                Ok(client) => (pool.client, pool.since) = (client, pool.tried),
                Err(error) => tracing::warn!(%error, "the connections to XCO are not renewed"),
            }
            drop(pool);
            shared.renewing.store(false, Ordering::Release);
        });
    }
}

impl Pool {
    fn forget(&mut self, shared: &Shared) {
        let made = client(&shared.config, &shared.names, self.version).ok();
        if made.is_some() && self.spare.is_none() {
            self.spare = client(&shared.config, &shared.names, self.version).ok();
        }
        if let Some(client) = made.or_else(|| self.spare.take()) {
            self.client = client;
            self.since = Instant::now();
        }
    }
}

/// An HTTP client, for the API or the token endpoint.
///
/// It follows no redirects (one would carry the token and personal data elsewhere) and ignores the proxy variables of the
/// environment: where customers' data goes is `xco.base_url` and nothing else. It never repeats a request by itself, but
/// for one that a pooled connection gave back unsent.
fn client(config: &XcoConfig, names: &Names, version: HttpVersion) -> Result<reqwest::Client, XcoSetupError> {
    install_tls_provider();
    let builder = version
        .configure(reqwest::Client::builder())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(config.pool_idle)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .connect_timeout(connect_timeout(config))
        .dns_resolver(Arc::new(Resolver(names.clone())))
        // `coding` unpacks, and asks for what it can unpack.
        .no_gzip()
        .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED))]))
        .referer(false)
        .user_agent(concat!("xco-worker/", env!("CARGO_PKG_VERSION")));
    let builder = with_files(builder, config).map_err(|fault| XcoSetupError(vec![fault]))?;
    builder.build().map_err(|_| {
        XcoSetupError(vec![SetupFault {
            key: "xco",
            problem: "has no HTTP client",
            remedy: "TLS could not be set up: check that the system's certificates are installed, or set xco.tls.ca_file",
        }])
    })
}

/// How long connecting may take. A call begins with a token, which may take three eighths of `xco.timeout` at a time: a
/// connection that takes a third leaves time for the answer. Where a name has several addresses they share this time, so
/// that the last is tried, too.
fn connect_timeout(config: &XcoConfig) -> Duration {
    config.connect_timeout.min(config.timeout / 3)
}

fn with_files(builder: reqwest::ClientBuilder, config: &XcoConfig) -> Result<reqwest::ClientBuilder, SetupFault> {
    let files = TlsFiles::read(&config.tls).map_err(|fault| of_files(&fault))?;
    let unusable = |key, problem| SetupFault { key, problem, remedy: "look at what the file holds" };
    let builder = match &files.authorities {
        None => builder,
        Some(authorities) => builder.tls_certs_only(
            reqwest::Certificate::from_pem_bundle(authorities)
                .map_err(|_| unusable("xco.tls.ca_file", "holds certificates that cannot be used"))?,
        ),
    };
    match files.client {
        None => Ok(builder),
        Some((certificate, key)) => {
            let both = [certificate, key].join(&b"\n"[..]);
            let identity = reqwest::Identity::from_pem(&both)
                .map_err(|_| unusable("xco.tls.cert_file", "and xco.tls.key_file cannot be used together"))?;
            Ok(builder.identity(identity))
        }
    }
}

fn of_files(fault: &TlsFilesFault) -> SetupFault {
    let key = match fault.key {
        "ca_file" => "xco.tls.ca_file",
        "cert_file" => "xco.tls.cert_file",
        _ => "xco.tls.key_file",
    };
    SetupFault { key, problem: fault.problem, remedy: fault.remedy }
}

/// The process's resolver, as reqwest asks it.
struct Resolver(Names);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        async move {
            let addresses = names.addresses(name.as_str()).await?;
            // The port is the URL's.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_fits_into_what_a_call_has() {
        let of = |timeout: u64, connect: u64| {
            let config = XcoConfig {
                timeout: Duration::from_millis(timeout),
                connect_timeout: Duration::from_millis(connect),
                ..XcoConfig::default()
            };
            connect_timeout(&config).as_millis()
        };
        assert_eq!(of(10_000, 3_000), 3_000);
        assert_eq!(of(3_000, 3_000), 1_000);
        assert_eq!(of(3_000, 500), 500);
    }
}
