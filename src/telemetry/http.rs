//! `GET /healthz`, `/readyz` and `/metrics`, over plain HTTP/1.1.
//!
//! A probe is answered even if other callers misbehave. Each connection carries one request, which must arrive within
//! five seconds, and lasts at most fifteen. When all places are taken, a caller that has not sent a whole request is
//! disconnected to make room.

use super::{
    Metrics, Readiness,
    callers::{Callers, ConnectionSlot},
};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Maximum number of connections at once, if there are enough file descriptors.
const MAX_CONNECTIONS: usize = 256;
/// Time within which a caller must send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum duration of a connection, for reading the request and writing the answer.
const CONNECTION_LIFE: Duration = Duration::from_secs(15);
/// Maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Time for sending the last answers when the endpoint closes.
const CLOSING: Duration = Duration::from_secs(1);
/// Pause when no file descriptor is free.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(20);

#[derive(Clone)]
struct EndpointState {
    readiness: Readiness,
    metrics: Metrics,
}

/// The endpoint, listening. Connections wait until [`HttpEndpoint::serve`] is called.
#[derive(Debug)]
pub struct HttpEndpoint {
    listener: TcpListener,
    address: SocketAddr,
    max_connections: usize,
}

impl HttpEndpoint {
    /// Listens on `listen`. Port 0 means any free port. Fails if the address cannot be bound.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, max_connections: MAX_CONNECTIONS })
    }

    /// Limits the connections served at once, if `connections` is below the default of 256.
    #[must_use]
    pub fn at_most(self, connections: usize) -> Self {
        Self { max_connections: self.max_connections.min(connections.max(1)), ..self }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`, then closes within a second.
    pub async fn serve(self, readiness: Readiness, metrics: Metrics, stop: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .with_state(EndpointState { readiness, metrics });
        self.serve_router(router, stop).await;
        Ok(())
    }

    async fn serve_router(self, router: Router, stop: CancellationToken) {
        let callers = Callers::new(self.max_connections);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(answer_one(stream, callers.enter(), router.clone()));
                    }
                    Err(error) if is_about_one_caller(&error) => {}
                    Err(_) => {
                        callers.dismiss_one();
                        sleep(DESCRIPTOR_WAIT).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        callers.dismiss_silent();
        // Answers that are not read by then are cut off.
        let _ = timeout(CLOSING, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// Whether an error of `accept` concerns one caller only. All others concern the process: it has no file descriptors or
/// no memory left.
fn is_about_one_caller(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Serves one connection: one request and one answer.
async fn answer_one(stream: TcpStream, place: ConnectionSlot, router: Router) {
    let place = Arc::new(place);
    let asked = Arc::clone(&place);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asked.asked();
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is the caller's: it disconnected, or sent something that is no request.
        _ = timeout(CONNECTION_LIFE, connection) => {}
        () = place.dismissed() => {}
    }
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"alive": true}))
}

async fn readyz(State(shared): State<EndpointState>) -> Response {
    let (status, mut told) = match shared.readiness.reason() {
        None => (StatusCode::OK, json!({"ready": true})),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "reason": reason})),
    };
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        readiness.set_not_ready("Redis cannot be reached");
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
            Self { address, server: tokio::spawn(endpoint.serve_router(router, stop.clone())), stop }
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
            timeout(CLOSING * 3, self.server).await.unwrap().unwrap();
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
        timeout(REQUEST_TIMEOUT / 2, idle.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close"), "{text}");
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let serving = Serving::start().await;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
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
        let ended = timeout(REQUEST_TIMEOUT * 3, half.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open");
        serving.stop().await;
    }
}
