//! Runs a Lua script by its hash, and loads it if Redis does not know it.

use super::Link;
use redis::{Cmd, RedisError, RedisResult, Value, cmd};

/// Joins the text of a script from files in `lua/`: first the shared files it needs, then the script itself. Each is named
/// by folder and name, such as `"admission/admit"`.
macro_rules! script {
    ($path:literal $(on $base:literal)*) => {
        $crate::queue::script::Script::new(
            $path,
            concat!($(include_str!(concat!("lua/", $base, ".lua")),)* include_str!(concat!("lua/", $path, ".lua"))),
        )
    };
}
pub(super) use script;

/// A script and its hash.
#[derive(Debug)]
pub(super) struct Script {
    name: &'static str,
    text: &'static str,
    sha: String,
}

impl Script {
    /// `path` is the file of the script in `lua/`, without its extension.
    pub(super) fn new(path: &'static str, text: &'static str) -> Self {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        Self { name, text, sha: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The name of the script's file without folder and extension. Logs and metrics use it.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Starts an `EVALSHA` for `keys` keys. The caller adds the keys, then the arguments.
    pub(super) fn call(&self, keys: usize) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.sha).arg(keys);
        command
    }

    /// Runs a prepared call. After `NOSCRIPT` (caused by a `SCRIPT FLUSH`, a restart or a failover), it loads the
    /// script and runs it again.
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

/// The reason why a script could not do part of its work: a command that Redis refused, as `atomic.lua` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFailure {
    /// The name of the script, without extension.
    pub script: &'static str,
    /// The kind of refusal, from a short list: `WRONGTYPE`, `NOPERM`, `OOM`, `ERR` and others.
    pub reason: &'static str,
    /// The command, the key and Redis's message, shortened.
    pub detail: String,
}

impl ScriptFailure {
    /// Parses the text `COMMAND key: reason`.
    pub(super) fn new(script: &'static str, text: &str) -> Self {
        Self {
            script,
            reason: reason_of(text),
            detail: text.chars().filter(|c| !crate::contract::is_unprintable(*c)).take(200).collect(),
        }
    }

    /// Converts the error of a whole script, one that waiting alone does not solve.
    pub fn of_whole(script: &'static str, error: &RedisError) -> Self {
        let code = error.code().unwrap_or_else(|| error.category());
        Self::new(script, &format!("{code} {}", error.detail().unwrap_or_default()))
    }
}

impl std::fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.lua: {}", self.script, self.detail)
    }
}

/// Returns the value of a metrics label. There are only a few values, whatever Redis's message is.
fn reason_of(text: &str) -> &'static str {
    // Redis 7 words a missing permission differently inside a script.
    if text.contains("can't run this command") || text.contains("can't access") {
        return "NOPERM";
    }
    ["WRONGTYPE", "NOPERM", "OOM", "MISCONF", "READONLY", "NOGROUP"]
        .into_iter()
        .find(|word| text.contains(word))
        .unwrap_or("ERR")
}

/// Returns the integers of a flat array reply. Any other value in it is an error.
pub(super) fn integers(value: Value) -> RedisResult<Vec<i64>> {
    redis::from_redis_value(value).map_err(Into::into)
}

/// Parses a list `number, reason, number, reason …`.
pub(super) fn failures(script: &'static str, list: Vec<Value>) -> Vec<(usize, ScriptFailure)> {
    let mut found = Vec::new();
    let mut list = list.into_iter();
    while let (Some(number), Some(reason)) = (list.next(), list.next()) {
        let number: i64 = redis::from_redis_value(number).unwrap_or(0);
        let reason: String = redis::from_redis_value(reason).unwrap_or_default();
        found.push((usize::try_from(number).unwrap_or(0).wrapping_sub(1), ScriptFailure::new(script, &reason)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_without_its_folder() {
        assert_eq!(script!("preflight/preflight" on "shared/fields").name(), "preflight");
        assert_eq!(Script::new("probe", "return 1").name(), "probe");
    }

    #[test]
    fn a_refusal_has_one_of_a_few_reasons() {
        for (text, reason) in [
            ("XADD {xco:0}:dead: WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
            ("RPUSH {xco:0}:reply:j: ERR The user executing the script can't run this command or subcommand", "NOPERM"),
            ("XADD {xco:0}:dead: ERR The stream has exhausted the last possible ID", "ERR"),
            ("", "ERR"),
        ] {
            assert_eq!(ScriptFailure::new("finish", text).reason, reason, "{text}");
        }
        assert_eq!(ScriptFailure::new("finish", &"x\n".repeat(300)).detail.len(), 200);
    }
}
