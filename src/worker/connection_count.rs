//! Computes the number of connections to Redis that a worker makes.

use super::lane_reader::{FEW, MEMBERS};
use crate::{
    config::{Config, Durability},
    queue::SHARED,
};

/// Kinds of links that partitions share: four to admit and delay, three to rescue, two to finish, two for promotion and
/// cleaning.
const KINDS: u64 = 11;
/// Links that serve all partitions: gate, rules, heartbeat, clock, upstream health; with replication the history.
const FOR_ALL: u64 = 6;

/// Maximum number of simultaneous connections to Redis of a worker with this configuration, without the further nodes
/// of a cluster.
pub fn connections(config: &Config) -> u64 {
    let partitions = u64::from(config.redis.partitions.get());
    let (few, members, context) = (FEW as u64, MEMBERS as u64, SHARED as u64);
    let in_turn = partitions.min(context);
    let readers = if config.redis.url.len() > 1 || partitions <= few {
        2 * partitions
    } else {
        2 * (partitions.div_ceil(members) + in_turn)
    };
    let loops = match config.redis.durability {
        Durability::Single => KINDS * in_turn,
        Durability::Replicated => KINDS * partitions,
    };
    FOR_ALL + readers + loops
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::Partitions;

    #[test]
    fn few_connections_whatever_the_number_of_partitions() {
        let mut config = Config::default();
        for (partitions, wanted) in [(1, 19), (4, 58), (5, 60), (64, 60), (65, 62), (256, 66)] {
            config.redis.partitions = Partitions::new(partitions).unwrap();
            assert_eq!(connections(&config), wanted, "{partitions}");
        }
        config.redis.durability = Durability::Replicated;
        assert_eq!(connections(&config), 6 + 16 + 2_816);
    }
}
