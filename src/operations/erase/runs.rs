//! Plans and runs of replays and discards whose filter or edit names the customer.

use super::customer::Matcher;
use crate::{
    operations::{
        Actor, Backend, MerchantScope,
        dead_letters::runs::{self as operations, RunError, RunState},
    },
    queue::runs,
};
use redis::RedisResult;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Replays {
    pub(super) found: u64,
    pub(super) erased: u64,
    /// The names of runs that go on: their processes need the request.
    pub(super) going_on: Vec<String>,
}

/// Finds plans and runs that name the customer, and erases them if `actor` is given. A plan is deleted. Of a run that is interrupted, the request
/// is deleted, so it cannot be continued: it is then stopped. A run that goes on is left.
pub(super) async fn find(
    backend: &mut Backend<'_>,
    matcher: &Matcher<'_>,
    actor: Option<&Actor>,
) -> RedisResult<Replays> {
    let keys = backend.common_keys();
    let mut replays = Replays::default();
    for (id, plan) in runs::plans(&mut backend.link, &keys).await? {
        if matcher.fits_request(&plan) {
            replays.found += 1;
            if actor.is_some() {
                replays.erased += runs::delete_plan(&mut backend.link, &keys, &id).await?;
            }
        }
    }
    for (name, fields) in runs::newest(&mut backend.link, &keys, runs::MAX_LISTED).await? {
        if !fields.get("request").is_some_and(|request| matcher.fits_request(request)) {
            continue;
        }
        replays.found += 1;
        if goes_on(backend, &name).await? {
            replays.going_on.push(name);
        } else if let Some(actor) = actor {
            runs::erase_request(&mut backend.link, &keys, &name, actor.name()).await?;
            replays.erased += 1;
        }
    }
    Ok(replays)
}

async fn goes_on(backend: &mut Backend<'_>, name: &str) -> RedisResult<bool> {
    let Ok(name) = name.parse() else { return Ok(false) };
    match operations::get(backend, &name, &MerchantScope::all()).await {
        Ok(run) => Ok(run.state == RunState::Running),
        // It has ended by itself.
        Err(RunError::UnknownRun) => Ok(false),
        // Not known: it counts as one that goes on.
        Err(_) => Ok(true),
    }
}
