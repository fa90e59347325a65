//! The audit of operators' actions: the stream `{NS:0}:audit`, with one entry per action.

use super::{Keys, Link};
use redis::{RedisResult, cmd};

/// Approximate maximum number of entries. The oldest are removed first.
const KEPT: usize = 100_000;

/// An action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action<'a> {
    /// The operator's name, as the machine or the gateway knows it.
    pub who: &'a str,
    /// The host or address from which the operator acted.
    pub from: &'a str,
    /// The name of the action, such as `dead replay`, `cancel` or `pause`.
    pub action: &'a str,
    /// The subject of the action: flags and filters as JSON, without personal data.
    pub what: &'a str,
    /// The number of jobs, dead letters or rules that were affected.
    pub count: u64,
}

/// Records an action. O(1).
///
/// # Errors
/// Returns the error from Redis. An action that cannot be recorded should not be started.
pub async fn record(link: &mut Link, namespace: &str, action: Action<'_>) -> RedisResult<()> {
    let keys = Keys::new(namespace, 0);
    let Action { who, from, action, what, count } = action;
    let mut add = cmd("XADD");
    add.arg(&keys.audit).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
    add.arg("who").arg(who).arg("from").arg(from).arg("action").arg(action).arg("what").arg(what);
    add.arg("count").arg(count);
    link.query::<String>(&add).await.map(drop)
}
