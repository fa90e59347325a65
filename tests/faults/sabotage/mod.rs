//! Commands that fail in the middle of a script. Redis does not roll a script back: what it did before a command failed
//! stays done. Every script is therefore run with each of its writing commands failing in turn, and the required result
//! is looked up in Redis itself.
//!
//! The product has no support for this. A [`Proxy`] between a client and Redis learns scripts from the client's own
//! `SCRIPT LOAD`. To refuse a command, it sends the script with `prefix.lua` before its text: the prefix replaces
//! `redis.call` and `redis.pcall` by functions that refuse commands as Redis would.
//!
//! | where | what |
//! |---|---|
//! | [`systematic`] | every script alone: the k-th writing command refused for each k, each command forbidden, each key spoiled |
//! | [`scenes`] | how each script is called and what must hold: a new script is covered by a scene of its own there |
//! | [`end_to_end`] | workers whose scripts fail by chance, judged by the model |

mod end_to_end;
mod proxy;
mod resp;
mod scenes;
mod systematic;

pub(crate) use proxy::Proxy;
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};

/// Key in which the prefix records refused commands: outside every namespace.
pub(crate) const LOG: &str = "sabotage:log";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    WrongType,
    NoPermission,
    Error,
    OutOfMemory,
}

impl Refusal {
    pub(crate) const ALL: [Self; 4] = [Self::WrongType, Self::NoPermission, Self::Error, Self::OutOfMemory];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::NoPermission => "NOPERM this user has no permissions to run this command",
            Self::Error => "ERR The stream has exhausted the last possible ID, unable to add more items",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sabotage {
    /// Nothing fails; writing commands are recorded.
    Trace,
    /// The k-th writing command of a run is refused. With `again`, so is the same command on the same key later in the
    /// run, unless it succeeded before: within a script Redis does not change its mind.
    Kth { k: u32, refusal: Refusal, again: bool },
    /// In each run a random writing command is refused, with this chance in 10,000.
    Chance { of_10_000: u32 },
    /// Every use of one command is refused, as if its permission had been withdrawn.
    Forbid(String),
    /// Every command whose first key is this one is refused, except commands that do not check its type.
    WrongKey(String),
}

impl Sabotage {
    /// Instructions to the prefix for one run of a script; `None` if nothing is to fail.
    fn spec(&self, script: &str, rng: &mut StdRng) -> Option<Value> {
        let mut spec = json!({"script": script, "log": LOG});
        match self {
            Self::Trace => spec["trace"] = json!(true),
            Self::Kth { k, refusal, again } => {
                spec["k"] = json!(k);
                spec["text"] = json!(refusal.text());
                spec["again"] = json!(again);
            }
            Self::Chance { of_10_000 } => {
                if rng.random_range(0..10_000) >= *of_10_000 {
                    return None;
                }
                // Earlier commands more often, because most runs write little.
                let k = rng.random_range(1..13).min(rng.random_range(1..13));
                spec["k"] = json!(k);
                spec["text"] = json!(Refusal::ALL[rng.random_range(0..Refusal::ALL.len())].text());
                spec["again"] = json!(rng.random_bool(0.5));
            }
            Self::Forbid(command) => spec["forbid"] = json!(command.to_lowercase()),
            Self::WrongKey(key) => spec["key"] = json!(key),
        }
        Some(spec)
    }
}

/// The prefix's record of one command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Noted {
    pub(crate) script: String,
    /// Index of the command among the run's writing commands, from 1.
    pub(crate) k: u32,
    pub(crate) command: String,
    pub(crate) key: String,
}

impl Noted {
    /// Parses a line of the log: a refused command or, in a trace, a write.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').skip(1).map(str::to_owned);
        Some(Self {
            script: fields.next()?,
            k: fields.next()?.parse().ok()?,
            command: fields.next()?,
            key: fields.next()?,
        })
    }
}

/// Takes the records made since the last call.
pub(crate) async fn noted(connection: &mut redis::aio::MultiplexedConnection) -> Vec<Noted> {
    let mut take = redis::pipe();
    take.atomic().cmd("LRANGE").arg(LOG).arg(0).arg(-1).cmd("DEL").arg(LOG).ignore();
    let (lines,): (Vec<String>,) = take.query_async(connection).await.unwrap();
    lines.iter().filter_map(|line| Noted::parse(line)).collect()
}
