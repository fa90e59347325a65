//! The certificates for connections to Redis.

use crate::{
    config::TlsConfig,
    net::{TlsFiles, TlsFilesFault, tls_fault},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, TlsCertificates};
use std::{fmt::Write, io, time::Duration};
use tokio::time::Instant;

/// The files are read again for a new connection if they were last read this long ago.
const FRESH: Duration = Duration::from_secs(60);
/// After a failed handshake, the files are read again if they were last read this long ago.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// The certificates of `redis.tls.*` and the system's roots. They are read when needed and again from time to time,
/// because certificates are renewed while a worker runs.
pub(super) struct Certificates {
    config: TlsConfig,
    read: Mutex<Option<Read>>,
}

struct Read {
    at: Instant,
    refused: bool,
    certificates: TlsCertificates,
}

impl Certificates {
    /// Fails at once if a file cannot be used.
    pub(super) fn new(config: TlsConfig) -> Result<Self, TlsFilesFault> {
        TlsFiles::read(&config)?;
        Ok(Self { config, read: Mutex::new(None) })
    }

    /// Creates a client for one server.
    pub(super) fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match info.addr() {
            ConnectionAddr::TcpTls { .. } => Client::build_with_tls(info, self.read()?),
            _ => Client::open(info),
        }
    }

    /// Returns the certificates for a cluster, or `None` if it does not use TLS.
    pub(super) fn for_cluster(&self, nodes: &[ConnectionInfo]) -> RedisResult<Option<TlsCertificates>> {
        let secure = nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }));
        secure.then(|| self.read()).transpose()
    }

    /// Notes a failed connection. If certificates may be the cause, they are read again.
    pub(super) fn refused(&self, error: &RedisError) {
        if tls_fault(error).is_some_and(|fault| fault.is_about_certificates)
            && let Some(read) = self.read.lock().as_mut()
        {
            read.refused = true;
        }
    }

    fn read(&self) -> RedisResult<TlsCertificates> {
        let mut known = self.read.lock();
        if let Some(read) = known.as_ref() {
            let serves = if read.refused { READ_AGAIN } else { FRESH };
            if read.at.elapsed() < serves {
                return Ok(read.certificates.clone());
            }
        }
        let files = match TlsFiles::read(&self.config) {
            Ok(files) => files,
            // The files may be in the middle of a replacement, so the certificates that were read last are used.
            Err(fault) => match known.as_ref() {
                Some(read) => return Ok(read.certificates.clone()),
                None => return Err(io::Error::other(fault).into()),
            },
        };
        let certificates = TlsCertificates {
            client_tls: files.client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            // Without any roots, the client uses Mozilla's, which are compiled in.
            root_cert: files.authorities.or_else(system_roots),
        };
        *known = Some(Read { at: Instant::now(), refused: false, certificates: certificates.clone() });
        Ok(certificates)
    }
}

/// Returns the roots trusted by the system, or those named by `SSL_CERT_FILE` and `SSL_CERT_DIR`, in PEM.
fn system_roots() -> Option<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a root certificate of the system");
    }
    let mut text = String::new();
    // One unusable root would make the client refuse all of them.
    for root in found.certs.into_iter().filter(|root| rustls::RootCertStore::empty().add(root.clone()).is_ok()) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(root.as_ref())
        );
    }
    (!text.is_empty()).then(|| text.into_bytes())
}
