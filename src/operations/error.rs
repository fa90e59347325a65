//! Errors of operations, and their remedies.

use crate::{
    completions::HubError,
    config::{RedisConfig, RedisUrl, parse_redis_url},
    queue::{self, QueueError},
    rules::MAX_RULES,
};
use redis::RedisError;
use secrecy::ExposeSecret;
use url::Url;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis does not answer, or refuses a command.
    #[error("Redis at {place} cannot be used: {reason}")]
    Redis {
        /// Address of Redis, without credentials.
        place: String,
        /// Cause of the error, in a few words.
        reason: String,
        /// Remedy, if one is known for this error of Redis.
        remedy: Option<&'static str>,
    },
    /// `redis.url` is not valid, or a file of `redis.tls` cannot be used.
    #[error(transparent)]
    RedisUrl(QueueError),
    /// The maximum number of rules is in force.
    #[error("the maximum of {MAX_RULES} rules is in force")]
    TooManyRules,
    /// No job fits a cancellation.
    #[error("no waiting job fits: {0}")]
    NothingFits(String),
    /// No pause has this selection.
    #[error("{0} is not paused")]
    NotPaused(String),
    /// No dead letter has this job id or this entry.
    #[error("no dead letter has this id")]
    UnknownDeadLetter,
    /// No dead letter fits the filter, but the operation needs one.
    #[error("no dead letter fits")]
    NoDeadLetter,
    /// A person was shown personal data too often within an hour.
    #[error("personal data was shown to you 60 times within an hour")]
    TooManyReveals,
    /// More than one dead letter fits the filter, but the operation needs exactly one.
    #[error("more than one dead letter fits")]
    SeveralDeadLetters,
    /// The caller wants to wait for a job without an `id` or `reply`.
    #[error("only a job with an `id` and `reply: true` can be waited for")]
    CannotWait,
    /// The caller wants to wait for a job without an `id`.
    #[error("only a job with an `id` can be waited for")]
    NoId,
    /// The completions cannot be followed.
    #[error(transparent)]
    Completions(#[from] HubError),
}

impl Error {
    /// The remedy, if one is known.
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Redis { remedy: Some(remedy), .. } => Some(remedy),
            Self::Redis { remedy: None, .. } => {
                Some("is it running? `--redis-url` or redis.url say where; `xco-worker doctor` checks it all")
            }
            Self::TooManyRules => Some("`xco-worker status` lists them; `xco-worker resume --all` ends every pause"),
            Self::NothingFits(_) => {
                Some("`xco-worker status` counts the jobs that wait; `xco-worker why ID` finds one")
            }
            Self::TooManyReveals => Some("wait, or ask a colleague"),
            Self::UnknownDeadLetter => Some("`xco-worker dead list` shows what there is"),
            Self::RedisUrl(_)
            | Self::NotPaused(_)
            | Self::NoDeadLetter
            | Self::SeveralDeadLetters
            | Self::CannotWait
            | Self::NoId
            | Self::Completions(_) => None,
        }
    }

    /// Converts an error of the queue, and adds the address of Redis.
    pub fn queue(redis: &RedisConfig, error: QueueError) -> Self {
        match error {
            QueueError::Redis(error) => Self::redis(redis, &error),
            error @ (QueueError::Url(_) | QueueError::Tls(_)) => Self::RedisUrl(error),
        }
    }

    /// Converts an error of Redis, and adds the address of Redis.
    pub fn redis(redis: &RedisConfig, error: &RedisError) -> Self {
        Self::Redis { place: redis_place(redis), reason: queue::cause(error), remedy: redis_remedy(error) }
    }
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        Self::RedisUrl(error)
    }
}

/// What to do about Redis's error. `None` where Redis does not answer at all.
pub(super) fn redis_remedy(error: &RedisError) -> Option<&'static str> {
    queue::remedy(error).or_else(|| {
        if error.code().is_some() {
            // Redis runs, and answered.
            return Some("Redis refuses a command: see its log, and `xco-worker doctor`");
        }
        let is_closed = error.is_connection_dropped() && !error.is_connection_refusal() && !error.is_timeout();
        is_closed.then_some("does this port want TLS? then it is rediss:// instead of redis://; else see Redis's log")
    })
}

/// A long operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unfinished<R> {
    /// The work done before the failure. `None` if the operation had not begun.
    pub report: Option<R>,
    /// The cause.
    pub error: Error,
}

impl<R> Unfinished<R> {
    /// Creates the error of an operation that failed before it changed anything.
    pub(super) const fn not_begun(error: Error) -> Self {
        Self { report: None, error }
    }
}

/// Returns the address of Redis, without credentials.
pub fn redis_place(redis: &RedisConfig) -> String {
    redis.url.iter().map(|url| shown_url(url.expose_secret())).collect::<Vec<_>>().join(", ")
}

fn shown_url(text: &str) -> String {
    match parse_redis_url(text) {
        Ok(RedisUrl::Sentinel(sentinel)) => {
            let hosts: Vec<_> = sentinel.sentinels.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            let scheme = if sentinel.tls { "rediss+sentinel" } else { "redis+sentinel" };
            format!("{scheme}://{}/{}", hosts.join(","), sentinel.service)
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
