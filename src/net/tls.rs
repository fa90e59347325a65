//! Certificates: the configured files, and the meaning of a failed handshake.

use crate::config::TlsConfig;
use rustls::{
    AlertDescription, CertificateError, Error as TlsError,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{error::Error, fmt, fs::File, io, io::Read, path::Path, sync::Arc};

/// Maximum size of a file in bytes, larger than any real bundle of certificates.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file named in `tls.*` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFilesFault {
    /// The key below `redis.tls` or `xco.tls`, such as `ca_file`.
    pub key: &'static str,
    /// What is wrong with the file.
    pub problem: &'static str,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

impl fmt::Display for TlsFilesFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls.{} {}: {}", self.key, self.problem, self.remedy)
    }
}

impl Error for TlsFilesFault {}

/// The contents of the files named in `tls.*`, in PEM.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// The certificate authorities to trust instead of the system's.
    pub authorities: Option<Vec<u8>>,
    /// The client's certificate chain and its private key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, client) = (self.authorities.is_some(), self.client.is_some());
        f.debug_struct("TlsFiles").field("authorities", &authorities).field("client", &client).finish()
    }
}

impl TlsFiles {
    /// Reads the files and checks their contents.
    ///
    /// # Errors
    /// Returns a fault for the first file that is missing, too large, or without a certificate or key.
    pub fn read(config: &TlsConfig) -> Result<Self, TlsFilesFault> {
        let authorities = config.ca_file.as_deref().map(|path| certificates("ca_file", path)).transpose()?;
        let client = match (&config.cert_file, &config.key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificates("cert_file", certificate)?, private_key(key)?)),
            (found, _) => {
                let (key, remedy) = match found {
                    Some(_) => ("key_file", "a client's certificate needs its key: set both, or neither"),
                    None => ("cert_file", "a client's key needs its certificate: set both, or neither"),
                };
                return Err(TlsFilesFault { key, problem: "is missing", remedy });
            }
        };
        Ok(Self { authorities, client })
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsFilesFault> {
    let text = read(key, path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let root = certificate.ok().filter(|der| {
            // Without this check, an unreadable root certificate would be silently ignored.
            key != "ca_file" || rustls::RootCertStore::empty().add(der.clone()).is_ok()
        });
        if root.is_none() {
            let remedy = "it wants certificates in PEM: -----BEGIN CERTIFICATE-----";
            return Err(TlsFilesFault { key, problem: "holds a certificate that cannot be read", remedy });
        }
        count += 1;
    }
    if count == 0 {
        let remedy = "it wants certificates in PEM: -----BEGIN CERTIFICATE-----";
        return Err(TlsFilesFault { key, problem: "holds no certificate", remedy });
    }
    Ok(text)
}

fn private_key(path: &Path) -> Result<Vec<u8>, TlsFilesFault> {
    let text = read("key_file", path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(TlsFilesFault {
            key: "key_file",
            problem: "holds no private key",
            remedy: "it wants a key in PEM without a passphrase: -----BEGIN PRIVATE KEY-----",
        }),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsFilesFault> {
    let fault = |problem, remedy| TlsFilesFault { key, problem, remedy };
    let mut text = Vec::new();
    let done = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text));
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(fault("names no file", "correct the path")),
        Err(_) => Err(fault("names a file that cannot be read", "let this user read it")),
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => {
            Err(fault("names a file of more than 4 MiB", "correct the path"))
        }
        Ok(_) => Ok(text),
    }
}

/// Why a handshake failed. The text contains no data from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFault {
    /// What is wrong, such as "its certificate has expired".
    pub what: &'static str,
    /// What the operator can do about it.
    pub remedy: &'static str,
    /// Whether new certificates on this machine may solve it. If so, the files are read again.
    pub is_about_certificates: bool,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.remedy)
    }
}

/// Returns the TLS fault that caused an error, if there is one.
pub fn tls_fault(error: &(dyn Error + 'static)) -> Option<TlsFault> {
    find_below::<TlsError>(error).map(explain)
}

/// Returns the first error of type `T` in an error's chain of causes.
pub fn find_below<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    // Limits the search, in case an error is its own source.
    for _ in 0..16 {
        let error = next?;
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // These two types hide the error they wrap: their source is that error's source.
        next = if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(shared.as_ref())
        } else if let Some(carried) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried)
        } else {
            error.source()
        };
    }
    None
}

fn explain(error: &TlsError) -> TlsFault {
    let fault = |what, remedy| TlsFault { what, remedy, is_about_certificates: false };
    match error {
        TlsError::InvalidCertificate(certificate) => refused(certificate),
        TlsError::NoCertificatesPresented => fault("it shows no certificate", "give the server one"),
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure,
        ) => TlsFault {
            what: "it refuses this client's certificate, or wants one",
            remedy: "set tls.cert_file and tls.key_file to a certificate that the server knows and that has not expired",
            is_about_certificates: true,
        },
        TlsError::InvalidMessage(_) => fault("it does not speak TLS", "use the port for TLS, or a URL without TLS"),
        TlsError::PeerIncompatible(_) | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            fault("it shares no version or cipher of TLS with this client", "let the server speak TLS 1.2 or 1.3")
        }
        _ => fault("the TLS handshake failed", "look at the server's log"),
    }
}

fn refused(error: &CertificateError) -> TlsFault {
    let fault = |what, remedy| TlsFault { what, remedy, is_about_certificates: true };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            fault("its certificate has expired", "renew it there; if it is not expired, correct this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            fault("its certificate is not valid yet", "correct this machine's clock, or the certificate")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => fault(
            "its certificate is for another host name",
            "use a name that the certificate has in the URL, or have one made for this name",
        ),
        // A new authority may have the same name as the old one but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => fault(
            "its certificate is of an unknown authority (CA)",
            "add the CA to the system's certificates, name a bundle in SSL_CERT_FILE, or set tls.ca_file",
        ),
        CertificateError::Revoked => fault("its certificate is revoked", "have a new one made"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            fault("its certificate is not for servers", "have one made for server authentication")
        }
        _ => fault("its certificate is not valid", "look at the certificate, and at the roots in tls.ca_file"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_fault_is_found_however_deep_it_lies() {
        let expired = || TlsError::InvalidCertificate(CertificateError::Expired);
        let in_io = || io::Error::new(io::ErrorKind::InvalidData, expired());
        let twice = io::Error::other(in_io());
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(in_io());
        for error in [&expired() as &(dyn Error + 'static), &in_io(), &twice, &shared] {
            assert!(tls_fault(error).unwrap().what.contains("expired"), "{error:?}");
        }
        assert_eq!(tls_fault(&io::Error::other("no")), None);
    }

    #[test]
    fn each_cause_has_its_own_words() {
        for (error, what) in [
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "unknown authority"),
            (TlsError::InvalidCertificate(CertificateError::NotValidForName), "another host name"),
            (TlsError::InvalidCertificate(CertificateError::NotValidYet), "not valid yet"),
            (TlsError::AlertReceived(AlertDescription::CertificateRequired), "wants one"),
            (TlsError::HandshakeNotComplete, "handshake failed"),
        ] {
            assert!(explain(&error).what.contains(what), "{error:?}");
        }
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(
            explain(&unknown).is_about_certificates && !explain(&TlsError::HandshakeNotComplete).is_about_certificates
        );
    }

    #[test]
    fn files_are_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> Option<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let rubbish = file("rubbish", "hunter2");
        let broken = file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let none = Some(folder.path().join("none"));
        for (ca_file, cert_file, key_file, key, problem) in [
            (none, None, None, "ca_file", "names no file"),
            (rubbish.clone(), None, None, "ca_file", "no certificate"),
            (broken, None, None, "ca_file", "cannot be read"),
            (None, rubbish.clone(), None, "key_file", "is missing"),
            (None, None, rubbish.clone(), "cert_file", "is missing"),
            (None, rubbish.clone(), rubbish, "cert_file", "no certificate"),
        ] {
            let fault = TlsFiles::read(&TlsConfig { ca_file, cert_file, key_file }).unwrap_err();
            assert_eq!(fault.key, key);
            assert!(fault.problem.contains(problem) && !fault.to_string().contains("hunter2"), "{fault}");
        }
        let nothing = TlsFiles::read(&TlsConfig::default()).unwrap();
        assert!(nothing.authorities.is_none() && nothing.client.is_none());
    }
}
