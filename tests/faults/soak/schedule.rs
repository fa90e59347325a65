//! The time, target and duration of each fault, drawn from a seed alone.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::fmt;
use xco_worker::sandbox::Route;

pub(crate) const WORKERS: usize = 3;

/// The workers' lease, in milliseconds.
pub(crate) const LEASE_MS: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL, and a new worker some time later.
    WorkerKilled,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    WorkerPaused,
    /// SIGTERM, and a new worker once the old one has ended.
    WorkerStopped,
    /// SIGHUP, and a new worker with another lease once the old one has ended.
    WorkerLeaseChanged,
    RedisCut,
    RedisStalled,
    RedisHalfOpen,
    RedisLate,
    RedisReplyLost,
    RedisReplyTorn,
    /// SIGKILL, and a restart some time later.
    RedisKilled,
    /// SIGSTOP, then SIGCONT.
    RedisHung,
    /// `CLIENT KILL`
    RedisClientsKilled,
    /// `SCRIPT FLUSH`
    RedisScriptsFlushed,
    XcoRefused,
    XcoCut,
    XcoStalled,
    XcoHalfOpen,
    XcoLate,
    /// RST in the middle of an answer.
    XcoReset,
    Xco500,
    Xco502,
    Xco503,
    /// 429 with `Retry-After`.
    Xco429After,
    /// 429 without `Retry-After`.
    Xco429,
    /// Every call is answered 503.
    XcoOutage,
    /// Every call of one route is answered 500.
    XcoRouteFails,
    /// Calls take effect and get an answer that is not XCO's own: another 5xx, or a redirect.
    XcoForeignAnswer,
    XcoSlow,
    XcoTruncated,
    /// Every token issued so far is refused.
    XcoTokensRevoked,
    /// One of the queue's keys has a wrong type, and gets its content back some time later.
    KeySpoiled,
    /// Jobs are enqueued whose reply lists already have a wrong type.
    RepliesSpoiled,
    /// The workers' user may not run one of its commands.
    PermissionWithdrawn,
    /// `XGROUP DELCONSUMER`, repeatedly: the consumers' deliveries disappear from the pending list.
    ConsumerDeleted,
    /// `XACK` of deliveries by something other than their worker, repeatedly.
    ForeignAck,
    /// Commands in a worker's scripts fail at random.
    ScriptSabotaged,
    /// Redis's clock jumps, and jumps back some time later.
    ClockStepped,
}

/// Target of a fault. Each target has one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Workers,
    RedisWay,
    Redis,
    XcoWay,
    Xco,
    Keys,
    Replies,
    Permissions,
    Deliveries,
    Scripts,
    Clock,
}

const PLACES: usize = Place::Clock as usize + 1;

use Kind::{
    ClockStepped, ConsumerDeleted, ForeignAck, KeySpoiled, PermissionWithdrawn, RedisClientsKilled, RedisCut,
    RedisHalfOpen, RedisHung, RedisKilled, RedisLate, RedisReplyLost, RedisReplyTorn, RedisScriptsFlushed,
    RedisStalled, RepliesSpoiled, ScriptSabotaged, WorkerKilled, WorkerLeaseChanged, WorkerPaused, WorkerStopped,
    Xco429, Xco429After, Xco500, Xco502, Xco503, XcoCut, XcoForeignAnswer, XcoHalfOpen, XcoLate, XcoOutage, XcoRefused,
    XcoReset, XcoRouteFails, XcoSlow, XcoStalled, XcoTokensRevoked, XcoTruncated,
};

/// The keys that are spoiled: those that the queue depends on. (The last stands for the latest batch.)
const SPOILED: [&str; 9] =
    ["completions", "dead", "stats", "delayed", "delayed:jobs", "begun", "due:interactive", "due:bulk", "batch"];
/// The commands whose permission is withdrawn: those that a worker's scripts write with.
const WITHDRAWN: [&str; 12] =
    ["rpush", "xadd", "hincrby", "expire", "zadd", "xclaim", "zrem", "xdel", "hdel", "hset", "xack", "evalsha"];
/// The leases of new workers, including [`LEASE_MS`], in milliseconds.
const LEASES_MS: [u64; 3] = [LEASE_MS, LEASE_MS * 2 / 3, LEASE_MS * 2];
const ROUTES: [Route; 5] = [Route::Exists, Route::Create, Route::Start, Route::Verify, Route::Consent];
/// Statuses that are not XCO's own.
const FOREIGN: [u16; 5] = [303, 504, 520, 522, 524];
/// Steps of Redis's clock, in milliseconds. A step forward, or the return from a step back, is shorter than the lifetime
/// of replies (5 min), ids and completions (10 min) here.
const STEPS_MS: [i64; 6] = [-200_000, -20_000, -2_000, 2_000, 20_000, 60_000];

impl Kind {
    pub(crate) const ALL: [Self; 38] = [
        WorkerKilled,
        WorkerPaused,
        WorkerStopped,
        WorkerLeaseChanged,
        RedisCut,
        RedisStalled,
        RedisHalfOpen,
        RedisLate,
        RedisReplyLost,
        RedisReplyTorn,
        RedisKilled,
        RedisHung,
        RedisClientsKilled,
        RedisScriptsFlushed,
        XcoRefused,
        XcoCut,
        XcoStalled,
        XcoHalfOpen,
        XcoLate,
        XcoReset,
        Xco500,
        Xco502,
        Xco503,
        Xco429After,
        Xco429,
        XcoOutage,
        XcoRouteFails,
        XcoForeignAnswer,
        XcoSlow,
        XcoTruncated,
        XcoTokensRevoked,
        KeySpoiled,
        RepliesSpoiled,
        PermissionWithdrawn,
        ConsumerDeleted,
        ForeignAck,
        ScriptSabotaged,
        ClockStepped,
    ];

    const fn place(self) -> Place {
        match self {
            WorkerKilled | WorkerPaused | WorkerStopped | WorkerLeaseChanged => Place::Workers,
            RedisCut | RedisStalled | RedisHalfOpen | RedisLate | RedisReplyLost | RedisReplyTorn => Place::RedisWay,
            RedisKilled | RedisHung | RedisClientsKilled | RedisScriptsFlushed => Place::Redis,
            XcoRefused | XcoCut | XcoStalled | XcoHalfOpen | XcoLate | XcoReset => Place::XcoWay,
            Xco500 | Xco502 | Xco503 | Xco429After | Xco429 | XcoOutage | XcoRouteFails | XcoForeignAnswer
            | XcoSlow | XcoTruncated | XcoTokensRevoked => Place::Xco,
            KeySpoiled => Place::Keys,
            RepliesSpoiled => Place::Replies,
            PermissionWithdrawn => Place::Permissions,
            ConsumerDeleted | ForeignAck => Place::Deliveries,
            ScriptSabotaged => Place::Scripts,
            ClockStepped => Place::Clock,
        }
    }

    /// Minimum and maximum duration, in milliseconds.
    const fn lasts(self) -> (u64, u64) {
        match self {
            RedisCut | RedisClientsKilled | RedisScriptsFlushed | XcoCut | XcoTokensRevoked => (0, 1),
            WorkerKilled | WorkerStopped | WorkerLeaseChanged => (100, 1_500),
            WorkerPaused => (LEASE_MS + 500, LEASE_MS + 4_000),
            RedisKilled => (200, 2_000),
            // Shorter than a response timeout, or longer than a lease.
            RedisStalled | RedisHalfOpen | RedisHung => (300, LEASE_MS + 1_500),
            XcoRefused | XcoHalfOpen | XcoStalled | KeySpoiled | PermissionWithdrawn | ScriptSabotaged => (500, 4_000),
            XcoOutage | XcoRouteFails => (2_000, 6_000),
            RedisLate | RedisReplyLost | RedisReplyTorn | XcoLate | XcoReset | XcoSlow => (1_500, 4_000),
            Xco500 | Xco502 | Xco503 | Xco429After | Xco429 | XcoForeignAnswer | XcoTruncated | RepliesSpoiled
            | ConsumerDeleted | ForeignAck => (1_000, 3_000),
            ClockStepped => (500, LEASE_MS + 2_000),
        }
    }

    /// If this fault may delay a call between its admission and its arrival at XCO: how long that lasts after the
    /// fault, in milliseconds.
    pub(crate) const fn holds_calls_back(self) -> Option<u64> {
        match self.place() {
            Place::XcoWay => Some(3_000),
            _ => match self {
                // A new or refused worker must fetch a token before the admitted call.
                WorkerKilled | WorkerStopped | WorkerLeaseChanged | XcoTokensRevoked => Some(1_000),
                // A job that waits for a slot gets it at another time of the clock.
                ClockStepped => Some(5_000),
                WorkerPaused | RedisStalled | RedisLate | RedisHung | XcoSlow => Some(1_500),
                _ => None,
            },
        }
    }

    /// Whether Redis refuses commands of workers during this fault.
    pub(crate) const fn refuses_commands(self) -> bool {
        matches!(self, KeySpoiled | PermissionWithdrawn | ScriptSabotaged)
    }

    /// Whether calls may be lost on their way to XCO, or not be made without a token.
    pub(crate) fn loses_calls(self) -> bool {
        self.place() == Place::XcoWay
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WorkerKilled => "worker killed",
            WorkerPaused => "worker paused",
            WorkerStopped => "worker stopped",
            WorkerLeaseChanged => "worker with another lease",
            RedisCut => "Redis: connections cut",
            RedisStalled => "Redis: way stalled",
            RedisHalfOpen => "Redis: half open",
            RedisLate => "Redis: way slow",
            RedisReplyLost => "Redis: replies lost",
            RedisReplyTorn => "Redis: replies torn",
            RedisKilled => "Redis killed",
            RedisHung => "Redis hung",
            RedisClientsKilled => "Redis: CLIENT KILL",
            RedisScriptsFlushed => "Redis: SCRIPT FLUSH",
            XcoRefused => "XCO: refused",
            XcoCut => "XCO: connections cut",
            XcoStalled => "XCO: way stalled",
            XcoHalfOpen => "XCO: half open",
            XcoLate => "XCO: way slow",
            XcoReset => "XCO: reset in mid-body",
            Xco500 => "XCO: 500",
            Xco502 => "XCO: 502",
            Xco503 => "XCO: 503",
            Xco429After => "XCO: 429, Retry-After",
            Xco429 => "XCO: 429",
            XcoOutage => "XCO: outage",
            XcoRouteFails => "XCO: one route fails",
            XcoForeignAnswer => "XCO: foreign answers",
            XcoSlow => "XCO: slow answers",
            XcoTruncated => "XCO: answers cut short",
            XcoTokensRevoked => "XCO: tokens revoked",
            KeySpoiled => "Redis: key of a wrong type",
            RepliesSpoiled => "Redis: replies of a wrong type",
            PermissionWithdrawn => "Redis: permission withdrawn",
            ConsumerDeleted => "Redis: consumer deleted",
            ForeignAck => "Redis: deliveries acknowledged",
            ScriptSabotaged => "commands in scripts fail",
            ClockStepped => "Redis's clock stepped",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// Time after the start, in milliseconds.
    pub(crate) at_ms: u64,
    pub(crate) kind: Kind,
    /// Index of the worker affected; `None` for all.
    pub(crate) worker: Option<usize>,
    pub(crate) lasting_ms: u64,
    /// Seed of other random choices: chances, delays.
    pub(crate) seed: u64,
}

impl Event {
    pub(crate) const fn key(&self) -> &'static str {
        SPOILED[self.drawn(SPOILED.len())]
    }

    /// The command whose permission is withdrawn.
    pub(crate) const fn command(&self) -> &'static str {
        WITHDRAWN[self.drawn(WITHDRAWN.len())]
    }

    pub(crate) const fn lease_ms(&self) -> u64 {
        LEASES_MS[self.drawn(LEASES_MS.len())]
    }

    pub(crate) const fn route(&self) -> Route {
        ROUTES[self.drawn(ROUTES.len())]
    }

    /// The status of foreign answers.
    pub(crate) const fn foreign(&self) -> u16 {
        FOREIGN[self.drawn(FOREIGN.len())]
    }

    pub(crate) const fn step_ms(&self) -> i64 {
        STEPS_MS[self.drawn(STEPS_MS.len())]
    }

    /// A number below `of`, chosen by the seed.
    #[allow(clippy::cast_possible_truncation, reason = "less than a length")]
    pub(crate) const fn drawn(&self, of: usize) -> usize {
        (self.seed % of as u64) as usize
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss)]
        let seconds = self.at_ms as f64 / 1_000.0;
        write!(f, "{seconds:9.3} s  {} for {} ms", self.kind, self.lasting_ms)?;
        match (self.kind, self.worker) {
            (KeySpoiled, _) => write!(f, " ({})", self.key()),
            (PermissionWithdrawn, _) => write!(f, " ({})", self.command()),
            (ClockStepped, _) => write!(f, " (by {} ms)", self.step_ms()),
            (WorkerLeaseChanged, _) => write!(f, " (to {} ms)", self.lease_ms()),
            (XcoRouteFails, _) => write!(f, " ({})", self.route().as_str()),
            (XcoForeignAnswer, _) => write!(f, " ({})", self.foreign()),
            (_, Some(worker)) => write!(f, " (worker {worker})"),
            (_, None) => Ok(()),
        }
    }
}

/// The endless sequence of faults.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: StdRng,
    kinds: Vec<Kind>,
    /// The rest of the present round. In each round every kind occurs once.
    round: Vec<Kind>,
    at_ms: u64,
    busy_until_ms: [u64; PLACES],
}

impl Schedule {
    pub(crate) fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            rng: StdRng::seed_from_u64(seed),
            round: Vec::new(),
            at_ms: 500,
            busy_until_ms: [0; PLACES],
        }
    }
}

impl Iterator for Schedule {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            self.round.shuffle(&mut self.rng);
        }
        let kind = self.round.pop()?;
        self.at_ms += self.rng.random_range(200..2_400);
        let busy_until_ms = &mut self.busy_until_ms[kind.place() as usize];
        self.at_ms = self.at_ms.max(*busy_until_ms);
        let (from, to) = kind.lasts();
        let lasting_ms = self.rng.random_range(from..to);
        *busy_until_ms = self.at_ms + lasting_ms + 200;
        let worker = match kind.place() {
            Place::Workers | Place::Scripts => Some(self.rng.random_range(0..WORKERS)),
            Place::RedisWay | Place::XcoWay if self.rng.random_bool(0.5) => Some(self.rng.random_range(0..WORKERS)),
            _ => None,
        };
        Some(Event { at_ms: self.at_ms, kind, worker, lasting_ms, seed: self.rng.random() })
    }
}

#[test]
fn a_seed_gives_one_schedule_and_every_kind_its_turn() {
    let drawn: Vec<Event> = Schedule::new(5, &Kind::ALL).take(20 * Kind::ALL.len()).collect();
    assert_eq!(drawn, Schedule::new(5, &Kind::ALL).take(20 * Kind::ALL.len()).collect::<Vec<_>>());
    assert_ne!(drawn, Schedule::new(6, &Kind::ALL).take(20 * Kind::ALL.len()).collect::<Vec<_>>());
    assert!(drawn.is_sorted_by_key(|event| event.at_ms));
    for kind in Kind::ALL {
        assert_eq!(drawn.iter().filter(|event| event.kind == kind).count(), 20, "{kind}");
    }
    for (n, event) in drawn.iter().enumerate() {
        let overlap = drawn[n + 1..]
            .iter()
            .find(|later| later.kind.place() == event.kind.place() && later.at_ms < event.at_ms + event.lasting_ms);
        assert_eq!(overlap, None, "{event}");
    }
}
