//! Logins to the console: the strings `{NS:0}:session:<hash>`. The hash is that of a secret that only the browser has.

use super::{Keys, Link, clock};
use redis::{RedisResult, cmd, pipe};
use std::time::Duration;

/// Stores a session for `life`. O(1).
pub async fn store(link: &mut Link, keys: &Keys, hash: &str, session: &str, life: Duration) -> RedisResult<()> {
    let mut set = cmd("SET");
    set.arg(keys.session(hash)).arg(session).arg("PX").arg(crate::contract::millis(life).max(1));
    link.query(&set).await
}

/// Reads a session, and the time on Redis's clock in milliseconds. `None` if there is none, or if it has expired. O(1).
pub async fn load(link: &mut Link, keys: &Keys, hash: &str) -> RedisResult<(Option<Vec<u8>>, u64)> {
    let mut asked = pipe();
    asked.cmd("GET").arg(keys.session(hash)).cmd("TIME");
    let (session, now): (Option<Vec<u8>>, clock::RedisTime) = link.pipeline(&asked).await?;
    Ok((session, now.ms()))
}

/// Keeps a session for `life` from now on. O(1).
pub async fn keep(link: &mut Link, keys: &Keys, hash: &str, life: Duration) -> RedisResult<()> {
    let mut expire = cmd("PEXPIRE");
    expire.arg(keys.session(hash)).arg(crate::contract::millis(life).max(1));
    link.query(&expire).await
}

/// Deletes a session. O(1).
pub async fn delete(link: &mut Link, keys: &Keys, hash: &str) -> RedisResult<()> {
    link.query(cmd("DEL").arg(keys.session(hash))).await
}

/// Before which time, in milliseconds, the sessions of a person have ended. 0: none has. O(1).
pub async fn ended_before_ms(link: &mut Link, keys: &Keys, person: &str) -> RedisResult<u64> {
    let ended: Option<String> = link.query(cmd("GET").arg(keys.sessions_end(person))).await?;
    Ok(ended.and_then(|ms| ms.parse().ok()).unwrap_or(0))
}

/// Ends all sessions of a person that began up to now. It is remembered for `life`, the longest that a session lives. O(1).
pub async fn end_all(link: &mut Link, keys: &Keys, person: &str, life: Duration) -> RedisResult<()> {
    let now_ms = clock::now_ms(link).await?;
    let mut set = cmd("SET");
    set.arg(keys.sessions_end(person)).arg(now_ms).arg("PX").arg(crate::contract::millis(life).max(1));
    link.query(&set).await
}
