//! A server that answers byte for byte as ordered, for answers that the simulator cannot give.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use secrecy::SecretString;
use std::{
    collections::VecDeque,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};
use xco_worker::{
    config::XcoConfig,
    contract::Job,
    xco::{CallContext, CallReport, XcoApi, XcoClient},
};

/// An ordered answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self { status, headers: Vec::new(), body: body.as_ref().to_vec() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Compressed with gzip, under this name.
    pub(crate) fn packed_as(mut self, name: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&self.body).unwrap();
        self.body = encoder.finish().unwrap();
        self.header("content-encoding", name)
    }

    pub(crate) fn marked(mut self) -> Self {
        self.body.splice(..0, *b"\xef\xbb\xbf");
        self
    }

    pub(crate) fn token(members: &str) -> Self {
        Self::new(200, format!(r#"{{"access_token":"t"{members}}}"#))
    }
}

struct Script {
    api: VecDeque<Reply>,
    token: Reply,
    api_calls: usize,
    token_calls: usize,
}

/// The server, and a client for it.
pub(crate) struct Stub {
    pub(crate) client: XcoClient,
    script: Arc<Mutex<Script>>,
}

impl Stub {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut XcoConfig)) -> Self {
        let script = Arc::new(Mutex::new(Script {
            api: VecDeque::new(),
            token: Reply::token(r#","token_type":"Bearer","expires_in":300"#),
            api_calls: 0,
            token_calls: 0,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = XcoConfig {
            base_url: Some(base.parse().unwrap()),
            token_url: Some(format!("{base}/token").parse().unwrap()),
            client_id: Some("id".to_owned()),
            client_secret: Some(SecretString::from("secret")),
            timeout: Duration::from_secs(5),
            ..XcoConfig::default()
        };
        change(&mut config);
        Self { client: XcoClient::new(&config).unwrap(), script }
    }

    /// Orders the answers to the next calls of the API. After them, each check finds a customer.
    pub(crate) fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().api.extend(replies);
    }

    /// Sets the token endpoint's answer.
    pub(crate) fn token(&self, reply: Reply) {
        self.script.lock().unwrap().token = reply;
    }

    /// Number of requests so far: to the API, and to the token endpoint.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let script = self.script.lock().unwrap();
        (script.api_calls, script.token_calls)
    }

    pub(crate) async fn call(&self, job: &Job) -> CallReport {
        self.client.call(super::support::call_of(job), CallContext::default()).await
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    // Read to its end: an answer to half a request would break the connection.
    let _: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let reply = {
        let mut script = script.lock().unwrap();
        if path == "/token" {
            script.token_calls += 1;
            script.token.clone()
        } else {
            script.api_calls += 1;
            script.api.pop_front().unwrap_or_else(|| Reply::new(200, r#"{"exists":true,"token_count":2}"#))
        }
    };
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    response
}
