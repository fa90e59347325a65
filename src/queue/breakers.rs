//! The state that workers share about XCO: open circuit breakers, and jobs that are delayed because of them.
//!
//! An open breaker is a key that expires when the breaker should be tested again. A job whose route's breaker is not
//! closed is delayed like a paused job (`lua/rules/delay_paused.lua`), under a name made of the route and the lane. It is resumed
//! (`lua/rules/resume_paused.lua`) when the route works again.

use super::{Keys, Link};
use crate::{
    contract::{JobType, Lane},
    limits::BreakerScope,
};
use redis::{RedisResult, cmd, pipe};

/// No breaker stays open as long as this. A key that would live longer is ignored.
const LONGEST_OPEN_MS: u64 = 10_000;

/// Informs the other workers that a breaker opened for `open_ms`. Of two such reports, the longer one counts.
pub async fn tell(link: &mut Link, keys: &Keys, scope: BreakerScope, open_ms: u64) -> RedisResult<()> {
    let key = keys.breaker_of(scope);
    let already_ms: i64 = link.query(cmd("PTTL").arg(&key)).await?;
    match open_for(already_ms) {
        Some(already_ms) if already_ms >= open_ms => Ok(()),
        _ => link.query(cmd("SET").arg(key).arg("open").arg("PX").arg(open_ms.max(1))).await,
    }
}

/// Returns the breakers that are open on any worker, with the remaining milliseconds. One round trip.
pub async fn open(link: &mut Link, keys: &Keys) -> RedisResult<Vec<(BreakerScope, u64)>> {
    let mut asked = pipe();
    for scope in BreakerScope::every() {
        asked.cmd("PTTL").arg(keys.breaker_of(scope));
    }
    let lives: Vec<i64> = link.pipeline(&asked).await?;
    Ok(BreakerScope::every().zip(lives).filter_map(|(scope, life_ms)| Some((scope, open_for(life_ms)?))).collect())
}

/// Converts the remaining life of a key. A life longer than any breaker stays open means that Redis's clock went back,
/// and is ignored.
fn open_for(life_ms: i64) -> Option<u64> {
    u64::try_from(life_ms).ok().filter(|ms| (1..=LONGEST_OPEN_MS).contains(ms))
}

/// Prefix that distinguishes the names of breakers from those of operators' rules. A rule's name begins with a verb.
const PREFIX: &str = "breaker:";

/// The name under which jobs of a route and lane are delayed while the route's breaker is not closed.
pub fn hold_name(route: JobType, lane: Lane) -> String {
    format!("{PREFIX}{}:{}", route.config_key(), lane.as_str())
}

/// Returns the route that a name belongs to. `None` if it is the name of a rule.
pub fn held_route(name: &str) -> Option<JobType> {
    let (route, _) = name.strip_prefix(PREFIX)?.split_once(':')?;
    JobType::ALL.into_iter().find(|job_type| job_type.config_key() == route)
}

/// Counts the jobs delayed by breakers in a partition, by route and lane. One round trip, O(1).
pub async fn count_held(link: &mut Link, keys: &Keys) -> RedisResult<Vec<(JobType, Lane, u64)>> {
    let places = || JobType::ALL.into_iter().flat_map(|route| Lane::ALL.map(|lane| (route, lane)));
    let mut asked = pipe();
    for (route, lane) in places() {
        asked.cmd("ZCARD").arg(keys.held_by(&hold_name(route, lane)));
    }
    let counts: Vec<u64> = link.pipeline(&asked).await?;
    Ok(places().zip(counts).map(|((route, lane), count)| (route, lane, count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_route_and_no_rule_of_an_operator_looks_like_one() {
        for route in JobType::ALL {
            for lane in Lane::ALL {
                assert_eq!(held_route(&hold_name(route, lane)), Some(route));
            }
        }
        for other in ["pause {\"lane\":\"bulk\"}", "breaker:", "breaker:nothing:bulk", "pause breaker:create_user:bulk"]
        {
            assert_eq!(held_route(other), None, "{other}");
        }
    }
}
