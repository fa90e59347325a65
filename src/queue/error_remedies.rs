//! Describes errors of Redis: cause and remedy, without anything that a command contained.

use crate::net::{TlsFilesFault, find_below, tls_fault};
use redis::{ErrorKind, RedisError};
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

/// The client's own message for a database that the server does not have.
const NO_DATABASE: &str = "refused to switch database";

/// The meaning of an error code and its remedy. Codes that need no action are not listed.
fn known_code(code: &str) -> Option<ConnectionFault> {
    let fault = |what, remedy| Some(ConnectionFault { what, remedy });
    match code {
        "NOAUTH" => fault(
            "NOAUTH: Redis wants a password",
            "put it into redis.url, as redis://:PASSWORD@host:port or redis://USER:PASSWORD@host:port",
        ),
        "WRONGPASS" => fault("WRONGPASS: Redis refuses this user or password", WRONG_PASSWORD),
        "NOPERM" => fault(
            "NOPERM: the Redis user lacks a permission",
            "use a user with the permissions in docs/redis-users.md; `xco-worker doctor` names what is forbidden",
        ),
        "WRONGTYPE" => fault(
            "WRONGTYPE: a key has another type than this program writes",
            "another program may use the same namespace: `xco-worker doctor` names the key; set redis.namespace to another name",
        ),
        "READONLY" => {
            fault("READONLY: this Redis is a replica", "point redis.url at the primary, or use redis+sentinel://")
        }
        "LOADING" => {
            fault("LOADING: Redis still loads its data", "wait until it has loaded; its log shows the progress")
        }
        "OOM" => fault("OOM: Redis is full", "raise maxmemory, or trim completions (completions.max_bytes)"),
        "MISCONF" => fault("MISCONF: Redis cannot save its data and refuses writes", "look at its disk and its log"),
        "NOREPLICAS" => fault(
            "NOREPLICAS: too few replicas answer, and Redis refuses writes",
            "look at the replicas and the network",
        ),
        "CLUSTERDOWN" => {
            fault("CLUSTERDOWN: the cluster does not serve this key", "look at CLUSTER INFO and CLUSTER NODES")
        }
        "MASTERDOWN" => fault(
            "MASTERDOWN: this replica has lost its primary",
            "point redis.url at the primary, and look at its log",
        ),
        _ => None,
    }
}

const WRONG_PASSWORD: &str =
    "correct the user and the password in redis.url (special characters percent-encoded: `@` is %40, `/` is %2F)";

/// The description of an error that Redis itself sent, if its meaning is known.
fn of_server(error: &RedisError) -> Option<ConnectionFault> {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Some(ConnectionFault {
            what: "authentication failed: Redis refuses this user or password",
            remedy: WRONG_PASSWORD,
        });
    }
    if error.to_string().contains(NO_DATABASE) {
        return Some(ConnectionFault {
            what: "Redis has no database of this number",
            remedy: "correct the number at the end of redis.url, or leave it out",
        });
    }
    error.code().and_then(known_code)
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
    if let Some(fault) = of_server(error) {
        return fault.what.to_owned();
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
    if let Some(fault) = of_server(error) {
        return Some(fault.remedy);
    }
    tls_fault(error).map(|fault| fault.remedy).or_else(|| find_below::<TlsFilesFault>(error).map(|fault| fault.remedy))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use rustls::{CertificateError, Error as TlsError};

    #[test]
    fn each_code_has_its_own_remedy() {
        let reply = |text: &str| -> RedisError {
            match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap() {
                redis::Value::ServerError(error) => error.into(),
                other => panic!("{other:?}"),
            }
        };
        for (text, wanted) in [
            ("NOAUTH Authentication required.", "redis://:PASSWORD@host:port"),
            ("WRONGPASS invalid username-password pair", "correct the user and the password"),
            ("NOPERM this user has no permissions", "docs/redis-users.md"),
            ("WRONGTYPE Operation against a key", "set redis.namespace"),
            ("OOM command not allowed", "raise maxmemory"),
        ] {
            let error = reply(text);
            assert!(remedy(&error).unwrap().contains(wanted), "{text}: {}", explain(&error));
            assert!(cause(&error).starts_with(text.split(' ').next().unwrap()), "{}", cause(&error));
        }
        // A message may quote a command.
        assert_eq!(explain(&reply("ERR unknown command 'hunter2'")), "ERR");
        let refused: RedisError = (ErrorKind::AuthenticationFailed, "Password authentication failed").into();
        assert!(explain(&refused).contains("correct the user and the password"), "{}", explain(&refused));
    }

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
