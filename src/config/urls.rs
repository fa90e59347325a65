//! The URLs that configuration may name. Messages never quote a URL: it may carry a password.

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use url::{Host, Url};

/// What a `redis.url` names.
#[derive(Debug, Clone)]
pub enum RedisUrl {
    /// `redis://` or `rediss://`, for the client to read itself.
    Server(SecretString),
    /// `redis+sentinel://` or `rediss+sentinel://`
    Sentinel(SentinelUrl),
}

/// `redis[s]+sentinel://[user:password@]host:port[,host:port…]/service[/db]`
#[derive(Debug, Clone)]
pub struct SentinelUrl {
    /// The sentinels, `(host, port)`; the port is 26379 where the URL names none.
    pub sentinels: Vec<(String, u16)>,
    /// The master's name.
    pub service: String,
    /// The database; default 0.
    pub db: i64,
    /// The user of the Redis servers behind the sentinels.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// `rediss+sentinel://`: TLS to the sentinels and to the servers.
    pub tls: bool,
}

const WANTED: &str =
    "redis://host:port, rediss://host:port, redis+sentinel:// or rediss+sentinel://host:port[,host:port]/service[/db]";

/// The user that a `redis.url` names; `None` if it names none, or cannot be read.
pub(super) fn redis_user(url: &str) -> Option<String> {
    match parse_redis_url(url).ok()? {
        RedisUrl::Sentinel(url) => url.username,
        RedisUrl::Server(url) => decoded(Url::parse(url.expose_secret()).ok()?.username()).ok().and_then(non_empty),
    }
}

/// Reads a `redis.url`. The error names the form that is wanted and quotes nothing.
pub fn parse_redis_url(text: &str) -> Result<RedisUrl, String> {
    if let Some(rest) = text.strip_prefix("redis+sentinel://") {
        return parse_sentinel(rest, false).map(RedisUrl::Sentinel);
    }
    if let Some(rest) = text.strip_prefix("rediss+sentinel://") {
        return parse_sentinel(rest, true).map(RedisUrl::Sentinel);
    }
    if lacks_scheme(text) {
        return Err("the scheme is missing: begin it with redis:// (rediss:// for TLS), as in redis://127.0.0.1:6379"
            .to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error}); wanted {WANTED}"))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(format!("another scheme than these: {WANTED}"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("no host; wanted {WANTED}"));
    }
    let db = url.path().trim_start_matches('/');
    if !db.is_empty() && db.parse::<u16>().is_err() {
        return Err("the path is the number of a database: redis://host:port/0".to_owned());
    }
    Ok(RedisUrl::Server(SecretString::from(text)))
}

/// Whether only `scheme://` is missing before the text, as in `127.0.0.1:6379`.
fn lacks_scheme(text: &str) -> bool {
    let completed = || Url::parse(&format!("redis://{text}")).ok();
    !text.contains("://") && completed().is_some_and(|url| url.host_str().is_some_and(|host| !host.is_empty()))
}

fn parse_sentinel(rest: &str, tls: bool) -> Result<SentinelUrl, String> {
    const FORM: &str = "redis+sentinel://host:port[,host:port]/service[/db]";
    if rest.contains(['?', '#']) || rest.chars().any(char::is_whitespace) {
        return Err(format!("no query, fragment or blanks here; wanted {FORM}"));
    }
    let (authority, path) = rest.split_once('/').ok_or_else(|| format!("no service name; wanted {FORM}"))?;
    // An `@` within a password must be percent-encoded, but the last one is the separator in any case.
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let sentinels = hosts.split(',').map(sentinel_address).collect::<Result<Vec<_>, _>>()?;
    let mut parts = path.splitn(2, '/');
    let service = decoded(parts.next().unwrap_or_default())?;
    if service.is_empty() {
        return Err(format!("no service name; wanted {FORM}"));
    }
    let db = match parts.next() {
        None | Some("") => 0,
        Some(db) => db.parse::<u16>().map_err(|_| format!("the last part is the number of a database: {FORM}"))?,
    };
    let (username, password) = match credentials.map(|c| c.split_once(':').unwrap_or((c, ""))) {
        None => (None, None),
        Some((user, password)) => (non_empty(decoded(user)?), non_empty(decoded(password)?).map(SecretString::from)),
    };
    Ok(SentinelUrl { sentinels, service, db: i64::from(db), username, password, tls })
}

fn sentinel_address(text: &str) -> Result<(String, u16), String> {
    let wanted = || "a sentinel is host:port, several separated by commas".to_owned();
    // An IPv6 address stands in brackets, and has colons of its own.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().map_err(|_| wanted())?),
        _ => (text, 26_379),
    };
    Host::parse(host).map_err(|_| wanted())?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "percent-encoding that is not UTF-8".to_owned())?;
    Ok(text.into_owned())
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Reads an `http://` or `https://` URL that paths can be appended to: no query, no fragment, no credentials.
pub(super) fn parse_http_url(text: &str) -> Result<Url, String> {
    if lacks_scheme(text) {
        return Err("the scheme is missing: begin it with https://, as in https://host/path".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error}); wanted https://host/…"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("another scheme than https:// (or http://)".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in this URL: they have keys of their own".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query or fragment does not belong in this URL".to_owned());
    }
    Ok(url)
}

/// Whether a call to `url` stays encrypted, or on this machine.
pub(super) fn is_safe_transport(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    fn sentinel(text: &str) -> SentinelUrl {
        match parse_redis_url(text).unwrap() {
            RedisUrl::Sentinel(url) => url,
            RedisUrl::Server(_) => panic!("{text} is a sentinel's"),
        }
    }

    #[test]
    fn sentinel_urls() {
        let url = sentinel("redis+sentinel://us%40er:p%3Aw@a:1,b,[::1]:3/mymaster/2");
        assert_eq!(url.sentinels, [("a".to_owned(), 1), ("b".to_owned(), 26_379), ("::1".to_owned(), 3)]);
        assert_eq!((url.service.as_str(), url.db), ("mymaster", 2));
        assert_eq!(url.username.as_deref(), Some("us@er"));
        assert_eq!(url.password.unwrap().expose_secret(), "p:w");
        let url = sentinel("redis+sentinel://:secret@a:1/m");
        assert_eq!((url.db, url.username, url.tls), (0, None, false));
        assert!(url.password.is_some());
        assert!(sentinel("rediss+sentinel://a:1/m").tls);
    }

    #[test]
    fn a_missing_scheme_is_named() {
        for text in ["127.0.0.1:6379", "localhost:6379", "cache", "cache:6380/2", ":hunter2@cache:6379", "[::1]:6379"] {
            let fault = parse_redis_url(text).unwrap_err();
            assert!(fault.starts_with("the scheme is missing: begin it with redis://"), "{text}: {fault}");
        }
        for text in ["http://cache", "mailto:hunter2", "redis://"] {
            assert!(!parse_redis_url(text).unwrap_err().contains("scheme is missing"), "{text}");
        }
    }

    #[test]
    fn faults_quote_nothing() {
        for text in [
            "hunter2",
            "http://hunter2@x",
            "redis://:hunter2@",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/x",
            "redis+sentinel://:hunter2@a:1",
            "redis+sentinel://:hunter2@a:1/",
            "redis+sentinel://:hunter2@a:x/m",
            "redis+sentinel://:hunter2@a:1,/m",
            "redis+sentinel://:hunter2@a:1/m/x",
        ] {
            let fault = parse_redis_url(text).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn an_http_url_without_a_scheme_is_named() {
        for text in ["xco-api.example.com", "xco-api.example.com/v1", "localhost:8080/token"] {
            assert!(parse_http_url(text).unwrap_err().starts_with("the scheme is missing"), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for (text, safe) in [
            ("https://xco.example", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]", true),
            ("http://localhost", true),
            ("http://xco.example", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_safe_transport(&parse_http_url(text).unwrap()), safe, "{text}");
        }
        for text in ["ftp://x", "https://u:p@x", "https://x/?a=b", "x", "mailto:a@b"] {
            assert!(parse_http_url(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panic(text in ".{0,60}", rest in "[a-z0-9:,@/%\\[\\]]{0,30}") {
            let _ = parse_redis_url(&text);
            let _ = parse_redis_url(&format!("redis+sentinel://{rest}"));
            let _ = parse_http_url(&text);
        }
    }
}
