//! Checks the configuration that the client needs, once, before anything is sent.

use crate::config::{TokenAuth, XcoConfig};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use url::{Host, Url};

/// One fault in the `xco.*` configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupFault {
    /// The configuration key, such as `xco.token_url`.
    pub key: &'static str,
    /// What is wrong. Never quotes a value.
    pub problem: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for SetupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.key, self.problem, self.remedy)
    }
}

/// The client cannot be built. Lists every reason at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct XcoSetupError(
    /// The faults; at least one.
    pub Vec<SetupFault>,
);

/// A checked configuration, from which a client can be built.
pub(super) struct Setup {
    pub(super) base_url: Url,
    pub(super) api_key: Option<HeaderValue>,
    pub(super) credentials: Credentials,
}

/// How the client identifies itself to the token endpoint.
pub(super) struct Credentials {
    pub(super) token_url: Url,
    pub(super) client_id: String,
    pub(super) client_secret: SecretString,
    pub(super) scope: String,
    pub(super) auth: TokenAuth,
}

/// Checks `xco.*` and reports all faults at once.
pub(super) fn check(config: &XcoConfig) -> Result<Setup, XcoSetupError> {
    let mut faults = Vec::new();
    let insecure_ok = config.allow_insecure_http;
    let base_url = check_url("xco.base_url", config.base_url.as_ref(), insecure_ok, &mut faults);
    let token_url = check_url("xco.token_url", config.token_url.as_ref(), insecure_ok, &mut faults);
    let client_id = config.client_id.clone().filter(|id| !id.is_empty());
    if client_id.is_none() {
        faults.push(missing("xco.client_id", "set it to the OAuth2 client id that Purse gave you"));
    }
    let client_secret = config.client_secret.clone().filter(|secret| !secret.expose_secret().is_empty());
    if client_secret.is_none() {
        faults.push(missing("xco.client_secret", "set it, or name a file that holds it in xco.client_secret_file"));
    }
    let api_key = match &config.api_key {
        None => None,
        Some(key) => {
            let header = HeaderValue::from_str(key.expose_secret()).ok().map(|mut header| {
                header.set_sensitive(true);
                header
            });
            if header.is_none() {
                faults.push(SetupFault {
                    key: "xco.api_key",
                    problem: "cannot be sent as a header",
                    remedy: "check it for line breaks and control characters",
                });
            }
            header
        }
    };
    match (base_url, token_url, client_id, client_secret) {
        (Some(base_url), Some(token_url), Some(client_id), Some(client_secret)) if faults.is_empty() => Ok(Setup {
            base_url,
            api_key,
            credentials: Credentials {
                token_url,
                client_id,
                client_secret,
                scope: config.scope.clone(),
                auth: config.token_auth,
            },
        }),
        _ => Err(XcoSetupError(faults)),
    }
}

fn missing(key: &'static str, remedy: &'static str) -> SetupFault {
    SetupFault { key, problem: "is missing", remedy }
}

fn check_url(key: &'static str, url: Option<&Url>, insecure_ok: bool, faults: &mut Vec<SetupFault>) -> Option<Url> {
    let Some(url) = url else {
        let remedy = if key == "xco.token_url" {
            "set it to the URL of the OAuth2 token endpoint that Purse gave you, such as https://auth.example.com/oauth2/token"
        } else {
            "set it to the URL that Purse gave you, such as https://xco-api.purse-sandbox.com"
        };
        faults.push(missing(key, remedy));
        return None;
    };
    let fault = |problem, remedy| Some(SetupFault { key, problem, remedy });
    let found = if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        fault("is no http(s) URL", "write it as https://host/…")
    } else if !url.username().is_empty() || url.password().is_some() {
        fault("carries a user name or password", "take it out: xco.client_id and xco.client_secret authenticate")
    } else if url.fragment().is_some() || (key == "xco.base_url" && url.query().is_some()) {
        fault("has a query or fragment", "take it out: paths are appended to it")
    } else if url.scheme() == "http" && !insecure_ok && !is_loopback(url) {
        fault(
            "would send secrets and personal data unencrypted",
            "use https://, or set xco.allow_insecure_http = true if the way there is safe",
        )
    } else {
        None
    };
    match found {
        Some(found) => {
            faults.push(found);
            None
        }
        None => Some(url.clone()),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn config(base: &str, token: &str) -> XcoConfig {
        XcoConfig {
            base_url: Some(base.parse().unwrap()),
            token_url: Some(token.parse().unwrap()),
            client_id: Some("id".to_owned()),
            client_secret: Some(SecretString::from("s3cret")),
            ..XcoConfig::default()
        }
    }

    fn faults(config: &XcoConfig) -> Vec<&'static str> {
        check(config).err().map_or_else(Vec::new, |error| error.0.into_iter().map(|fault| fault.key).collect())
    }

    #[test]
    fn every_missing_key_is_named_at_once() {
        let keys = faults(&XcoConfig::default());
        assert_eq!(keys, ["xco.base_url", "xco.token_url", "xco.client_id", "xco.client_secret"]);
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for base in
            ["http://127.0.0.1:80", "http://127.8.9.1", "http://[::1]:8", "http://localhost", "https://x.example"]
        {
            assert!(faults(&config(base, base)).is_empty(), "{base}");
        }
        for base in ["http://x.example", "http://10.0.0.1", "http://localhost.example", "http://0.0.0.0"] {
            assert_eq!(faults(&config(base, base)), ["xco.base_url", "xco.token_url"], "{base}");
            let allowed = XcoConfig { allow_insecure_http: true, ..config(base, base) };
            assert!(faults(&allowed).is_empty(), "{base}");
        }
    }

    #[test]
    fn odd_urls_are_refused_without_quoting_them() {
        for base in ["ftp://x.example", "https://me:hunter2@x.example", "https://x.example/?q", "https://x.example/#f"]
        {
            let error = check(&config(base, "https://x.example/token")).err().unwrap().to_string();
            assert!(error.starts_with("xco.base_url "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let config = XcoConfig { api_key: Some(SecretString::from("a\nb")), ..config("https://x", "https://x") };
        assert_eq!(faults(&config), ["xco.api_key"]);
    }
}
