//! `redis.durability = "replicated"`: what must outlive the master is waited for.

use super::{health::Pulse, shared::Shared};
use crate::queue::{Link, upkeep};
use std::time::Duration;

/// How long `WAIT` waits for a replica before it is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits until a replica has what was just written on `link`; `false` where that was cut, or Redis is no master any more:
/// nobody knows then who has it, and the write is to be repeated.
pub(super) async fn await_replica(shared: &Shared, link: &mut Link, pulse: &mut Pulse) -> bool {
    // An answer that comes later than the link waits for would look like a Redis that is gone.
    let patience = PATIENCE.min(shared.response_timeout / 2);
    loop {
        match upkeep::wait_for_replica(link, patience).await {
            Ok(0) => {
                // To have waited in vain is pause enough.
                pulse.hindered("replicate", "no replica acknowledges (redis.durability)".to_owned());
                shared.metrics.redis_error("replicate");
            }
            Ok(_) => return true,
            Err(error) => {
                shared.metrics.redis_error("replicate");
                tokio::time::sleep(pulse.ill("replicate", &error)).await;
                return false;
            }
        }
    }
}
