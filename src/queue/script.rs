//! Running a Lua script by its hash, loading it where Redis does not know it (any more).

use super::Link;
use redis::{Cmd, RedisResult, Value, cmd};

/// A script and its hash.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, sha: redis::Script::new(text).get_hash().to_owned() }
    }

    /// `EVALSHA` with room for `keys` keys: the caller adds keys, then arguments.
    pub(super) fn call(&self, keys: usize) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.sha).arg(keys);
        command
    }

    /// Runs a prepared call; after `NOSCRIPT` (a `SCRIPT FLUSH`, a restart, a failover) loads the script and runs it again.
    pub(super) async fn run(&self, link: &mut Link, call: &Cmd) -> RedisResult<Value> {
        match link.query::<Value>(call).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let _: Value = link.query(cmd("SCRIPT").arg("LOAD").arg(self.text)).await?;
                link.query(call).await
            }
            result => result,
        }
    }
}

/// The integers of a flat array reply. Anything else in it is an error of the script's, told as such.
pub(super) fn integers(value: Value) -> RedisResult<Vec<i64>> {
    redis::from_redis_value(value).map_err(Into::into)
}
