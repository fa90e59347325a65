//! Waits for replicas if `redis.durability = "replicated"`, so that a write survives the loss of the master.

use super::{context::WorkerContext, redis_health::LoopHealth};
use crate::queue::{Link, maintenance};
use std::time::Duration;

/// How long one `WAIT` blocks.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits until a replica has the last write on `link`. Returns `false` if the connection broke or Redis is no longer
/// the master: then it is unknown which servers have the write, and it must be repeated.
pub(super) async fn await_replica(context: &WorkerContext, link: &mut Link, loop_health: &mut LoopHealth) -> bool {
    // An answer later than the link's timeout would look like an unreachable Redis.
    let patience = PATIENCE.min(context.response_timeout / 2);
    loop {
        match maintenance::wait_for_replica(link, patience).await {
            Ok(0) => {
                // The wait itself was pause enough.
                loop_health.blocked("replicate", "no replica acknowledges (redis.durability)".to_owned());
                context.metrics.redis_error("replicate");
            }
            Ok(_) => return true,
            Err(error) => {
                context.metrics.redis_error("replicate");
                tokio::time::sleep(loop_health.failed("replicate", &error)).await;
                return false;
            }
        }
    }
}
