//! Reaching one server, or a cluster: names, certificates and timeouts.

use super::{
    tls::Certificates,
    trouble::{self, ConnectionFault},
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

/// How one server is reached.
pub(super) struct Reach {
    names: Names,
    certificates: Certificates,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Reach {
    /// Files that cannot be used are found out at once.
    pub(super) fn new(config: &RedisConfig, names: Names) -> Result<Self, TlsFilesFault> {
        Ok(Self {
            names,
            certificates: Certificates::new(config.tls.clone())?,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
        })
    }

    /// A new connection, and the addresses that it was tried at. With `patient`, replies may take as long as they like: the
    /// caller bounds its waits.
    pub(super) async fn connect(
        &self,
        info: ConnectionInfo,
        patient: bool,
    ) -> RedisResult<(MultiplexedConnection, BTreeSet<String>)> {
        let asked = Asked { names: self.names.clone(), given: Arc::default() };
        let given = Arc::clone(&asked.given);
        // The client's own default of 500 ms would cut blocking reads short and lose what they then receive.
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

    /// A new connection to a cluster, with the same meaning of `patient`; never longer than 30 s.
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

    /// The resolver.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// How long connecting may take.
    pub(super) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

/// The process's resolver, as the client asks it; it notes the addresses that it gave.
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

/// Whether a server closes a new connection because it has too many.
pub(super) async fn is_full(place: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(place).await else { return false };
    let mut said = Vec::with_capacity(128);
    while said.len() < 128 {
        match stream.read_buf(&mut said).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&said).contains(trouble::FULL)
}
