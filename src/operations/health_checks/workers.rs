//! The workers that run, and whether they have the same settings.

use super::HealthCheck;
use crate::{
    config::RedisConfig,
    queue::{Keys, Link, clock::now_ms, workers},
};
use redis::RedisResult;

/// Maximum number of differences that the report names.
const SHOWN: usize = 5;

/// The check, and the number of running workers.
pub(super) async fn check(link: &mut Link, redis: &RedisConfig) -> RedisResult<(HealthCheck, usize)> {
    const NAME: &str = "workers";
    let keys = Keys::new(&redis.namespace, 0);
    let now_ms = now_ms(link).await?;
    let mut listed = workers::workers(link, &keys).await?;
    listed.retain(|_, beat| beat.is_recent(now_ms));
    let running = listed.len();
    if running == 0 {
        return Ok((HealthCheck::ok(NAME, "none is running"), running));
    }
    let differences = workers::differences(listed.iter().map(|(name, beat)| (name.as_str(), &beat.settings)));
    if differences.is_empty() {
        return Ok((HealthCheck::ok(NAME, format!("{running} running, with the same settings")), running));
    }
    let mut named: Vec<_> = differences.iter().take(SHOWN).map(ToString::to_string).collect();
    if differences.len() > SHOWN {
        named.push(format!("and {} more", differences.len() - SHOWN));
    }
    let remedy = "give all workers of a namespace the same settings: each goes by its own, and the limits of one are not those \
                  of the others";
    Ok((HealthCheck::warn(NAME, named.join("; "), remedy), running))
}
