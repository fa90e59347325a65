//! A whole namespace, for a program that has one to itself, such as the demo.

use super::{Backend, Error};
use crate::{
    contract::Lane,
    queue::{Keys, Link},
};
use redis::{RedisResult, cmd};

/// How many completions are kept in partition 0.
///
/// # Errors
/// [`Error::Redis`].
pub async fn kept_completions(backend: &mut Backend<'_>) -> Result<u64, Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    backend.link.query(cmd("XLEN").arg(keys.completions)).await.map_err(failed)
}

/// Removes everything that a namespace of one partition holds: jobs, completions, dead letters, limits, rules. No worker
/// may run there, and the Redis user needs `UNLINK`, which the users of `deploy/redis/users.acl` may not. In a cluster, keys
/// that expire by themselves are left.
///
/// # Errors
/// [`Error::Redis`]. Some keys may be removed by then.
pub async fn remove(backend: &mut Backend<'_>) -> Result<(), Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let (namespace, is_cluster) = (backend.namespace(), backend.redis().url.len() > 1);
    remove_keys(&mut backend.link, &keys, namespace, is_cluster).await.map_err(failed)
}

async fn remove_keys(link: &mut Link, keys: &Keys, namespace: &str, is_cluster: bool) -> RedisResult<()> {
    for key in Lane::ALL.into_iter().flat_map(|lane| [keys.jobs(lane), keys.due(lane)]) {
        link.query::<u64>(cmd("UNLINK").arg(key)).await?;
    }
    for key in [&keys.completions, &keys.dead, &keys.delayed, &keys.delayed_jobs, &keys.begun, &keys.stats] {
        link.query::<u64>(cmd("UNLINK").arg(key)).await?;
    }
    // A cluster cannot be scanned as a whole.
    if is_cluster {
        return Ok(());
    }
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(format!("{{{namespace}:*")).arg("COUNT").arg(1000);
        let (next, found): (String, Vec<String>) = link.query(&scan).await?;
        for key in found {
            link.query::<u64>(cmd("UNLINK").arg(key)).await?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}
