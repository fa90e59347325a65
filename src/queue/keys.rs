//! All Redis keys of this project, and what each contains.
//!
//! All keys of a partition begin with the same hash tag, `{NS:P}`, so that a script that uses several keys stays in one
//! slot of a Redis Cluster. The keys in the first four rows are public (contract §1). The others are internal.
//!
//! | key | type | what |
//! |---|---|---|
//! | `{NS:P}:jobs:<lane>` | stream | jobs as producers enqueued them; the group's pending list records the deliveries |
//! | `{NS:P}:completions` | stream | one completion per job |
//! | `{NS:P}:reply:<id>` | list, expires | the completion again, for one waiting request |
//! | `{NS:P}:dead` | stream | jobs that failed for good |
//! | `{NS:P}:edits` | stream | replayed jobs before and after an operator edited them |
//! | `{NS:P}:replay:<run>` | hash, expires | the last step of a replay, its answer, and how many dead letters it moved |
//! | `{NS:0}:run:<name>` | hash, expires | a replay or discard that a program runs for an operator (`queue/runs.rs`) |
//! | `{NS:0}:runs` | sorted set, expires | names of the runs, by the time (ms) at which they began |
//! | `{NS:0}:runs:live` | sorted set, expires | names of those that go on, by their last heartbeat (ms) |
//! | `{NS:0}:plan:<id>` | string, expires | the plan of a replay or discard, as JSON |
//! | `{NS:0}:plans` | sorted set, expires | ids of the plans, by the time (ms) at which they were made |
//! | `{NS:0}:history:<step>` | string, expires | one of three rings of records of how the queue was (`queue/history.rs`) |
//! | `{NS:0}:history:turn` | string, expires | exists while a step of the history has been recorded |
//! | `{NS:0}:latency` | hash, expires | since ever: how long jobs took, as two histograms; calls answered with 429 |
//! | `{NS:0}:reveals:<person>` | sorted set, expires | when a person was shown personal data (ms), by entry |
//! | `{NS:P}:due:<lane>` | stream | jobs that come back: promoted, handed back, or between two steps; read before the lane |
//! | `{NS:P}:delayed` | sorted set | origins of delayed jobs, by due time (ms) |
//! | `{NS:P}:delayed:jobs` | hash | origin → state, newline, job |
//! | `{NS:P}:begun` | hash | call markers: origin → the delivery that began an unsafe call that has not ended |
//! | `{NS:P}:index` | sorted set | slices of the index of ids, by the time (ms) at which each ends (`lua/ids/index.lua`) |
//! | `{NS:P}:index:<width>:<n>` | hash, expires | id → where its job was enqueued, and where it ended |
//! | `{NS:P}:id:<id>` | string, expires | written by former versions: origin of the job that reserved this id |
//! | `{NS:P}:ids` | list | written by former versions: times of reservation (`@` and ms), each followed by keys |
//! | `{NS:P}:limit:<bucket>` | string, expires | a limiter bucket, see `lua/limiter/limiter.lua` |
//! | `{NS:P}:recent:<0 or 1>` | hash, expires | callers' buckets that have no history: bucket's key → TAT, see `lua/limiter/recent.lua` |
//! | `{NS:P}:waiting:<bucket>` | sorted set | queue of bulk jobs in `delayed` that wait for a shared bucket: origins by age |
//! | `{NS:P}:learned` | sorted set, expires | buckets that met a 429 recently, by its time (ms), the latest 1,000 |
//! | `{NS:P}:batch:<name>` | hash, expires | a batch's counters |
//! | `{NS:P}:backfill:<batch>` | hash, expires | progress of a backfill in this partition (`queue/backfill.rs`) |
//! | `{NS:0}:backfill:<batch>:results` | string, expires | results of its rows, four bytes each |
//! | `{NS:0}:backfill:<batch>:customers` | string, expires | fingerprints of its customers, eight bytes for each row (`queue/backfill/customers.rs`) |
//! | `{NS:0}:backfills` | hash, expires | the backfills: batch → when a run began last (ms) |
//! | `{NS:0}:meta` | hash | what all workers must agree on: `partitions` |
//! | `{NS:P}:probe:<type>` | any, expires | made and deleted by the check before work, within one script |
//! | `{NS:0}:breaker` | string, expires | exists while XCO cannot be reached or refuses this client: no job is read |
//! | `{NS:0}:breaker:<type>` | string, expires | exists while calls of this type fail: jobs that make them are delayed |
//! | `{NS:0}:audit` | stream | operators' actions |
//! | `{NS:0}:control` | hash | operators' rules: name → order; `v` changes with every change |
//! | `{NS:0}:limits` | hash | overrides: limits and concurrency that operators changed; `v` changes with every change |
//! | `{NS:0}:workers` | hash, expires | heartbeats: what each worker reports once per second |
//! | `{NS:0}:session:<hash>` | string, expires | a login to the console (`queue/sessions.rs`) |
//! | `{NS:0}:session:end:<hash>` | string, expires | before this time (ms), logins of this person with this token have ended |
//! | `{NS:P}:meta` | hash | last reading of Redis's clock, its steps back, the last entries before them (`lua/schedule/clock.lua`); jobs removed by others, jobs taken unread |
//! | `{NS:P}:held` | set | names of the rules and breakers that delay jobs |
//! | `{NS:P}:held:<rule>` | sorted set | origins of the jobs that a pause or a breaker delayed, with their score in `delayed` |
//! | `{NS:P}:stats` | hash | completions by type and status, since the beginning |

use crate::{
    contract::{Lane, Origin},
    limits::{BreakerScope, SharedBucket},
};

/// The consumer group of all workers (contract §1).
pub const GROUP: &str = "workers";

/// The names of one partition's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    tag: String,
    /// The number of the partition.
    pub partition: u16,
    /// The keys `jobs:<lane>`, by [`Lane`].
    jobs: [String; 2],
    due: [String; 2],
    /// The stream `completions`.
    pub completions: String,
    /// The stream `dead`.
    pub dead: String,
    /// The stream `edits`.
    pub edits: String,
    /// The sorted set `delayed`.
    pub delayed: String,
    /// The hash `delayed:jobs`.
    pub delayed_jobs: String,
    /// The hash `begun`, with the call markers.
    pub begun: String,
    /// The sorted set `index`.
    pub index: String,
    /// The list `ids`, of former versions.
    pub ids: String,
    /// The hash `stats`.
    pub stats: String,
    /// The hashes `recent:0` and `recent:1`.
    pub recent: [String; 2],
    /// The sorted sets `waiting:<bucket>`, by [`SharedBucket`].
    waiting: [String; 2],
    /// The sorted set `learned`.
    pub learned: String,
    /// The key `breaker`, for all calls.
    pub breaker: String,
    /// The stream `audit`.
    pub audit: String,
    /// The hash `control`, with operators' rules.
    pub control: String,
    /// The hash `limits`, with overrides.
    pub limits: String,
    /// The hash `workers`.
    pub workers: String,
    /// The set `held`.
    pub held: String,
    /// The hash `meta`.
    pub meta: String,
}

/// The type of a key in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Redis calls it `stream`.
    Stream,
    /// Redis calls it `zset`.
    SortedSet,
    /// Redis calls it `hash`.
    Hash,
    /// Redis calls it `set`.
    Set,
    /// Redis calls it `string`.
    Text,
    /// Redis calls it `list`.
    List,
    /// A type defined by a Redis module.
    Other,
}

impl Kind {
    /// Converts the answer of `TYPE`. `None` if the key does not exist.
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

/// A key whose name does not depend on a job.
#[derive(Debug, Clone, Copy)]
pub struct FixedKey<'a> {
    /// The name of the key.
    pub name: &'a str,
    /// The type that the key must have.
    pub kind: Kind,
    /// Whether jobs cannot be processed without this key.
    pub is_for_jobs: bool,
}

/// One of a lane's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The stream of jobs that come back. It is read first.
    Due,
    /// The public stream, to which producers write.
    Jobs,
}

impl Keys {
    /// Creates the keys of one partition of a namespace.
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
            index: key("index"),
            ids: key("ids"),
            stats: key("stats"),
            recent: [key("recent:0"), key("recent:1")],
            waiting: SharedBucket::ALL.map(|bucket| key(&format!("waiting:{}", bucket.name()))),
            learned: key("learned"),
            breaker: key("breaker"),
            audit: key("audit"),
            control: key("control"),
            limits: key("limits"),
            workers: key("workers"),
            held: key("held"),
            meta: key("meta"),
            tag,
        }
    }

    /// Returns the public stream of a lane.
    pub fn jobs(&self, lane: Lane) -> &str {
        &self.jobs[lane as usize]
    }

    /// Returns the stream of jobs that come back to a lane.
    pub fn due(&self, lane: Lane) -> &str {
        &self.due[lane as usize]
    }

    /// Returns one of a lane's two streams.
    pub fn stream(&self, lane: Lane, source: Source) -> &str {
        match source {
            Source::Due => self.due(lane),
            Source::Jobs => self.jobs(lane),
        }
    }

    /// Returns every fixed key of the partition, with `stats` last.
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
            for_jobs(&self.index, Kind::SortedSet),
            for_jobs(&self.ids, Kind::List),
            for_jobs(&self.learned, Kind::SortedSet),
            for_jobs(&self.held, Kind::Set),
            aside(&self.edits, Kind::Stream),
        ]);
        if self.partition == 0 {
            fixed.extend([
                for_jobs(&self.control, Kind::Hash),
                for_jobs(&self.meta, Kind::Hash),
                aside(&self.limits, Kind::Hash),
                aside(&self.workers, Kind::Hash),
                aside(&self.audit, Kind::Stream),
                aside(&self.breaker, Kind::Text),
            ]);
        }
        fixed.push(for_jobs(&self.stats, Kind::Hash));
        fixed
    }

    /// Returns a key that the check before work may create and delete.
    pub fn probe(&self, kind: &str) -> String {
        format!("{}:probe:{kind}", self.tag)
    }

    /// Returns the key of a job's reply list.
    pub fn reply(&self, id: &str) -> String {
        format!("{}:reply:{id}", self.tag)
    }

    /// Returns the hash of a slice that `index` names.
    pub fn slice(&self, slice: &str) -> String {
        format!("{}:{slice}", self.index)
    }

    /// Returns the key with which former versions reserved an id.
    pub fn former_id(&self, id: &str) -> String {
        format!("{}:id:{id}", self.tag)
    }

    /// Returns the key of a limiter bucket.
    pub fn limit(&self, bucket: &str) -> String {
        format!("{}:limit:{bucket}", self.tag)
    }

    /// Returns the queue of bulk jobs that wait for a shared bucket.
    pub fn waiting(&self, bucket: SharedBucket) -> &str {
        &self.waiting[bucket as usize]
    }

    /// Returns the key that exists while a breaker is open.
    pub fn breaker_of(&self, scope: BreakerScope) -> String {
        match scope {
            BreakerScope::All => self.breaker.clone(),
            BreakerScope::Route(route) => format!("{}:{}", self.breaker, route.config_key()),
        }
    }

    /// Returns the key of the jobs that a rule or a breaker delays.
    pub fn held_by(&self, rule: &str) -> String {
        format!("{}:held:{rule}", self.tag)
    }

    /// Returns the key of a batch's counters.
    pub fn batch(&self, name: &str) -> String {
        format!("{}:batch:{name}", self.tag)
    }

    /// Returns the key that stores the last step of a replay and its answer.
    pub fn replay(&self, run: &str) -> String {
        format!("{}:replay:{run}", self.tag)
    }

    /// Returns the key of a run of a replay or a discard.
    pub fn run(&self, name: &str) -> String {
        format!("{}:run:{name}", self.tag)
    }

    /// Returns the key of the list of runs.
    pub fn runs(&self) -> String {
        format!("{}:runs", self.tag)
    }

    /// Returns the key of the list of runs that go on.
    pub fn live_runs(&self) -> String {
        format!("{}:runs:live", self.tag)
    }

    /// Returns the key of a plan.
    pub fn plan(&self, id: &str) -> String {
        format!("{}:plan:{id}", self.tag)
    }

    /// Returns the key of the list of plans.
    pub fn plans(&self) -> String {
        format!("{}:plans", self.tag)
    }

    /// Returns the key of a ring of the history.
    pub fn history(&self, step: &str) -> String {
        format!("{}:history:{step}", self.tag)
    }

    /// Returns the key that exists while a step of the history has been recorded.
    pub fn history_turn(&self) -> String {
        format!("{}:history:turn", self.tag)
    }

    /// Returns the key of the counts of how long jobs took.
    pub fn latency(&self) -> String {
        format!("{}:latency", self.tag)
    }

    /// Returns the key of the times at which a person was shown personal data.
    pub fn reveals(&self, person: &str) -> String {
        format!("{}:reveals:{person}", self.tag)
    }

    /// Returns the key of a backfill's checkpoint.
    pub fn backfill(&self, batch: &str) -> String {
        format!("{}:backfill:{batch}", self.tag)
    }

    /// Returns the key of the list of backfills.
    pub fn backfills(&self) -> String {
        format!("{}:backfills", self.tag)
    }

    /// Returns the key of a backfill's results.
    pub fn backfill_results(&self, batch: &str) -> String {
        format!("{}:backfill:{batch}:results", self.tag)
    }

    /// Returns the key of the fingerprints of a backfill's customers.
    pub fn backfill_customers(&self, batch: &str) -> String {
        format!("{}:backfill:{batch}:customers", self.tag)
    }

    /// Returns the key of a login to the console.
    pub fn session(&self, hash: &str) -> String {
        format!("{}:session:{hash}", self.tag)
    }

    /// Returns the key that ends the former logins of a person.
    pub fn sessions_end(&self, hash: &str) -> String {
        format!("{}:session:end:{hash}", self.tag)
    }

    /// Returns the name of a job in `delayed` and `begun`.
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
        for key in
            [keys.due(Lane::Bulk), &keys.delayed, &keys.delayed_jobs, &keys.begun, &keys.stats, &keys.former_id("x")]
        {
            assert!(key.starts_with("{xco:3}:"), "{key}");
        }
    }
}
