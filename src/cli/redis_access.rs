//! Reaching Redis, and saying so when it cannot be reached.

use super::HintExt;
use crate::{
    config::{RedisConfig, RedisUrl, parse_redis_url},
    queue::{Connector, Link, QueueError},
};
use anyhow::anyhow;
use redis::{RedisError, cmd};
use secrecy::ExposeSecret;
use url::Url;

/// A link that has answered a `PING`.
pub(super) async fn connect(redis: &RedisConfig) -> anyhow::Result<Link> {
    let mut link = Connector::new(redis)?.link(false);
    match link.query::<String>(&cmd("PING")).await {
        Ok(_) => Ok(link),
        Err(error) => Err(unreachable(redis, &error)),
    }
}

/// The error, with where Redis was looked for and what to try.
pub(super) fn unreachable(redis: &RedisConfig, error: &RedisError) -> anyhow::Error {
    let failed: anyhow::Result<()> = Err(anyhow!("Redis at {} cannot be used: {}", shown(redis), describe(error)));
    let hint = "is it running? `--redis-url` or redis.url say where; `xco-worker doctor` checks it all";
    failed.hint(hint).err().unwrap_or_else(|| anyhow!("Redis cannot be used"))
}

/// As [`unreachable`], for what the queue's own functions give.
pub(super) fn queue_error(redis: &RedisConfig, error: QueueError) -> anyhow::Error {
    match error {
        QueueError::Redis(ref error) => unreachable(redis, error),
        QueueError::Url(_) => error.into(),
    }
}

/// An error of Redis in a few words. What the server says may quote a command: its code is enough.
pub(super) fn describe(error: &RedisError) -> String {
    if let Some(code) = error.code() {
        return code.to_owned();
    }
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if error.is_io_error() || error.is_connection_refusal() {
        return if error.is_connection_refusal() { "connection refused".to_owned() } else { error.to_string() };
    }
    error.category().to_owned()
}

/// Where Redis is, without credentials.
pub(super) fn shown(redis: &RedisConfig) -> String {
    redis.url.iter().map(|url| shown_url(url.expose_secret())).collect::<Vec<_>>().join(", ")
}

fn shown_url(text: &str) -> String {
    match parse_redis_url(text) {
        Ok(RedisUrl::Sentinel(sentinel)) => {
            let hosts: Vec<_> = sentinel.sentinels.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            format!("redis+sentinel://{}/{}", hosts.join(","), sentinel.service)
        }
        _ => match Url::parse(text) {
            Ok(url) => {
                let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
                let path = url.path().trim_end_matches('/');
                format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or("?"))
            }
            Err(_) => "redis.url".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        for (url, wanted) in [
            ("redis://user:hunter2@cache:6380/2?protocol=resp3", "redis://cache:6380/2"),
            ("rediss://:hunter2@[::1]/", "rediss://[::1]"),
            ("redis+sentinel://u:hunter2@a:1,b/main/0", "redis+sentinel://a:1,b:26379/main"),
        ] {
            assert_eq!(shown_url(url), wanted);
        }
    }
}
