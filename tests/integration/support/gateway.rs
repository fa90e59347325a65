//! A gateway beside a [`Rig`], and requests to it as a web tier, an operator or a browser makes them.

use super::{Rig, openapi::assert_documented};
use reqwest::{Method, RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fmt::Write, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, Sources},
    gateway::Gateway,
    telemetry::Metrics,
};

/// The merchant of the token `merchant`. Other tokens may act for every merchant.
pub(crate) const OTHER_MERCHANT: &str = "00000000-5717-4562-b3fc-2c963f66afa6";

/// The tokens, with their roles and merchants. The secret of a token is `secret-of-<name>`.
const TOKENS: &[(&str, &str, &str)] = &[
    ("all", r#""enqueue", "read", "operate""#, ""),
    ("sender", r#""enqueue""#, ""),
    ("reader", r#""read""#, ""),
    ("both", r#""enqueue", "read""#, ""),
    ("ops", r#""operate""#, ""),
    ("merchant", r#""enqueue", "read", "operate""#, OTHER_MERCHANT),
];

/// The gateway's part of a configuration with [`TOKENS`].
pub(crate) fn gateway_toml() -> String {
    let mut toml = String::from(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nprobe_listen = \"127.0.0.1:0\"\nallowed_origins = [\"https://shop.example\"]\ntokens = [\n",
    );
    for (name, roles, merchant) in TOKENS {
        let sha256: String = Sha256::digest(secret_of(name)).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let merchants = if merchant.is_empty() { String::new() } else { format!("\"{merchant}\"") };
        let _ = writeln!(
            toml,
            "  {{ name = \"{name}\", sha256 = \"{sha256}\", roles = [{roles}], merchants = [{merchants}] }},"
        );
    }
    toml + "]\n"
}

fn secret_of(token: &str) -> String {
    format!("secret-of-{token}")
}

/// A gateway on free ports.
#[derive(Debug)]
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) probes: SocketAddr,
    http: reqwest::Client,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// One value for each line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a problem of this kind, and returns the document.
    pub(crate) fn problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["type"], format!("urn:xco-worker:problem:{name}"), "{document}");
        assert_eq!(document["status"], status);
        assert_eq!(document["request_id"], self.header("x-request-id"));
        assert!(!document["title"].as_str().unwrap().is_empty());
        document
    }
}

impl TestGateway {
    /// Starts a gateway for the rig's queue, with [`gateway_toml`].
    pub(crate) async fn start(rig: &Rig) -> Self {
        Self::start_with(rig, &gateway_toml(), |_| ()).await
    }

    /// As [`TestGateway::start`], with this configuration of the gateway, and changes.
    pub(crate) async fn start_with(rig: &Rig, toml: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, toml).unwrap();
        let loaded = xco_worker::config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        let mut config = Config { redis: rig.redis_as("operator"), gateway: loaded.gateway, ..rig.config.clone() };
        change(&mut config);
        let gateway = Gateway::bind(config, Metrics::default()).await.unwrap();
        let (address, probes) = (gateway.address(), gateway.probe_address().unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn(gateway.serve(stop.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { address, probes, http, stop, task }
    }

    /// A request with a token; without one if its name is empty.
    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.address));
        if token.is_empty() { request } else { request.bearer_auth(secret_of(token)) }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::DELETE, path, token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path, token).json(body)).await
    }

    /// Enqueues jobs of a text of this content type.
    pub(crate) async fn post_text(
        &self,
        path: &str,
        token: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.send(self.request(Method::POST, path, token).header("content-type", kind).body(body)).await
    }

    /// Sends a request. Fails if the answer is not as the gateway's description says.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = Answer::of(self.http.execute(request).await.unwrap()).await;
        assert_documented(&method, &path, &answer);
        answer
    }

    /// Opens a stream of events.
    pub(crate) async fn events(&self, request: RequestBuilder) -> Events {
        // The time for whole answers is not for streams.
        let request = request.timeout(Duration::from_secs(600)).header("accept", "text/event-stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{}", response.text().await.unwrap());
        assert!(response.headers()["content-type"].as_bytes().starts_with(b"text/event-stream"));
        Events { response, unread: String::new() }
    }

    /// Follows the completions.
    pub(crate) async fn completions(&self, query: &str, token: &str) -> Events {
        self.events(self.request(Method::GET, &format!("/v1/completions{query}"), token)).await
    }

    /// A connection that speaks for itself.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the gateway closes the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The gateway may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        read_all(&mut stream).await
    }

    /// Orders it to stop, as SIGTERM does.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops it and waits for its end.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(40), self.task).await.expect("the gateway ends").unwrap();
    }
}

/// Reads until the other side closes the connection.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    let reading = async {
        while let Ok(bytes) = stream.read(&mut chunk).await {
            if bytes == 0 {
                break;
            }
            read.extend_from_slice(&chunk[..bytes]);
        }
    };
    timeout(Duration::from_secs(60), reading).await.expect("the connection is closed");
    String::from_utf8_lossy(&read).into_owned()
}

/// A stream of Server-Sent Events.
#[derive(Debug)]
pub(crate) struct Events {
    response: Response,
    unread: String,
}

/// One event. A block without a name is a comment or `retry`.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
    /// Lines that are none of these.
    pub(crate) rest: String,
}

impl Events {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The next block, within a minute. `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (event, rest) = (parse(block), rest.to_owned());
                self.unread = rest;
                return Some(event);
            }
            let chunk = timeout(Duration::from_secs(60), self.response.chunk()).await.expect("an event in a minute");
            match chunk {
                Ok(Some(chunk)) => self.unread.push_str(std::str::from_utf8(&chunk).unwrap()),
                _ => return None,
            }
        }
    }

    /// The next block that is an event.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if !block.name.is_empty() {
                return Some(block);
            }
        }
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut event.name),
            Some(("id", id)) => id.clone_into(&mut event.id),
            Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
            _ => event.rest.push_str(line),
        }
    }
    event
}
