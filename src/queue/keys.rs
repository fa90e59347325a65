//! Every key this project uses in Redis, and what lies in it.
//!
//! All keys of a partition begin with the same hash tag, `{NS:P}`, so that a script touching several stays in one slot
//! of a Redis Cluster. The first five are public (contract §1); the rest is internal.
//!
//! | key | type | what |
//! |---|---|---|
//! | `{NS:P}:jobs:<lane>` | stream | jobs as producers enqueued them; the group's pending list is the ledger of deliveries |
//! | `{NS:P}:completions` | stream | one terminal completion per job |
//! | `{NS:P}:reply:<id>` | list, expires | the completion again, for one waiting request |
//! | `{NS:P}:dead` | stream | jobs that failed for good |
//! | `{NS:P}:edits` | stream | what replayed jobs were before an operator edited them |
//! | `{NS:P}:replay:<run>` | hash, expires | the last step of a replay, and its answer |
//! | `{NS:P}:due:<lane>` | stream | jobs that come back: promoted, handed back, or between two steps; read before the lane |
//! | `{NS:P}:delayed` | sorted set | parked jobs by due time (ms): member is the origin |
//! | `{NS:P}:delayed:jobs` | hash | origin → state, newline, job |
//! | `{NS:P}:begun` | hash | origin → who began an unsafe call that has not ended |
//! | `{NS:P}:id:<id>` | string, expires | origin of the job that reserved this id; rarely several, the latest first |
//! | `{NS:P}:ids` | list | when ids were reserved (`@` and ms), and their keys, until they are forgotten |
//! | `{NS:P}:limit:<bucket>` | string, expires | a limiter bucket, see `lua/limiter.lua` |
//! | `{NS:P}:waiting:<bucket>` | sorted set | bulk jobs in `delayed` that wait for a shared bucket: origins by age |
//! | `{NS:P}:learned` | sorted set, expires | buckets that met a 429 lately, by when (ms), the latest 1,000 |
//! | `{NS:P}:batch:<name>` | hash, expires | a batch's counters |
//! | `{NS:P}:backfill:<batch>` | hash, expires | how far a backfill was fed here (`queue/backfill.rs`) |
//! | `{NS:0}:backfill:<batch>:results` | string, expires | what became of its rows, four bytes each |
//! | `{NS:0}:meta` | hash | what all workers must agree on: `partitions` |
//! | `{NS:P}:probe:<type>` | any, expires | made and deleted by the check before work, within one script |
//! | `{NS:0}:breaker` | string, expires | XCO cannot be reached or refuses this client: no job is to be taken while it lives |
//! | `{NS:0}:breaker:<type>` | string, expires | calls of this type fail: jobs that make them step aside |
//! | `{NS:0}:audit` | stream | what operators did |
//! | `{NS:0}:control` | hash | operators' rules: name → order; `v` changes with them |
//! | `{NS:0}:workers` | hash, expires | what each worker says of itself, once a second |
//! | `{NS:P}:meta` | hash | what Redis's clock said last, its steps back, the last entries before them (`lua/clock.lua`); removed jobs |
//! | `{NS:P}:held` | set | names of the rules and breakers that hold jobs |
//! | `{NS:P}:held:<rule>` | sorted set | origins of the jobs that a pause or a breaker parked, with the score it gave them |
//! | `{NS:P}:stats` | hash | completions by type and status, since ever |

use crate::{
    contract::{Lane, Origin},
    limits::{Scope, SharedBucket},
};

/// The consumer group of all workers (contract §1).
pub const GROUP: &str = "workers";

/// The keys of one partition.
#[derive(Debug, Clone)]
pub struct Keys {
    tag: String,
    /// Its number.
    pub partition: u16,
    /// `jobs:<lane>`, by [`Lane`]
    jobs: [String; 2],
    due: [String; 2],
    /// `completions`
    pub completions: String,
    /// `dead`
    pub dead: String,
    /// `edits`
    pub edits: String,
    /// `delayed`
    pub delayed: String,
    /// `delayed:jobs`
    pub delayed_jobs: String,
    /// `begun`
    pub begun: String,
    /// `ids`
    pub ids: String,
    /// `stats`
    pub stats: String,
    /// `waiting:<bucket>`, by [`SharedBucket`]
    waiting: [String; 2],
    /// `learned`
    pub learned: String,
    /// `breaker`
    pub breaker: String,
    /// `audit`
    pub audit: String,
    /// `control`
    pub control: String,
    /// `workers`
    pub workers: String,
    /// `held`
    pub held: String,
    /// `meta`
    pub meta: String,
}

/// What type a key has in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `stream`
    Stream,
    /// `zset`
    SortedSet,
    /// `hash`
    Hash,
    /// `set`
    Set,
    /// `string`
    Text,
    /// `list`
    List,
    /// Something of a module's.
    Other,
}

impl Kind {
    /// From what `TYPE` says; none where there is no such key.
    pub fn of(said: &str) -> Option<Self> {
        Some(match said {
            "none" | "" => return None,
            "stream" => Self::Stream,
            "zset" => Self::SortedSet,
            "hash" => Self::Hash,
            "set" => Self::Set,
            "string" => Self::Text,
            "list" => Self::List,
            _ => Self::Other,
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stream => "a stream",
            Self::SortedSet => "a sorted set",
            Self::Hash => "a hash",
            Self::Set => "a set",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Other => "of another type",
        })
    }
}

/// A key whose name is the same for all jobs.
#[derive(Debug, Clone, Copy)]
pub struct FixedKey<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub kind: Kind,
    /// Whether jobs cannot be done without it.
    pub is_for_jobs: bool,
}

/// Which of a lane's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Jobs that come back: read first.
    Due,
    /// The public lane.
    Jobs,
}

impl Keys {
    /// The keys of partition `partition` in `namespace`.
    pub fn new(namespace: &str, partition: u16) -> Self {
        let tag = format!("{{{namespace}:{partition}}}");
        let key = |rest: &str| format!("{tag}:{rest}");
        Self {
            partition,
            jobs: [key("jobs:interactive"), key("jobs:bulk")],
            due: [key("due:interactive"), key("due:bulk")],
            completions: key("completions"),
            dead: key("dead"),
            edits: key("edits"),
            delayed: key("delayed"),
            delayed_jobs: key("delayed:jobs"),
            begun: key("begun"),
            ids: key("ids"),
            stats: key("stats"),
            waiting: SharedBucket::ALL.map(|bucket| key(&format!("waiting:{}", bucket.name()))),
            learned: key("learned"),
            breaker: key("breaker"),
            audit: key("audit"),
            control: key("control"),
            workers: key("workers"),
            held: key("held"),
            meta: key("meta"),
            tag,
        }
    }

    /// A lane's public stream.
    pub fn jobs(&self, lane: Lane) -> &str {
        &self.jobs[lane as usize]
    }

    /// A lane's stream of jobs that come back.
    pub fn due(&self, lane: Lane) -> &str {
        &self.due[lane as usize]
    }

    /// One of a lane's two streams.
    pub fn stream(&self, lane: Lane, source: Source) -> &str {
        match source {
            Source::Due => self.due(lane),
            Source::Jobs => self.jobs(lane),
        }
    }

    /// Every fixed key of the partition, `stats` last.
    pub fn fixed(&self) -> Vec<FixedKey<'_>> {
        let for_jobs = |name, kind| FixedKey { name, kind, is_for_jobs: true };
        let aside = |name, kind| FixedKey { name, kind, is_for_jobs: false };
        let mut fixed = Vec::new();
        for lane in Lane::ALL {
            fixed.push(for_jobs(self.jobs(lane), Kind::Stream));
            fixed.push(for_jobs(self.due(lane), Kind::Stream));
        }
        for bucket in SharedBucket::ALL {
            fixed.push(for_jobs(self.waiting(bucket), Kind::SortedSet));
        }
        fixed.extend([
            for_jobs(&self.completions, Kind::Stream),
            for_jobs(&self.dead, Kind::Stream),
            for_jobs(&self.delayed, Kind::SortedSet),
            for_jobs(&self.delayed_jobs, Kind::Hash),
            for_jobs(&self.begun, Kind::Hash),
            for_jobs(&self.ids, Kind::List),
            for_jobs(&self.learned, Kind::SortedSet),
            for_jobs(&self.held, Kind::Set),
            aside(&self.edits, Kind::Stream),
        ]);
        if self.partition == 0 {
            fixed.extend([
                for_jobs(&self.control, Kind::Hash),
                for_jobs(&self.meta, Kind::Hash),
                aside(&self.workers, Kind::Hash),
                aside(&self.audit, Kind::Stream),
                aside(&self.breaker, Kind::Text),
            ]);
        }
        fixed.push(for_jobs(&self.stats, Kind::Hash));
        fixed
    }

    /// A key for the check before work.
    pub fn probe(&self, kind: &str) -> String {
        format!("{}:probe:{kind}", self.tag)
    }

    /// The reply list of a job.
    pub fn reply(&self, id: &str) -> String {
        format!("{}:reply:{id}", self.tag)
    }

    /// What reserves an id.
    pub fn id(&self, id: &str) -> String {
        format!("{}:id:{id}", self.tag)
    }

    /// A limiter bucket.
    pub fn limit(&self, bucket: &str) -> String {
        format!("{}:limit:{bucket}", self.tag)
    }

    /// Where bulk jobs wait for a shared bucket.
    pub fn waiting(&self, bucket: SharedBucket) -> &str {
        &self.waiting[bucket as usize]
    }

    /// What says that a breaker is open.
    pub fn breaker_of(&self, scope: Scope) -> String {
        match scope {
            Scope::All => self.breaker.clone(),
            Scope::Route(route) => format!("{}:{}", self.breaker, route.config_key()),
        }
    }

    /// The jobs that a rule holds.
    pub fn held_by(&self, rule: &str) -> String {
        format!("{}:held:{rule}", self.tag)
    }

    /// A batch's counters.
    pub fn batch(&self, name: &str) -> String {
        format!("{}:batch:{name}", self.tag)
    }

    /// The receipt of a replay's last step.
    pub fn replay(&self, run: &str) -> String {
        format!("{}:replay:{run}", self.tag)
    }

    /// A backfill's checkpoint.
    pub fn backfill(&self, batch: &str) -> String {
        format!("{}:backfill:{batch}", self.tag)
    }

    /// A backfill's results.
    pub fn backfill_results(&self, batch: &str) -> String {
        format!("{}:backfill:{batch}:results", self.tag)
    }

    /// What a job is called in `delayed` and `begun`.
    pub fn token(origin: Origin) -> String {
        origin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_contract_and_share_one_hash_tag() {
        let keys = Keys::new("xco", 3);
        assert_eq!(keys.jobs(Lane::Interactive), "{xco:3}:jobs:interactive");
        assert_eq!(keys.jobs(Lane::Bulk), "{xco:3}:jobs:bulk");
        assert_eq!(keys.completions, "{xco:3}:completions");
        assert_eq!(keys.reply("a/b"), "{xco:3}:reply:a/b");
        assert_eq!(keys.dead, "{xco:3}:dead");
        for key in [keys.due(Lane::Bulk), &keys.delayed, &keys.delayed_jobs, &keys.begun, &keys.stats, &keys.id("x")] {
            assert!(key.starts_with("{xco:3}:"), "{key}");
        }
    }
}
