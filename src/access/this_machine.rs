//! Whether a request comes from this machine, for a gateway without tokens.

use super::principal::AccessError;
use http::{HeaderMap, Uri, header};
use std::net::IpAddr;

/// Without tokens, only programs of this machine may use the gateway. A web page of another site that the user's browser shows
/// must not: its requests carry its own `Origin`, or, if its name was made to resolve to this machine, its own `Host`.
pub fn only_this_machine(headers: &HeaderMap, uri: &Uri) -> Result<(), AccessError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.host()).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_foreign =
        origin.is_some_and(|origin| !is_this_machine(origin.split_once("://").map_or("", |(_, host)| host)));
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if is_this_machine(host) && !is_foreign && !matches!(site, Some("cross-site" | "same-site")) {
        return Ok(());
    }
    Err(AccessError::OtherMachine)
}

/// Whether `host[:port]` names this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "127.3.2.1:1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1:80", "[::2]", "127.0.0.1.evil.example"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_foreign_page_is_refused_without_tokens() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>();
            only_this_machine(&headers, &Uri::from_static("/v1/status")).is_ok()
        };
        assert!(check(&[("host", "localhost:8080")]));
        assert!(check(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(!check(&[("host", "rebound.example")]));
        assert!(!check(&[("host", "localhost"), ("origin", "https://evil.example")]));
        assert!(!check(&[("host", "localhost"), ("origin", "null")]));
        assert!(!check(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
    }
}
