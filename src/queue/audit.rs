//! What operators did: `{NS:0}:audit`, a stream with one entry an action.

use super::{Keys, Link};
use redis::{RedisResult, cmd};

/// The most entries kept, about: the oldest go first.
const KEPT: usize = 100_000;

/// One action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action<'a> {
    /// Who: a name, as the machine or the gateway knows it.
    pub who: &'a str,
    /// From where: a host, an address.
    pub from: &'a str,
    /// What was done: `dead replay`, `cancel`, `pause`, …
    pub action: &'a str,
    /// To what: flags and filters as JSON, without personal data.
    pub what: &'a str,
    /// How many jobs, letters or rules it concerned.
    pub count: u64,
}

/// Records an action. O(1).
///
/// # Errors
/// Whatever Redis says: an action that cannot be recorded should not be begun.
pub async fn record(link: &mut Link, namespace: &str, action: Action<'_>) -> RedisResult<()> {
    let keys = Keys::new(namespace, 0);
    let Action { who, from, action, what, count } = action;
    let mut add = cmd("XADD");
    add.arg(&keys.audit).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
    add.arg("who").arg(who).arg("from").arg(from).arg("action").arg(action).arg("what").arg(what);
    add.arg("count").arg(count);
    link.query::<String>(&add).await.map(drop)
}
