//! The running simulator.

use super::{
    CallRecord, Effect, EffectKind, Fault, NewSandboxUser, Route, SandboxConfig, Stats, api,
    connection::{Connection, Connections, CuttableListener},
    control, oauth,
    reply::Problem,
    state::{Outage, Shared},
};
use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

/// A running simulator. Dropping it stops it: its port closes and its connections are reset.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<Shared>,
    connections: Connections,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Starts a simulator. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn start(config: SandboxConfig) -> io::Result<Self> {
        let tcp = TcpListener::bind(config.listen).await?;
        let addr = tcp.local_addr()?;
        let shared = Arc::new(Shared::new(config));
        let connections = Connections::default();
        let router = Router::new()
            .route("/v1/users/exists", get(api::exists))
            .route("/v1/merchants/{merchant}/users", post(api::create))
            .route("/v1/merchants/{merchant}/users/passwordless/start", post(api::start))
            .route("/v1/merchants/{merchant}/users/passwordless/verify", post(api::verify))
            .route("/v1/merchants/{merchant}/users/{reference}/consents", post(api::consent))
            .route("/oauth/token", post(oauth::token))
            .merge(control::routes())
            .fallback(not_found)
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Connection>();
        let listener = CuttableListener::new(tcp, connections.clone());
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { addr, shared, connections, server })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Value for `xco.base_url`.
    pub fn base_url(&self) -> Url {
        self.url("/")
    }

    /// Value for `xco.token_url`.
    pub fn token_url(&self) -> Url {
        self.url("/oauth/token")
    }

    #[allow(clippy::expect_used, reason = "an address and a constant path always make a URL")]
    fn url(&self, path: &str) -> Url {
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Url::parse(&format!("http://{addr}{path}")).expect("a URL")
    }

    /// Stops the simulator. When this returns, the port is closed and every connection is being reset.
    pub async fn shutdown(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// Adds a fault to the ordered faults.
    pub fn order(&self, fault: Fault) {
        self.shared.lock().faults.order(fault);
    }

    /// Removes all ordered faults.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Answers every call of the API, but not of the token endpoint, with `status`; for `lasting`, or until
    /// [`Sandbox::end_outage`].
    pub fn outage(&self, status: u16, lasting: Option<Duration>) {
        let until = lasting.map(|lasting| control::later(u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX)));
        self.shared.lock().outage = Some(Outage { until, status });
    }

    /// Ends an outage.
    pub fn end_outage(&self) {
        self.shared.lock().outage = None;
    }

    /// From now on at most this many API calls are worked on at once, and further calls wait their turn; `None`: no maximum.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.shared.set_capacity(capacity);
    }

    /// API calls that have arrived and have no answer yet.
    pub fn calls_under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Relaxed)
    }

    /// Refuses every token issued so far.
    pub fn revoke_tokens(&self) {
        self.shared.lock().tokens.clear();
    }

    /// Adds a customer who has an account.
    pub fn seed_user(&self, user: &NewSandboxUser) {
        self.shared.lock().model.seed_user(user);
    }

    /// Resets every open connection, as a restarting proxy does.
    pub fn cut_connections(&self) {
        self.connections.cut_all();
    }

    /// The code that is valid now for an email address or phone number.
    pub fn otp(&self, contact: &str) -> Option<String> {
        self.shared.lock().model.code(contact, &self.shared.config).map(str::to_owned)
    }

    /// The recorded calls in order of arrival, including those of the token endpoint.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.shared.lock().log.calls().cloned().collect()
    }

    /// The recorded calls from number `seq` on, in order of arrival. For readers that follow the record before its
    /// oldest calls are dropped.
    pub fn calls_from(&self, seq: u64) -> Vec<CallRecord> {
        self.shared.lock().log.calls_from(seq).cloned().collect()
    }

    /// The recorded calls of one route.
    pub fn calls_of(&self, route: Route) -> Vec<CallRecord> {
        self.shared.lock().log.calls().filter(|call| call.route == route).cloned().collect()
    }

    /// The recorded effects, in order.
    pub fn effects(&self) -> Vec<Effect> {
        self.shared.lock().log.effects().cloned().collect()
    }

    /// Number of recorded effects of a kind on one contact or customer reference.
    pub fn effects_on(&self, kind: EffectKind, key: &str) -> usize {
        self.shared.lock().log.effects().filter(|effect| effect.kind == kind && effect.key == key).count()
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Returns to the state at the start: no users, faults or records.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Waits until `n` calls of the API have arrived in total, answered or not. The token endpoint does not count.
    pub async fn wait_for_calls(&self, n: u64) {
        self.shared.wait_until(|shared| shared.lock().calls >= n).await;
    }

    /// Waits until the counts satisfy `is`, which is evaluated after every change.
    pub async fn wait_until(&self, mut is: impl FnMut(&Stats) -> bool) {
        self.shared
            .wait_until(|shared| {
                // Outside the lock, because `is` may use the simulator.
                let stats = shared.lock().stats();
                is(&stats)
            })
            .await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
        self.connections.cut_all();
    }
}

async fn not_found() -> Response {
    Problem::new(404, "route-not-found", "No such route").into_reply().into_response()
}
