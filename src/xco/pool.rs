//! The HTTP client and its connections: how they are made and when they are closed.

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

/// Idle time after which a connection is closed. Shorter than that of common load balancers (60 s and more): a
/// connection that they close during a request leaves that request in doubt.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Minimum time between two reads of the certificates after failed verifications.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// Minimum time between two log messages about a refused certificate.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Installs ring as the TLS provider of the process, unless one is installed. Idempotent. TLS clients cannot be built
/// without a provider.
pub fn install_tls_provider() {
    // An error means that a provider is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The HTTP client of one server and its pool of connections.
///
/// The pool is replaced when a call is not answered in time. A connection can die unnoticed: a firewall forgets it, or
/// a load balancer fails over. A call on it is never answered, and a pool full of such connections fails call after
/// call long after XCO has recovered. Running calls keep their connections, and later calls make new ones. If XCO is
/// only slow, this happens at most once in `xco.timeout`.
///
/// The pool also has a maximum age, because XCO's name may have moved to another address while the old one still
/// answers. A client that refuses XCO's certificate is rebuilt, because it keeps the certificates that it read when it
/// was made.
#[derive(Debug, Clone)]
pub(super) struct Http {
    shared: Arc<PoolState>,
}

#[derive(Debug)]
struct PoolState {
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
    /// Time of the last attempt to build another client.
    tried: Instant,
    /// Client in reserve for when another cannot be built: building reads files (the system's certificates), and the
    /// process may be at its limit of open files.
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
        let shared = PoolState {
            config: config.clone(),
            names,
            pool: RwLock::new(pool),
            renewing: AtomicBool::new(false),
            logged: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The client for one exchange, and the version of HTTP that it speaks.
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

    /// Whether an exchange in `version` failed because the server wants another version of HTTP. If so, later exchanges
    /// use that version.
    pub(super) fn wants_another_version(&self, version: HttpVersion, error: &reqwest::Error) -> bool {
        let Some(wanted) = version.wanted_instead(error) else { return false };
        let PoolState { config, names, .. } = &*self.shared;
        let mut pool = self.shared.pool.write();
        // If several exchanges fail for this reason, the first one makes the change.
        if pool.version == version {
            let Ok(made) = client(config, names, wanted) else { return false };
            tracing::info!(version = ?wanted, "the server speaks another version of HTTP");
            (pool.client, pool.version, pool.since) = (made, wanted, Instant::now());
            pool.spare = client(config, names, wanted).ok();
        }
        true
    }

    /// Reports that a call which began at `began` was not answered in time. Replaces the pool that the call used.
    pub(super) fn unanswered(&self, began: Instant) {
        let mut pool = self.shared.pool.write();
        // A call on an older pool says nothing about the connections of this one.
        if began >= pool.since {
            pool.forget(&self.shared);
        }
    }

    /// Frees file descriptors: idle connections are closed when the running calls have ended.
    pub(super) fn give_up_idle(&self) {
        self.shared.pool.write().forget(&self.shared);
    }

    /// Reports a failed call to `what`. Logs a certificate fault and reads the certificates again.
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

    /// Builds a new client in the background, because that reads files. Calls use the old one until it is ready.
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
                // The version has changed since: this client is useless.
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
    fn forget(&mut self, shared: &PoolState) {
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

/// Builds an HTTP client for the API or the token endpoint.
///
/// It follows no redirects, because one would carry the token and personal data elsewhere. It ignores the proxy
/// variables of the environment: customers' data goes to `xco.base_url` and nowhere else. It repeats a request only
/// when a pooled connection returned it unsent.
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
        // `coding` decompresses, and requests what it can decompress.
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

/// Maximum time for connecting. A call begins with a token, which may take three eighths of `xco.timeout` per attempt.
/// A connection that takes one third leaves time for the answer. The addresses of a name share this time, so that the
/// last one is tried, too.
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

/// Adapts the process's resolver to reqwest.
struct Resolver(Names);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        async move {
            let addresses = names.addresses(name.as_str()).await?;
            // The URL provides the port.
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
