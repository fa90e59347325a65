//! The findings of the check before work. Their texts name the command or the key and the remedy.

use crate::{contract::format_ms, queue::keys::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A condition of Redis that prevents or endangers work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The user may not run a command.
    Forbidden {
        /// The command, with its subcommand if it has one.
        command: String,
        /// The user without the permission.
        user: String,
    },
    /// The user may not access a key.
    ForbiddenKey {
        /// The name of the key.
        key: String,
        /// The user without the permission.
        user: String,
    },
    /// Redis does not know a command: it was renamed, or Redis is too old.
    Unknown {
        /// The unknown command.
        command: String,
    },
    /// A key has the wrong type.
    WrongType {
        /// The name of the key.
        key: String,
        /// The type that the key has.
        found: Kind,
        /// The type that the key must have.
        wanted: Kind,
        /// Whether jobs need the key.
        forbids: bool,
    },
    /// A counter is not a number, or has no room to grow.
    NotANumber {
        /// The hash with the counter.
        key: String,
        /// The field of the counter.
        field: String,
    },
    /// A stream accepts no more entries, because an entry was added with (nearly) the highest possible id.
    Exhausted {
        /// The name of the stream.
        key: String,
        /// Whether workers write to the stream.
        forbids: bool,
    },
    /// The ids of a lane are ahead of Redis's clock: a producer chose one, or the clock went back.
    Ahead {
        /// The lane's stream.
        key: String,
        /// The time of the lane's last id, in milliseconds. All later entries get the same time.
        last_ms: u64,
    },
    /// Other workers use a different number of partitions.
    Partitions {
        /// `redis.partitions` in this configuration.
        configured: u16,
        /// The number stored in Redis.
        kept: String,
        /// The key that stores the number.
        key: String,
    },
    /// Redis evicts keys when memory is short.
    Evicts {
        /// The value of `maxmemory-policy`.
        policy: String,
        /// The value of `redis.strict`.
        strict: bool,
    },
    /// Redis has no append-only file, so a crash may lose acknowledged data.
    NotKept,
    /// Redis refused a command for another reason.
    Refused {
        /// The refused command.
        command: String,
        /// The first word of Redis's message.
        code: String,
    },
    /// The user may not ask the server about eviction and persistence.
    Unseen {
        /// The user without the permission.
        user: String,
    },
}

impl Finding {
    /// Whether the finding forbids all work.
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

    /// A short name of the kind, for metrics labels.
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

    /// All names that [`Finding::what`] returns.
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

    /// What an operator can do about the finding.
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

/// Counts the findings of each kind.
pub fn count(findings: &BTreeSet<Finding>) -> BTreeMap<&'static str, u64> {
    let mut counts: BTreeMap<_, _> = Finding::WHATS.into_iter().map(|what| (what, 0)).collect();
    for finding in findings {
        *counts.entry(finding.what()).or_default() += 1;
    }
    counts
}
