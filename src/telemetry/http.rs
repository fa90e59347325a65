//! `GET /healthz`, `/readyz` and `/metrics`, over plain HTTP/1.1.
//!
//! A probe is answered even if other callers misbehave. Each connection carries one request, which must arrive within
//! five seconds, and lasts at most fifteen. When all places are taken, a caller that has not sent a whole request is
//! disconnected to make room.

use super::{Metrics, Readiness};
use crate::net::{HttpServer, ServerLimits};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::{io, net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

/// Bounds of the endpoint. `max_connections` holds if there are enough file descriptors.
const LIMITS: ServerLimits = ServerLimits {
    max_connections: 256,
    max_per_address: None,
    evicts_busy: true,
    head_timeout: Duration::from_secs(5),
    max_head_bytes: 16 * 1024,
    write_timeout: Duration::from_secs(30),
    connection_life: Some(Duration::from_secs(15)),
    closing: Duration::from_secs(1),
};

#[derive(Clone)]
struct EndpointState {
    readiness: Readiness,
    metrics: Metrics,
}

/// The endpoint, listening. Connections wait until [`HttpEndpoint::serve`] is called.
#[derive(Debug)]
pub struct HttpEndpoint(HttpServer);

impl HttpEndpoint {
    /// Listens on `listen`. Port 0 means any free port. Fails if the address cannot be bound.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        HttpServer::bind(listen, LIMITS).await.map(Self)
    }

    /// Limits the connections served at once, if `connections` is below the default of 256.
    #[must_use]
    pub fn at_most(self, connections: usize) -> Self {
        Self(self.0.at_most(connections))
    }

    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers requests until `stop`, then closes within a second.
    pub async fn serve(self, readiness: Readiness, metrics: Metrics, stop: CancellationToken) -> io::Result<()> {
        self.0.serve(probe_routes(readiness, metrics), stop).await;
        Ok(())
    }
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn probe_routes(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(EndpointState { readiness, metrics })
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"alive": true}))
}

async fn readyz(State(shared): State<EndpointState>) -> Response {
    let (status, mut told) = match shared.readiness.reason() {
        None => (StatusCode::OK, json!({"ready": true})),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "reason": reason})),
    };
    if let Some(redis) = shared.readiness.redis() {
        told["redis"] = redis.into();
    }
    let breakers = shared.readiness.breakers();
    if !breakers.is_empty() {
        told["breakers"] = json!(breakers);
    }
    (status, Json(told)).into_response()
}

async fn scrape(State(shared): State<EndpointState>) -> Response {
    match shared.metrics.prometheus_text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    #[tokio::test]
    async fn answers_over_http_until_it_is_stopped() {
        // Another test may have installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        let readiness = Readiness::default();
        let metrics = Metrics::new().unwrap();
        let stop = CancellationToken::new();
        let endpoint = HttpEndpoint::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", endpoint.address());
        let server = tokio::spawn(endpoint.serve(readiness.clone(), metrics.clone(), stop.clone()));

        let get = async |path: &str| {
            let answer = client.get(format!("{base}{path}")).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(get("/healthz").await.0, 200);
        assert_eq!(get("/readyz").await, (503, r#"{"ready":false,"reason":"starting"}"#.to_owned()));
        readiness.set_ready();
        assert_eq!(get("/readyz").await, (200, r#"{"ready":true}"#.to_owned()));
        readiness.set_breakers([("CreateUser", "open")].into());
        let told = r#"{"breakers":{"CreateUser":"open"},"ready":true}"#;
        assert_eq!(get("/readyz").await, (200, told.to_owned()));
        readiness.set_breakers([].into());
        readiness.set_without_redis("2026-01-31T03:12:28.000Z");
        let told = r#"{"ready":false,"reason":"Redis cannot be reached","redis":"unreachable since 2026-01-31T03:12:28.000Z"}"#;
        assert_eq!(get("/readyz").await, (503, told.to_owned()));
        readiness.set_ready();
        assert_eq!(get("/readyz").await, (200, r#"{"ready":true}"#.to_owned()));
        readiness.set_not_ready("stopping");
        assert_eq!(get("/readyz").await.0, 503);
        assert_eq!(get("/healthz").await.0, 200);
        metrics.reclaimed(3);
        let (status, text) = get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("xco_worker_reclaimed_total 3"), "{text}");
        assert_eq!(get("/elsewhere").await.0, 404);

        stop.cancel();
        server.await.unwrap().unwrap();
        assert!(client.get(format!("{base}/healthz")).send().await.is_err());
    }

    struct Serving {
        address: SocketAddr,
        stop: CancellationToken,
        server: tokio::task::JoinHandle<()>,
    }

    impl Serving {
        async fn start() -> Self {
            // More than the system buffers for a caller that does not read.
            let long = Bytes::from(vec![b'x'; 8 << 20]);
            let router =
                Router::new().route("/healthz", get(healthz)).route("/metrics", get(async move || long.clone()));
            let stop = CancellationToken::new();
            let endpoint = HttpEndpoint::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let address = endpoint.address();
            Self { address, server: tokio::spawn(endpoint.0.serve(router, stop.clone())), stop }
        }

        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // The connection may be closed already, in favour of others.
            let _ = stream.write_all(text.as_bytes()).await;
            stream
        }

        /// The answer to a probe within the second that it allows a worker.
        async fn probe(&self) -> String {
            let probe = async {
                let mut stream = self.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                text
            };
            timeout(Duration::from_secs(1), probe).await.unwrap()
        }

        async fn probes_are_answered(&self) {
            for _ in 0..10 {
                let text = self.probe().await;
                assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            }
        }

        async fn stop(self) {
            self.stop.cancel();
            timeout(LIMITS.closing * 3, self.server).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn too_many_silent_connections_keep_no_probe_waiting() {
        let serving = Serving::start().await;
        let mut silent = Vec::new();
        for n in 0..500 {
            silent.push(serving.send("").await);
            if n % 50 == 0 {
                serving.probes_are_answered().await;
            }
        }
        serving.probes_are_answered().await;
        serving.stop().await;
    }

    #[tokio::test]
    async fn half_sent_requests_keep_no_probe_waiting() {
        let serving = Serving::start().await;
        let mut halves = Vec::new();
        for n in 0..500 {
            halves.push(serving.send("GET /healthz HTTP/1.1\r\nhost: ").await);
            if n % 50 == 0 {
                serving.probes_are_answered().await;
            }
        }
        serving.probes_are_answered().await;
        // The newest caller still has its place and its time.
        let mut last = halves.pop().unwrap();
        last.write_all(b"x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        last.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        serving.stop().await;
    }

    #[tokio::test]
    async fn slow_readers_of_metrics_keep_no_probe_waiting() {
        let serving = Serving::start().await;
        let mut readers = Vec::new();
        for n in 0..300 {
            readers.push(serving.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await);
            if n % 50 == 0 {
                serving.probes_are_answered().await;
            }
        }
        serving.probes_are_answered().await;
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_connection_carries_one_request() {
        let serving = Serving::start().await;
        let mut idle = serving.send("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n").await;
        let mut text = String::new();
        timeout(LIMITS.head_timeout / 2, idle.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close"), "{text}");
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let serving = Serving::start().await;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(LIMITS.max_head_bytes));
        let mut stream = serving.send(&request).await;
        let mut start = [0; 12];
        timeout(Duration::from_secs(1), stream.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 431");
        serving.probes_are_answered().await;
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_request_that_is_never_completed_ends_with_its_time() {
        let serving = Serving::start().await;
        let mut half = serving.send("GET /healthz HTTP/1.1\r\n").await;
        let mut rest = Vec::new();
        let ended = timeout(LIMITS.head_timeout * 3, half.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open");
        serving.stop().await;
    }
}
