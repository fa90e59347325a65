//! Describes errors of Redis: cause and remedy, without anything that a command contained.

use crate::net::{TlsFilesFault, find_below, tls_fault};
use redis::RedisError;
use std::io;

/// The reason why a connection cannot be made, in cases that the client does not report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({remedy})")]
pub(super) struct ConnectionFault {
    what: &'static str,
    remedy: &'static str,
}

impl ConnectionFault {
    pub(super) const FULL: Self = Self {
        what: "Redis takes no more connections: its maxclients is reached",
        remedy: "raise maxclients in Redis, or find out with CLIENT LIST who holds the connections",
    };
    pub(super) const NO_ADDRESS: Self = Self {
        what: "the host name of Redis cannot be resolved",
        remedy: "check redis.url, and this machine's nameservers (/etc/resolv.conf)",
    };
    pub(super) const SENTINEL_REFUSES: Self = Self {
        what: "the Sentinels want a password",
        remedy: "set redis.sentinel.password (and redis.sentinel.username)",
    };

    pub(super) const NO_HANDSHAKE: Self = Self {
        what: "no answer in time to a TLS handshake",
        remedy: "does that port speak TLS (tls-port)? redis:// is for one that does not; else look at the network",
    };

    /// Converts the fault into the client's error type. It counts as transient, like all connection errors.
    pub(super) fn error(self) -> RedisError {
        let kind = if self == Self::NO_HANDSHAKE { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionRefused };
        io::Error::new(kind, self).into()
    }
}

/// The message that Redis sends before it closes a connection above its limit.
pub(super) const FULL: &str = "max number of clients";

/// Whether the error is a failed handshake or a connection above the limit. A later connection may succeed.
pub(super) fn is_about_connections(error: &RedisError) -> bool {
    is_full(error) || tls_fault(error).is_some()
}

/// Whether Redis reports that its `maxclients` is reached.
pub(super) fn is_full(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains(FULL))
}

/// Describes an error briefly, with a remedy if one is known. A server's message may quote a command, so only its code
/// is used.
pub fn explain(error: &RedisError) -> String {
    match remedy(error) {
        Some(remedy) => format!("{} ({remedy})", cause(error)),
        None => cause(error),
    }
}

/// Describes the cause of an error.
pub fn cause(error: &RedisError) -> String {
    if let Some(fault) = find_below::<ConnectionFault>(error) {
        return fault.what.to_owned();
    }
    if is_full(error) {
        return ConnectionFault::FULL.what.to_owned();
    }
    if let Some(code) = error.code() {
        return code.to_owned();
    }
    if let Some(fault) = tls_fault(error) {
        return format!("no secure connection to Redis: {}", fault.what);
    }
    if let Some(fault) = find_below::<TlsFilesFault>(error) {
        return format!("redis.tls.{} {}", fault.key, fault.problem);
    }
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    if error.is_connection_dropped() {
        return "the connection was closed".to_owned();
    }
    error.category().to_owned()
}

/// Returns what an operator can do about the error, if that is known.
pub fn remedy(error: &RedisError) -> Option<&'static str> {
    if let Some(fault) = find_below::<ConnectionFault>(error) {
        return Some(fault.remedy);
    }
    if is_full(error) {
        return Some(ConnectionFault::FULL.remedy);
    }
    tls_fault(error).map(|fault| fault.remedy).or_else(|| find_below::<TlsFilesFault>(error).map(|fault| fault.remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, Error as TlsError};

    #[test]
    fn causes_are_found_below_the_clients_errors() {
        assert!(explain(&ConnectionFault::NO_ADDRESS.error()).contains("cannot be resolved (check redis.url"));
        let refused = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let error: RedisError = io::Error::new(io::ErrorKind::InvalidData, refused).into();
        assert!(explain(&error).contains("unknown authority (CA)"), "{}", explain(&error));
        assert!(is_about_connections(&error));
        let file = TlsFilesFault { key: "ca_file", problem: "names no file", remedy: "correct the path" };
        let error: RedisError = io::Error::other(file).into();
        assert_eq!(explain(&error), "redis.tls.ca_file names no file (correct the path)");
        let error: RedisError = io::Error::from(io::ErrorKind::TimedOut).into();
        assert_eq!(explain(&error), "no answer in time");
    }
}
