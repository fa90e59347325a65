//! What a check before work can find, in words that name the command or the key and what to do about it.

use crate::{contract::format_ms, queue::keys::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The user may not run a command.
    Forbidden {
        /// The command, with its subcommand where it has one.
        command: String,
        /// The user.
        user: String,
    },
    /// The user may not touch a key.
    ForbiddenKey {
        /// The key.
        key: String,
        /// The user.
        user: String,
    },
    /// Redis does not know a command: it is renamed, or Redis is too old.
    Unknown {
        /// The command.
        command: String,
    },
    /// A key is of another type than its own.
    WrongType {
        /// The key.
        key: String,
        /// What it is.
        found: Kind,
        /// What it must be.
        wanted: Kind,
        /// Whether jobs need it.
        forbids: bool,
    },
    /// A counter holds what cannot be counted on.
    NotANumber {
        /// The hash.
        key: String,
        /// The counter's field.
        field: String,
    },
    /// A stream takes no more entries: somebody wrote one with (nearly) the greatest id there is.
    Exhausted {
        /// The stream.
        key: String,
        /// Whether it is one that workers write to.
        forbids: bool,
    },
    /// The ids of a lane lie ahead of Redis's clock: a producer chose one, or the clock went back.
    Ahead {
        /// The lane.
        key: String,
        /// The time of its last id, in milliseconds. It is the same for all entries that follow.
        last_ms: u64,
    },
    /// Other workers count on another number of partitions.
    Partitions {
        /// `redis.partitions` here.
        configured: u16,
        /// What is kept in Redis.
        kept: String,
        /// Where it is kept.
        key: String,
    },
    /// Redis throws keys away when memory is short.
    Evicts {
        /// Its `maxmemory-policy`.
        policy: String,
        /// `redis.strict`
        strict: bool,
    },
    /// Redis has no append-only file: what it has acknowledged may be lost.
    NotKept,
    /// Redis refused a command for a reason of its own.
    Refused {
        /// The command.
        command: String,
        /// The first word of what Redis said.
        code: String,
    },
    /// The server may not be asked about eviction and persistence.
    Unseen {
        /// The user.
        user: String,
    },
}

impl Finding {
    /// Whether no work may begin with it.
    pub const fn forbids_work(&self) -> bool {
        match self {
            Self::Forbidden { .. }
            | Self::ForbiddenKey { .. }
            | Self::Unknown { .. }
            | Self::NotANumber { .. }
            | Self::Partitions { .. } => true,
            Self::WrongType { forbids, .. } | Self::Exhausted { forbids, .. } => *forbids,
            Self::Evicts { strict, .. } => *strict,
            Self::Ahead { .. } | Self::NotKept | Self::Refused { .. } | Self::Unseen { .. } => false,
        }
    }

    /// A short name for its kind, as a label of metrics.
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } | Self::ForbiddenKey { .. } => "permission",
            Self::Unknown { .. } | Self::Refused { .. } => "command",
            Self::WrongType { .. } | Self::NotANumber { .. } => "key_type",
            Self::Exhausted { .. } => "exhausted_stream",
            Self::Ahead { .. } => "future_ids",
            Self::Partitions { .. } => "partitions",
            Self::Evicts { .. } => "eviction",
            Self::NotKept => "persistence",
            Self::Unseen { .. } => "unseen",
        }
    }

    /// All names that [`Finding::what`] gives.
    pub const WHATS: [&'static str; 9] = [
        "permission",
        "command",
        "key_type",
        "exhausted_stream",
        "future_ids",
        "partitions",
        "eviction",
        "persistence",
        "unseen",
    ];

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Forbidden { command, user } => {
                let rule = command.to_lowercase().replace(' ', "|");
                format!("ACL SETUSER {user} +{rule}, or load the rules of deploy/redis/users.acl")
            }
            Self::ForbiddenKey { key, user } => {
                let tag = key.split_once(':').map_or(key.as_str(), |(tag, _)| tag);
                format!("ACL SETUSER {user} ~{tag}:*, or load the rules of deploy/redis/users.acl")
            }
            Self::Unknown { command } => {
                format!("do not rename {command} (rename-command in redis.conf); Redis 6.2 or Valkey 7.2 is the least")
            }
            Self::WrongType { key, .. } => {
                format!("find out who wrote it, keep it elsewhere if it is wanted (RENAME), then remove it: DEL {key}")
            }
            Self::NotANumber { key, field } => format!("HDEL {key} {field}"),
            Self::Exhausted { key, .. } => {
                format!("see \"A stream without ids\" in docs/redis-trouble.md: {key} has to begin anew")
            }
            Self::Ahead { key, .. } => format!(
                "producers must give XADD the id `*`; how {key} gets right ids again: \"A lane ahead of the clock\" in \
                 docs/redis-trouble.md"
            ),
            Self::Partitions { configured, kept, key } => format!(
                "set redis.partitions = {kept} here; to change the number for everybody stop all workers and producers \
                 once the queue is empty, then HSET {key} partitions {configured}"
            ),
            Self::Evicts { .. } => "CONFIG SET maxmemory-policy noeviction, and in redis.conf".to_owned(),
            Self::NotKept => "set appendonly yes (and appendfsync everysec, or always) in redis.conf".to_owned(),
            Self::Refused { .. } => "look at Redis's log".to_owned(),
            Self::Unseen { user } => format!("ACL SETUSER {user} +info, so that this can be checked"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { command, user } => write!(f, "Redis forbids {command} to user {user}"),
            Self::ForbiddenKey { key, user } => write!(f, "Redis forbids the key {key} to user {user}"),
            Self::Unknown { command } => write!(f, "Redis does not know {command}"),
            Self::WrongType { key, found, wanted, .. } => write!(f, "{key} is {found}, {wanted} is needed"),
            Self::NotANumber { key, field } => write!(f, "{key} holds no usable number in its field {field}"),
            Self::Exhausted { key, .. } => write!(f, "{key} takes no more entries: its ids are exhausted"),
            Self::Ahead { key, last_ms } => {
                write!(f, "the ids of {key} lie ahead of Redis's clock: at {}", format_ms(*last_ms))
            }
            Self::Partitions { configured, kept, .. } => {
                write!(f, "redis.partitions is {configured} here and {kept} for the workers that were first")
            }
            Self::Evicts { policy, .. } => {
                write!(f, "maxmemory-policy is {policy}: Redis throws jobs away when memory is short")
            }
            Self::NotKept => f.write_str("no append-only file: a crash of Redis loses jobs that it has acknowledged"),
            Self::Refused { command, code } => write!(f, "Redis refuses {command}: {code}"),
            Self::Unseen { user } => {
                write!(f, "Redis forbids INFO to user {user}: eviction and persistence are not checked")
            }
        }
    }
}

/// How many findings there are of each kind.
pub fn count(findings: &BTreeSet<Finding>) -> BTreeMap<&'static str, u64> {
    let mut counts: BTreeMap<_, _> = Finding::WHATS.into_iter().map(|what| (what, 0)).collect();
    for finding in findings {
        *counts.entry(finding.what()).or_default() += 1;
    }
    counts
}
