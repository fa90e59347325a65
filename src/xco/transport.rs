//! HTTP: the connection pool, bounded bodies, and what a broken exchange says about the request's effect.

use super::{
    CallFailure, FailureKind, XcoSetupError,
    coding::{self, BodyFault},
    setup::SetupFault,
};
use crate::config::XcoConfig;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Shorter than the idle time of common load balancers (60 s and more), so that we, not they, close idle connections: one
/// that they close while a request is on its way leaves that request in doubt.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes ring the TLS provider of the process, unless one is installed. May be called any number of times; without it
/// rustls has no provider and TLS clients cannot be built.
pub fn install_tls_provider() {
    // An error says that there is a provider already: what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The HTTP client and its pool of connections, which can be forgotten.
///
/// A connection can die without a word: a firewall forgets it, a load balancer fails over. A call on it is never answered,
/// and a pool full of such connections fails one call after the other long after XCO is back. So whoever was not answered
/// in time has the pool forgotten: calls under way keep their connections, those to come make new ones. XCO being slow, that
/// happens once in `xco.timeout` at most.
#[derive(Debug, Clone)]
pub(super) struct Http {
    config: XcoConfig,
    pool: Arc<RwLock<Pool>>,
}

#[derive(Debug)]
struct Pool {
    client: reqwest::Client,
    since: Instant,
    /// For when another cannot be made: that takes files (the system's certificates), and there may be none left.
    spare: Option<reqwest::Client>,
}

impl Http {
    pub(super) fn new(config: &XcoConfig) -> Result<Self, XcoSetupError> {
        let pool = Pool { client: client(config)?, since: Instant::now(), spare: client(config).ok() };
        Ok(Self { config: config.clone(), pool: Arc::new(RwLock::new(pool)) })
    }

    /// For one call.
    pub(super) fn client(&self) -> reqwest::Client {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// A call that began at `began` was not answered in time.
    pub(super) fn unanswered(&self, began: Instant) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        // One that began on connections forgotten since says nothing of those of now.
        if began >= pool.since {
            pool.forget(&self.config);
        }
    }

    /// File descriptors are needed elsewhere. Idle connections are closed as soon as the calls under way have ended.
    pub(super) fn give_up_idle(&self) {
        self.pool.write().unwrap_or_else(PoisonError::into_inner).forget(&self.config);
    }
}

impl Pool {
    fn forget(&mut self, config: &XcoConfig) {
        let made = client(config).ok();
        if made.is_some() && self.spare.is_none() {
            self.spare = client(config).ok();
        }
        if let Some(client) = made.or_else(|| self.spare.take()) {
            self.client = client;
            self.since = Instant::now();
        }
    }
}

/// The one HTTP client, for the API and the token endpoint.
///
/// It follows no redirects (one would carry the token and personal data elsewhere) and ignores the proxy variables of the
/// environment: where customers' data goes is `xco.base_url` and nothing else. It never repeats a request by itself, but
/// for one that a pooled connection gave back unsent.
fn client(config: &XcoConfig) -> Result<reqwest::Client, XcoSetupError> {
    install_tls_provider();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(config.pool_idle)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .connect_timeout(config.connect_timeout)
        // `coding` unpacks, and asks for what it can unpack.
        .no_gzip()
        .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED))]))
        .referer(false)
        .user_agent(concat!("xco-worker/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|_| {
            XcoSetupError(vec![SetupFault {
                key: "xco",
                problem: "has no HTTP client",
                remedy: "TLS could not be set up: check that the system's certificates are installed",
            }])
        })
}

/// Whether a request may have left this process.
#[derive(Debug, Clone, Default)]
pub(super) struct SentMark(Arc<AtomicBool>);

impl SentMark {
    /// True once a connection asked for the body. Before that no server has a complete request.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request body that notes when a connection takes it: what tells "certainly never sent" from "perhaps sent".
///
/// Connecting, TLS and waiting for a connection all come before the first poll. A server that has seen no more than the
/// head has no complete request, since the head announces a body.
struct MarkedBody {
    bytes: Option<Bytes>,
    sent: SentMark,
}

/// A body of `bytes`, which must not be empty, and its mark.
pub(super) fn marked_body(bytes: Bytes) -> (reqwest::Body, SentMark) {
    let sent = SentMark::default();
    (reqwest::Body::wrap(MarkedBody { bytes: Some(bytes), sent: sent.clone() }), sent)
}

impl Body for MarkedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.sent.0.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// What a failed exchange means. `sent`: whether the request may have been sent; when in doubt, true.
pub(super) fn failure(error: &reqwest::Error, sent: bool) -> CallFailure {
    let (kind, message) = if error.is_builder() {
        (FailureKind::Internal, "the request could not be built")
    } else if error.is_dns() {
        (FailureKind::Network, "XCO's host name could not be resolved")
    } else if error.is_connect() && error.is_timeout() {
        (FailureKind::Network, "no connection to XCO in time")
    } else if error.is_connect() {
        (FailureKind::Network, "no connection to XCO")
    } else if !sent {
        (FailureKind::Network, "the connection to XCO broke before the request was sent")
    } else if error.is_timeout() {
        (FailureKind::Timeout, "XCO did not answer in time")
    } else {
        (FailureKind::Broken, "the connection to XCO broke after the request was, perhaps, sent")
    };
    CallFailure::unanswered(kind, message)
}

/// The end of time before an answer came.
pub(super) fn timed_out(sent: bool) -> CallFailure {
    if sent {
        CallFailure::unanswered(FailureKind::Timeout, "XCO did not answer in time")
    } else {
        CallFailure::unanswered(FailureKind::Network, "no connection to XCO in time; the request was not sent")
    }
}

/// Reads a body and unpacks it, up to `max_bytes` of either; what is longer is not read to its end.
pub(super) async fn read_body(response: &mut reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, BodyFault> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > max_bytes {
        return Err(BodyFault::TooLong);
    }
    let mut body = Vec::with_capacity(announced);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > max_bytes => return Err(BodyFault::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return coding::plain(response.headers(), body, max_bytes),
            Err(_) => return Err(BodyFault::Broken),
        }
    }
}
