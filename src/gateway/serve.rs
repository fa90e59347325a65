//! The life of a gateway: listen, serve, stop.

use super::{layers, routes, state::GatewayState};
use crate::{
    config::Config,
    contract::format_ms,
    net::{HttpServer, ServerLimits},
    operations::{Error, history},
    telemetry::{Metrics, Readiness, probe_routes},
};
use axum::{Router, middleware};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tower_http::compression::{
    CompressionLayer,
    predicate::{DefaultPredicate, NotForContentType, Predicate},
};

/// Bounds of the listener for clients.
const LIMITS: ServerLimits = ServerLimits {
    max_connections: 16_384,
    max_per_address: Some(256),
    evicts_busy: false,
    head_timeout: Duration::from_secs(5),
    max_head_bytes: 16 * 1024,
    write_timeout: Duration::from_secs(30),
    connection_life: None,
    closing: Duration::from_secs(25),
};

/// Bounds of the listener for probes.
const PROBE_LIMITS: ServerLimits = ServerLimits {
    max_connections: 256,
    max_per_address: None,
    evicts_busy: true,
    head_timeout: Duration::from_secs(5),
    max_head_bytes: 16 * 1024,
    write_timeout: Duration::from_secs(30),
    connection_life: Some(Duration::from_secs(15)),
    closing: Duration::from_secs(1),
};

/// How often the gateway asks Redis whether it answers.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How often the gateway records the history of the queue.
const HISTORY_EVERY: Duration = Duration::from_secs(10);

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// `gateway.listen` is `off`.
    #[error("gateway.listen is off: give an address, such as 127.0.0.1:8080")]
    NoAddress,
    /// Other machines could reach a gateway that allows everything.
    #[error("gateway.listen {0} can be reached from other machines, and no gateway.tokens are set")]
    Open(SocketAddr),
    /// An address cannot be used.
    #[error("{key} {address}")]
    Listen {
        /// The key of the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// `redis.url` makes no client.
    #[error(transparent)]
    Backend(#[from] Error),
}

impl GatewayError {
    /// The remedy, if one is known.
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoAddress => None,
            Self::Open(_) => Some("set gateway.tokens, or listen on 127.0.0.1"),
            Self::Listen { .. } => Some("another program may have it: give this one another address"),
            Self::Backend(error) => error.remedy(),
        }
    }
}

/// A gateway that listens. Connections wait until [`Gateway::serve`] is called.
pub struct Gateway {
    server: HttpServer,
    probes: Option<HttpServer>,
    state: Arc<GatewayState>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Listens on `gateway.listen`, and on `gateway.probe_listen` if it is set. Needs no Redis yet.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn bind(config: Config, metrics: Metrics) -> Result<Self, GatewayError> {
        let listen = config.gateway.listen.ok_or(GatewayError::NoAddress)?;
        if config.gateway.tokens.is_empty() && !listen.ip().is_loopback() {
            return Err(GatewayError::Open(listen));
        }
        if config.gateway.ticket_keys.is_empty() && !config.gateway.tokens.is_empty() {
            tracing::warn!(
                "gateway.ticket_keys is not set: another gateway, and this one after a restart, do not know the tickets of this one"
            );
        }
        let server = bind(listen, LIMITS, "gateway.listen").await?;
        let probes = match config.gateway.probe_listen {
            Some(address) => Some(bind(address, PROBE_LIMITS, "gateway.probe_listen").await?),
            None => None,
        };
        let state = GatewayState::new(config, metrics, CancellationToken::new())?;
        Ok(Self { server, probes, state })
    }

    /// The address of `gateway.listen`.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The address of `gateway.probe_listen`.
    pub fn probe_address(&self) -> Option<SocketAddr> {
        self.probes.as_ref().map(HttpServer::address)
    }

    /// Limits the connections served at once, if `connections` is below the default of 16,384.
    #[must_use]
    pub fn at_most(self, connections: usize) -> Self {
        Self { server: self.server.at_most(connections), ..self }
    }

    /// Answers requests until `stop`. Then new requests are refused, streams end, and requests under way have 25 seconds.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { server, probes, state } = self;
        let readiness = Readiness::default();
        let watch = tokio::spawn(watch_redis(Arc::clone(&state), readiness.clone()));
        let history = tokio::spawn(record_history(Arc::clone(&state)));
        let draining = state.draining.clone();
        // Probes are answered until the last request has ended.
        let probing = probes.map(|probes| {
            tokio::spawn(probes.serve(probe_routes(readiness.clone(), state.metrics.clone()), CancellationToken::new()))
        });
        let drain = tokio::spawn({
            let (draining, readiness) = (draining.clone(), readiness.clone());
            async move {
                stop.cancelled().await;
                readiness.set_not_ready("stopping");
                draining.cancel();
            }
        });
        let runs = state.runs.clone();
        server.serve(router(state, readiness), draining).await;
        // Another gateway can continue them at once.
        runs.shut_down().await;
        watch.abort();
        history.abort();
        drain.abort();
        if let Some(probing) = probing {
            probing.abort();
        }
    }
}

async fn bind(address: SocketAddr, limits: ServerLimits, key: &'static str) -> Result<HttpServer, GatewayError> {
    HttpServer::bind(address, limits).await.map_err(|error| GatewayError::Listen { key, address, error })
}

/// All routes, with what happens to every request around them.
fn router(state: Arc<GatewayState>, readiness: Readiness) -> Router {
    // An event stream is not compressed: each event must leave at once.
    let compressed = DefaultPredicate::new()
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::const_new("application/x-ndjson"));
    routes::all(&state, readiness)
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), layers::wrap))
        .with_state(state)
}

/// Records the history of the queue, unless another process has done so, so that a backlog without any worker is seen.
async fn record_history(state: Arc<GatewayState>) {
    loop {
        tokio::time::sleep(HISTORY_EVERY).await;
        if let Err(error) = history::record_step(&mut state.shared.backend_for_scans()).await {
            tracing::debug!(%error, "the history cannot be recorded");
        }
    }
}

/// Asks Redis for an answer once a second, so that `/readyz` tells whether jobs can be enqueued.
async fn watch_redis(state: Arc<GatewayState>, readiness: Readiness) {
    let mut lost_at: Option<String> = None;
    while !state.draining.is_cancelled() {
        let answered = state.shared.ping().await;
        // While the gateway stops, it is not ready whatever Redis does.
        if !state.draining.is_cancelled() {
            match answered {
                Ok(()) => {
                    lost_at = None;
                    readiness.set_ready();
                }
                Err(_) => readiness.set_without_redis(lost_at.get_or_insert_with(|| format_ms(GatewayState::now_ms()))),
            }
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}
