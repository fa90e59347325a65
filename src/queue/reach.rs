//! Connects to one server or a cluster, with names, certificates and timeouts.

use super::{
    error_remedies::{self, ConnectionFault},
    tls::Certificates,
};
use crate::{
    config::RedisConfig,
    net::{Names, TlsFilesFault},
};
use futures::FutureExt;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ConnectionInfo, RedisFuture, RedisResult,
    aio::MultiplexedConnection,
    cluster::{ClusterClientBuilder, ClusterConfig},
    io::AsyncDNSResolver,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// The settings for connecting to a server.
pub(super) struct Reach {
    names: Names,
    certificates: Certificates,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Reach {
    /// Fails at once if a certificate file cannot be used.
    pub(super) fn new(config: &RedisConfig, names: Names) -> Result<Self, TlsFilesFault> {
        Ok(Self {
            names,
            certificates: Certificates::new(config.tls.clone())?,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
        })
    }

    /// Makes a connection. Also returns the addresses that were tried. With `patient`, replies have no timeout, so the
    /// caller must bound its waits.
    pub(super) async fn connect(
        &self,
        info: ConnectionInfo,
        patient: bool,
    ) -> RedisResult<(MultiplexedConnection, BTreeSet<String>)> {
        let asked = Asked { names: self.names.clone(), given: Arc::default() };
        let given = Arc::clone(&asked.given);
        // The client's default of 500 ms would interrupt blocking reads and lose the entries they then receive.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout((!patient).then_some(self.response_timeout))
            .set_dns_resolver(asked);
        let client = self.certificates.client(info)?;
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                let given = std::mem::take(&mut *given.lock());
                Ok((connection, given.iter().map(ToString::to_string).collect()))
            }
            Err(error) => {
                self.certificates.refused(&error);
                Err(error)
            }
        }
    }

    /// Makes a connection to a cluster. With `patient`, the timeout of replies is 30 s.
    pub(super) async fn cluster(
        &self,
        nodes: &[ConnectionInfo],
        patient: bool,
    ) -> RedisResult<redis::cluster_async::ClusterConnection> {
        // The cluster client has no default timeouts.
        let mut builder = ClusterClientBuilder::new(nodes.to_vec())
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.response_timeout);
        if let Some(certificates) = self.certificates.for_cluster(nodes)? {
            builder = builder.certs(certificates);
        }
        let response_timeout = if patient { Duration::from_secs(30) } else { self.response_timeout };
        let config = ClusterConfig::new()
            .set_connection_timeout(self.connect_timeout)
            .set_response_timeout(response_timeout)
            .set_dns_resolver(Asked { names: self.names.clone(), given: Arc::default() });
        let connected = builder.build()?.get_async_connection_with_config(config).await;
        if let Err(error) = &connected {
            self.certificates.refused(error);
        }
        connected
    }

    /// The resolver for host names.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// The timeout for making a connection.
    pub(super) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

/// Adapts the process's resolver to the client, and records the addresses it returned.
struct Asked {
    names: Names,
    given: Arc<Mutex<Vec<IpAddr>>>,
}

impl AsyncDNSResolver for Asked {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        async move {
            let addresses = self.names.addresses(host).await.map_err(|_| ConnectionFault::NO_ADDRESS.error())?;
            self.given.lock().extend(&addresses);
            let sockets = addresses.into_iter().map(move |address| SocketAddr::new(address, port));
            Ok(Box::new(sockets) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        }
        .boxed()
    }
}

/// Whether a server closes a new connection because it has too many connections.
pub(super) async fn is_full(place: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(place).await else { return false };
    let mut said = Vec::with_capacity(128);
    while said.len() < 128 {
        match stream.read_buf(&mut said).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&said).contains(error_remedies::FULL)
}
