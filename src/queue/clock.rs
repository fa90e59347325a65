//! Redis's clock, which all deadlines and ages are measured by.

use super::Link;
use crate::contract::millis;
use redis::{FromRedisValue, ParsingError, RedisResult, Value, cmd};
use std::time::Duration;

/// A moment on Redis's clock: the reply to `TIME`, alone or in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisTime(Duration);

impl RedisTime {
    /// Asks for it. O(1).
    ///
    /// # Errors
    /// Redis's.
    pub async fn now(link: &mut Link) -> RedisResult<Self> {
        link.query(&cmd("TIME")).await
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> u64 {
        millis(self.0)
    }

    /// The time since 1970, in microseconds.
    pub const fn since_1970(self) -> Duration {
        self.0
    }
}

impl FromRedisValue for RedisTime {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let (seconds, micros): (u64, u32) = redis::from_redis_value(reply)?;
        Ok(Self(Duration::from_secs(seconds).saturating_add(Duration::from_micros(u64::from(micros)))))
    }
}

/// Redis's clock, in milliseconds since 1970. O(1).
///
/// # Errors
/// Redis's.
pub async fn now_ms(link: &mut Link) -> RedisResult<u64> {
    Ok(RedisTime::now(link).await?.ms())
}
