//! Asks the Sentinels for the address of the master.
//!
//! All Sentinels are asked at once, and the answer with the latest configuration counts: after a failover, a Sentinel
//! that was cut off still names the old master.

use super::{error_remedies::ConnectionFault, reach::Reach};
use crate::config::{SentinelConfig, SentinelUrl};
use futures::{StreamExt, stream::FuturesUnordered};
use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, Value,
    aio::MultiplexedConnection, cmd,
};
use secrecy::ExposeSecret;
use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

/// How long to wait for the other Sentinels after the first answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// The Sentinels of `redis.url`.
pub(super) struct Sentinels {
    url: SentinelUrl,
    login: SentinelConfig,
    /// Set when a Sentinel asked for a password although none is configured for Sentinels. They then get the password
    /// of the servers.
    lend_login: AtomicBool,
    /// One connection per Sentinel, as long as it works.
    connections: Vec<Mutex<Option<MultiplexedConnection>>>,
}

/// A master, as reported by a Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Master {
    host: String,
    port: u16,
    /// The number of the configuration that named this master. A later configuration has a higher number.
    epoch: u64,
}

impl Master {
    /// Returns the master's host and port.
    pub(super) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Sentinels {
    pub(super) fn new(url: SentinelUrl, login: SentinelConfig) -> Self {
        let connections = url.sentinels.iter().map(|_| Mutex::default()).collect();
        Self { url, login, lend_login: AtomicBool::new(false), connections }
    }

    /// Whether the connections are made without TLS.
    pub(super) const fn is_plain(&self) -> bool {
        !self.url.tls
    }

    /// Connects to the master. Also returns its host and port. The server is asked to confirm that it is a master.
    pub(super) async fn connect(&self, reach: &Reach, patient: bool) -> RedisResult<(MultiplexedConnection, String)> {
        let master = self.master(reach).await?;
        let mut settings = RedisConnectionInfo::default().set_db(self.url.db);
        if let Some(username) = &self.url.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.url.password {
            settings = settings.set_password(password.expose_secret());
        }
        let info = self.info(&master.host, master.port)?.set_redis_settings(settings);
        let (mut connection, _) = reach.connect(info, patient).await?;
        let says = timeout(reach.connect_timeout(), is_master(&mut connection)).await;
        let timed_out = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        if says.map_err(timed_out)?? {
            Ok((connection, master.place()))
        } else {
            Err(no_master("the server that the Sentinels name is not a master"))
        }
    }

    /// Returns the master of the latest configuration that any Sentinel knows.
    pub(super) async fn master(&self, reach: &Reach) -> RedisResult<Master> {
        let mut asked: FuturesUnordered<_> =
            (0..self.connections.len()).map(|number| self.ask(reach, number)).collect();
        let (mut best, mut failed, mut until) = (None::<Master>, None, None);
        loop {
            let answer = match until {
                None => asked.next().await,
                Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
            };
            match answer {
                None => break,
                Some(Ok(Some(master))) => {
                    until.get_or_insert_with(|| Instant::now() + PATIENCE);
                    if best.as_ref().is_none_or(|best| best.epoch < master.epoch) {
                        best = Some(master);
                    }
                }
                Some(Ok(None)) => failed = failed.or_else(|| Some(no_master("the Sentinels know of no master"))),
                Some(Err(error)) => failed = Some(error),
            }
        }
        best.ok_or_else(|| failed.unwrap_or_else(|| no_master("there is no Sentinel")))
    }

    async fn ask(&self, reach: &Reach, number: usize) -> RedisResult<Option<Master>> {
        let mut kept = self.connections[number].lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.log_in(reach, number).await?,
        };
        let masters: Vec<HashMap<String, String>> = match masters(&mut connection).await {
            Ok(masters) => masters,
            Err(error) if error.code() == Some("NOAUTH") => {
                let lend = self.login.password.is_none() && self.url.password.is_some();
                if !lend || self.lend_login.swap(true, Ordering::AcqRel) {
                    return Err(ConnectionFault::SENTINEL_REFUSES.error());
                }
                connection = self.log_in(reach, number).await?;
                masters(&mut connection).await?
            }
            Err(error) => return Err(error),
        };
        *kept = Some(connection);
        Ok(find(masters, &self.url.service))
    }

    async fn log_in(&self, reach: &Reach, number: usize) -> RedisResult<MultiplexedConnection> {
        let (username, password) = if self.login.password.is_none() && self.lend_login.load(Ordering::Acquire) {
            (&self.url.username, &self.url.password)
        } else {
            (&self.login.username, &self.login.password)
        };
        let mut settings = RedisConnectionInfo::default();
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if let Some(password) = password {
            settings = settings.set_password(password.expose_secret());
        }
        let (host, port) = &self.url.sentinels[number];
        Ok(reach.connect(self.info(host, *port)?.set_redis_settings(settings), false).await?.0)
    }

    fn info(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let address = if self.url.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        address.into_connection_info()
    }
}

fn no_master(why: &'static str) -> RedisError {
    // While a failover is in progress, there is no master.
    (ErrorKind::MasterNameNotFoundBySentinel, why).into()
}

async fn masters(connection: &mut MultiplexedConnection) -> RedisResult<Vec<HashMap<String, String>>> {
    cmd("SENTINEL").arg("MASTERS").query_async(connection).await
}

/// Returns the master with this name, unless the Sentinel considers it down.
fn find(masters: Vec<HashMap<String, String>>, service: &str) -> Option<Master> {
    let facts = masters.into_iter().find(|facts| facts.get("name").is_some_and(|name| name == service))?;
    let flags = facts.get("flags")?;
    let up = flags.split(',').any(|flag| flag == "master") && !flags.contains("s_down") && !flags.contains("o_down");
    let epoch = facts.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let (host, port) = (facts.get("ip")?.clone(), facts.get("port")?.parse().ok()?);
    up.then_some(Master { host, port, epoch })
}

/// Asks the server whether it is a master. A user without permission for `ROLE` may still be allowed to use `INFO`.
async fn is_master(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    let role: RedisResult<Value> = cmd("ROLE").query_async(connection).await;
    match role {
        Ok(Value::Array(role)) => Ok(matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")),
        Ok(_) => Ok(false),
        Err(error) if error.code().is_some() => {
            let info: String = cmd("INFO").arg("REPLICATION").query_async(connection).await?;
            Ok(info.lines().any(|line| line.trim_end() == "role:master"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn facts(flags: &str) -> Vec<HashMap<String, String>> {
        let of = |name: &str| {
            [("name", name), ("ip", "::1"), ("port", "6379"), ("flags", flags), ("config-epoch", "7")]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        vec![of("other"), of("main")]
    }

    #[test]
    fn a_master_that_is_up_is_found() {
        let master = find(facts("master"), "main").unwrap();
        assert_eq!((master.place().as_str(), master.epoch), ("[::1]:6379", 7));
        assert_eq!(find(facts("s_down,master"), "main"), None);
        assert_eq!(find(facts("master"), "none"), None);
    }
}
