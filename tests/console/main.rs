//! The operators' console over real HTTP, with a real Redis: who gets in, what they see, what they may do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod actions;
mod browser;
mod live;
mod login;
mod pages;
#[path = "../integration/support/mod.rs"]
mod support;

use reqwest::{
    Client, RequestBuilder, Response,
    header::{HeaderMap, SET_COOKIE},
    redirect::Policy,
};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use support::{Rig, Setup};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, GatewayRole, GatewayToken},
    gateway::Gateway,
    telemetry::Metrics,
};

/// A gateway with three tokens: `reader` looks, `operator` acts, `shop` only enqueues.
pub(crate) struct Console {
    pub(crate) rig: Rig,
    address: SocketAddr,
    pub(crate) client: Client,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

fn token(secret: &str, roles: &[GatewayRole]) -> GatewayToken {
    GatewayToken {
        name: format!("{secret}s"),
        sha256: Sha256::digest(secret.as_bytes()).into(),
        roles: roles.to_vec(),
        merchants: Vec::new(),
    }
}

impl Console {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let rig = Setup::default().without_worker().await;
        let mut config = rig.config.clone();
        config.redis = rig.redis_as("operator");
        config.gateway.listen = Some("127.0.0.1:0".parse().unwrap());
        "staging".clone_into(&mut config.gateway.environment);
        config.gateway.tokens = vec![
            token("reader", &[GatewayRole::Read]),
            token("operator", &[GatewayRole::Read, GatewayRole::Operate]),
            token("shop", &[GatewayRole::Enqueue]),
        ];
        change(&mut config);
        let gateway = Gateway::bind(config, Metrics::default()).await.unwrap();
        let (address, stop) = (gateway.address(), CancellationToken::new());
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        // Another test of this process may have installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { rig, address, client, stop, serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// A form as a browser sends it from a page of the console.
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        self.client.post(self.url(path)).header("sec-fetch-site", "same-origin").form(fields)
    }

    /// Logs in, and returns the cookie.
    pub(crate) async fn log_in(&self, secret: &str) -> String {
        let answer = self.post("/console/login", &[("token", secret), ("person", "ada")]).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{secret}");
        cookie(answer.headers()).unwrap()
    }

    /// A page as somebody with this cookie sees it.
    pub(crate) async fn page(&self, path: &str, cookie: &str) -> (u16, String) {
        read(self.get(path).header("cookie", cookie).send().await.unwrap()).await
    }

    /// The secret of the forms of a session.
    pub(crate) async fn csrf(&self, cookie: &str) -> String {
        let (_, page) = self.page("/console/jobs", cookie).await;
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// The cookie that an answer sets, as the browser sends it back.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<String> {
    let set = headers.get(SET_COOKIE)?.to_str().unwrap();
    Some(set.split(';').next().unwrap().to_owned())
}

pub(crate) async fn read(answer: Response) -> (u16, String) {
    (answer.status().as_u16(), answer.text().await.unwrap())
}
