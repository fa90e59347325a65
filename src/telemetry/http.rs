//! `GET /healthz`, `/readyz` and `/metrics`, over plain HTTP.
//!
//! Bounded: at most 64 connections at once, each of at most 60 seconds; clients connect again.

use super::{Metrics, Readiness};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use serde_json::json;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

const MAX_CONNECTIONS: usize = 64;
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

/// The endpoint, listening: connections wait until [`HttpEndpoint::serve`].
#[derive(Debug)]
pub struct HttpEndpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpEndpoint {
    /// Listens; port 0 is any free one.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then closes within a second.
    pub async fn serve(self, readiness: Readiness, metrics: Metrics, stop: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .with_state(Shared { readiness, metrics });
        let listener = Bounded { listener: self.listener, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::select! {
            ended = server.into_future() => ended,
            () = async { stop.cancelled().await; tokio::time::sleep(CLOSING).await } => Ok(()),
        }
    }
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"alive": true}))
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.reason() {
        None => Json(json!({"ready": true})).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))).into_response()
        }
    }
}

async fn scrape(State(shared): State<Shared>) -> Response {
    match shared.metrics.prometheus_text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Takes a connection only when there is a slot for it; further ones wait in the kernel's queue, which is bounded too.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there always is a permit in the end.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, _slot: slot, life: Box::pin(tokio::time::sleep(CONNECTION_LIFE)) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    _slot: Option<OwnedSemaphorePermit>,
    life: Pin<Box<Sleep>>,
}

impl Connection {
    fn check_life(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.life.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_life(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_life(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn answers_over_http_until_it_is_stopped() {
        // Another test may have been first.
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

    #[tokio::test]
    async fn too_many_connections_wait_and_are_served_in_the_end() {
        let stop = CancellationToken::new();
        let endpoint = HttpEndpoint::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = endpoint.address();
        let server = tokio::spawn(endpoint.serve(Readiness::default(), Metrics::default(), stop.clone()));
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = tokio::spawn(reqwest::Client::new().get(format!("http://{address}/healthz")).send());
        drop(silent);
        assert_eq!(request.await.unwrap().unwrap().status().as_u16(), 200);
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
