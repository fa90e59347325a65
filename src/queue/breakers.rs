//! What workers tell each other of XCO: breakers that are open, and jobs that stepped aside because of them.
//!
//! A breaker that is open is a key that lives for as long. A job that steps aside is held like one that an operator pauses
//! (`lua/hold.lua`), under the name of its route's breaker and its lane, and called up (`lua/release.lua`) once the route is back.

use super::{Keys, Link};
use crate::{
    contract::{JobType, Lane},
    limits::Scope,
};
use redis::{RedisResult, cmd, pipe};

/// No breaker is open for longer before the next look.
const LONGEST_OPEN_MS: u64 = 10_000;

/// Tells the other workers that a breaker opened, for `open_ms`. Of two, the longer holds.
pub async fn tell(link: &mut Link, keys: &Keys, scope: Scope, open_ms: u64) -> RedisResult<()> {
    let key = keys.breaker_of(scope);
    let already_ms: i64 = link.query(cmd("PTTL").arg(&key)).await?;
    match open_for(already_ms) {
        Some(already_ms) if already_ms >= open_ms => Ok(()),
        _ => link.query(cmd("SET").arg(key).arg("open").arg("PX").arg(open_ms.max(1))).await,
    }
}

/// Which breakers are open, on whichever worker, and for how many milliseconds still. One round trip.
pub async fn open(link: &mut Link, keys: &Keys) -> RedisResult<Vec<(Scope, u64)>> {
    let mut asked = pipe();
    for scope in Scope::every() {
        asked.cmd("PTTL").arg(keys.breaker_of(scope));
    }
    let lives: Vec<i64> = link.pipeline(&asked).await?;
    Ok(Scope::every().zip(lives).filter_map(|(scope, life_ms)| Some((scope, open_for(life_ms)?))).collect())
}

/// From a key's life. Longer than any breaker opens: Redis's clock went back while one was open. It counts no more.
fn open_for(life_ms: i64) -> Option<u64> {
    u64::try_from(life_ms).ok().filter(|ms| (1..=LONGEST_OPEN_MS).contains(ms))
}

/// Before the name of a route's breaker, among the names of rules that hold jobs. Operators' rules begin with a verb.
const PREFIX: &str = "breaker:";

/// Under which name the jobs of a route and lane are held while its breaker is not closed.
pub fn hold_name(route: JobType, lane: Lane) -> String {
    format!("{PREFIX}{}:{}", route.config_key(), lane.as_str())
}

/// Whose jobs are held under a name; `None`: a rule's.
pub fn held_route(name: &str) -> Option<JobType> {
    let (route, _) = name.strip_prefix(PREFIX)?.split_once(':')?;
    JobType::ALL.into_iter().find(|job_type| job_type.config_key() == route)
}

/// How many jobs of each route are held in a partition, by route and lane. One round trip, O(1).
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
