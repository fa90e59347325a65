//! Jobs that another program than a worker removed from their lanes.

use super::{super::age, HealthCheck};
use crate::{
    config::RedisConfig,
    contract::Lane,
    queue::{Keys, Link, clock, rescue},
};
use redis::RedisResult;

/// A loss older than this is not reported any more.
const RECENT_MS: u64 = 86_400_000;

/// What workers reported of one lane.
#[derive(Debug)]
struct Loss {
    lane: String,
    jobs: u64,
    ago_ms: u64,
}

/// One check of all lanes, with one round trip for each lane.
pub(super) async fn check(link: &mut Link, redis: &RedisConfig) -> RedisResult<HealthCheck> {
    let now_ms = clock::now_ms(link).await?;
    let mut losses = Vec::new();
    for number in redis.partitions.numbers() {
        let keys = Keys::new(&redis.namespace, number);
        for lane in Lane::ALL {
            if let Some(removed) = rescue::removed(link, &keys, lane).await? {
                let (lane, ago_ms) = (keys.jobs(lane).to_owned(), now_ms.saturating_sub(removed.at_ms));
                losses.push(Loss { lane, jobs: removed.count, ago_ms });
            }
        }
    }
    Ok(tell(losses))
}

fn tell(mut losses: Vec<Loss>) -> HealthCheck {
    const NAME: &str = "removed jobs";
    losses.retain(|loss| loss.jobs > 0 && loss.ago_ms <= RECENT_MS);
    losses.sort_by_key(|loss| loss.ago_ms);
    let Some(last) = losses.first() else {
        return HealthCheck::ok(NAME, "no worker missed any within the last day");
    };
    let jobs: u64 = losses.iter().map(|loss| loss.jobs).sum();
    let (lane, ago) = (&last.lane, age(last.ago_ms));
    let detail = format!("{jobs} were removed from lanes before they had ended, from {lane} {ago} ago");
    let remedy = "nothing but a worker may remove entries: no XADD with MAXLEN or MINID, no XTRIM, XDEL or DEL; enqueue \
                  what is missing again under the same ids";
    HealthCheck::warn(NAME, detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::HealthStatus;
    use super::*;

    fn loss(jobs: u64, ago_ms: u64) -> Loss {
        Loss { lane: format!("{{xco:{jobs}}}:jobs:bulk"), jobs, ago_ms }
    }

    #[test]
    fn a_loss_is_told_for_a_day() {
        assert_eq!(tell(Vec::new()).status, HealthStatus::Ok);
        assert_eq!(tell(vec![loss(3, RECENT_MS + 1), loss(0, 5)]).status, HealthStatus::Ok);
        let lost = tell(vec![loss(3, 120_000), loss(4, 60_000)]);
        assert_eq!(lost.status, HealthStatus::Warn);
        assert!(
            lost.detail.starts_with("7 were removed") && lost.detail.contains("{xco:4}:jobs:bulk"),
            "{}",
            lost.detail
        );
    }
}
