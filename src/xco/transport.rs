//! HTTP: bounded bodies, and whether a broken exchange may have had an effect.

use super::{
    CallFailure, FailureKind,
    coding::{self, BodyFault},
    http_version,
};
use crate::net::tls_fault;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// Whether a request may have left this process.
#[derive(Debug, Clone, Default)]
pub(super) struct SentMark(Arc<AtomicBool>);

impl SentMark {
    /// True once a connection has asked for the body. Before that no server has a complete request.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request body that records when a connection takes it. This distinguishes "certainly never sent" from "perhaps
/// sent".
///
/// Connecting, TLS and the wait for a connection all come before the first poll. A server that has seen only the head
/// has no complete request, because the head announces a body.
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

/// Classifies a failed exchange. `sent`: whether the request may have been sent; true if that is not known.
pub(super) fn failure(error: &reqwest::Error, sent: bool) -> CallFailure {
    if let Some(fault) = tls_fault(error) {
        // A server that requires a client certificate may say so after the request was sent.
        let kind = if error.is_connect() || !sent { FailureKind::Network } else { FailureKind::Broken };
        let message = format!("no secure connection to XCO (xco.base_url): {fault}");
        return CallFailure { remedy: Some(fault.remedy), ..CallFailure::unanswered(kind, message) };
    }
    let (kind, message) = if error.is_builder() {
        (FailureKind::Internal, "the request could not be built")
    } else if error.is_dns() {
        (FailureKind::Network, "XCO's host name could not be resolved")
    } else if error.is_connect() && error.is_timeout() {
        (FailureKind::Network, "no connection to XCO in time")
    } else if error.is_connect() {
        (FailureKind::Network, "no connection to XCO")
    } else if http_version::is_unprocessed(error) {
        (FailureKind::Network, "XCO's server said that it did not process the request")
    } else if !sent {
        (FailureKind::Network, "the connection to XCO broke before the request was sent")
    } else if error.is_timeout() {
        (FailureKind::Timeout, "XCO did not answer in time")
    } else {
        (FailureKind::Broken, "the connection to XCO broke after the request was, perhaps, sent")
    };
    CallFailure::unanswered(kind, message)
}

/// The failure of a call that reached its deadline before an answer.
pub(super) fn timed_out(sent: bool) -> CallFailure {
    if sent {
        CallFailure::unanswered(FailureKind::Timeout, "XCO did not answer in time")
    } else {
        CallFailure::unanswered(FailureKind::Network, "no connection to XCO in time; the request was not sent")
    }
}

/// Reads and decompresses a body. Stops at `max_bytes`, compressed or decompressed.
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
