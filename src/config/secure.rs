//! How connections are secured: certificates, and the login to Sentinels.

use secrecy::SecretString;
use std::path::PathBuf;

/// `redis.tls.*`, `xco.tls.*`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `tls.ca_file`: certificates, in PEM, of the authorities to trust instead of the system's
    pub ca_file: Option<PathBuf>,
    /// `tls.cert_file`: the certificate to show to the server, in PEM, with its chain
    pub cert_file: Option<PathBuf>,
    /// `tls.key_file`: the key of that certificate, in PEM
    pub key_file: Option<PathBuf>,
}

/// `redis.sentinel.*`: how the Sentinels are logged in to.
#[derive(Debug, Clone, Default)]
pub struct SentinelConfig {
    /// `redis.sentinel.username`
    pub username: Option<String>,
    /// `redis.sentinel.password`
    pub password: Option<SecretString>,
}
