//! Chooses the version of HTTP, and recognises requests that an HTTP/2 server did not process.
//!
//! HTTP/1.1 is used, and HTTP/2 only with a server that speaks nothing else. Reason: a call whose answer is lost may
//! have taken effect, and `StartOtp` and `VerifyOtp` must not be repeated then. Over HTTP/1.1 a connection carries one
//! call at a time, so a connection that breaks or falls silent leaves one call in doubt. A server that wants to close a
//! connection says so in an answer, and no call is lost. Over HTTP/2 all calls share a connection, and all of them are
//! in doubt together. `docs/adr/0008-http-1-1.md` has the measurements.
//!
//! The TLS handshake shows that a server offers HTTP/2 alone, before anything is sent. This client then speaks HTTP/2,
//! with pings that detect a silent connection within seconds. It trusts what RFC 9113 (§6.8, §8.7) lets a server report
//! about requests that it did not process.

use crate::net::find_below;
use reqwest::ClientBuilder;
use std::{error::Error, time::Duration};

/// Maximum number of header fields in an answer.
const MAX_HEADERS: usize = 1000;
/// Maximum size of an answer's header fields over HTTP/2. Over HTTP/1.1 it is 400 KiB.
const MAX_HEADER_BYTES: u32 = 256 * 1024;
/// HTTP/2 only: a ping is sent on a connection that has been silent for this long.
const PING_AFTER: Duration = Duration::from_secs(2);
/// HTTP/2 only: a connection is closed if a ping is not answered within this time.
const PONG_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum HttpVersion {
    /// HTTP/1.1
    #[default]
    One,
    /// HTTP/2
    Two,
}

impl HttpVersion {
    /// Restricts a client to this version.
    pub(super) fn configure(self, builder: ClientBuilder) -> ClientBuilder {
        match self {
            Self::One => builder.http1_only().http1_max_headers(MAX_HEADERS),
            Self::Two => with_user_timeout(builder)
                .http2_prior_knowledge()
                .http2_max_header_list_size(MAX_HEADER_BYTES)
                .http2_keep_alive_interval(PING_AFTER)
                .http2_keep_alive_timeout(PONG_WITHIN)
                .http2_keep_alive_while_idle(true),
        }
    }

    /// The version that the server wants, if that is why an exchange in this version failed.
    pub(super) fn wanted_instead(self, error: &(dyn Error + 'static)) -> Option<Self> {
        // The TLS stack of the server does not know the protocol that was offered.
        let no_protocol = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
        let refused = find_below::<rustls::Error>(error).is_some_and(|error| *error == no_protocol);
        match self {
            Self::One => refused.then_some(Self::Two),
            Self::Two => (refused || reason(error) == Some(h2::Reason::HTTP_1_1_REQUIRED)).then_some(Self::One),
        }
    }
}

/// Breaks a connection whose data is not acknowledged for this long. Only Linux and related systems support it.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn with_user_timeout(builder: ClientBuilder) -> ClientBuilder {
    builder.tcp_user_timeout(PING_AFTER + PONG_WITHIN)
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn with_user_timeout(builder: ClientBuilder) -> ClientBuilder {
    builder
}

/// Whether the server reported that it did not process the request: it refused the stream, or it closed the connection
/// and named a last stream below this one. For streams that it may have processed, the `h2` crate reports another error
/// once the connection has ended. `HTTP_1_1_REQUIRED` means that the request must be made over HTTP/1.1.
pub(super) fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    find_below::<h2::Error>(error).is_some_and(|error| {
        let refused = matches!(error.reason(), Some(h2::Reason::REFUSED_STREAM | h2::Reason::HTTP_1_1_REQUIRED));
        error.is_remote() && (error.is_go_away() || error.is_reset() && refused)
    })
}

fn reason(error: &(dyn Error + 'static)) -> Option<h2::Reason> {
    find_below::<h2::Error>(error).filter(|error| error.is_remote()).and_then(h2::Error::reason)
}
