//! What a plan says, in words.

use crate::{
    console::{
        form::TYPED_FROM,
        text::{count_of, grouped, shown},
    },
    operations::{
        age,
        dead_letters::{
            KindCount, LimitedBy, ReplayRefusal,
            runs::{PlannedDiscard, PlannedReplay, RunKind},
        },
    },
};
use std::collections::BTreeMap;

/// A plan as a page shows it.
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) kind: RunKind,
    /// How many go.
    pub(super) count: u64,
    /// Those that go, by type and error.
    pub(super) going: Vec<KindLine>,
    /// Those that stay, by reason.
    pub(super) staying: Vec<StayLine>,
    /// How long it takes, and why; empty for a discard.
    pub(super) time: String,
    /// Pointers at which jobs are not valid, with what is wrong and at how many.
    pub(super) invalid_at: BTreeMap<String, String>,
    /// Whether any stay because their jobs have faults.
    pub(super) has_faults: bool,
    pub(super) codes: Risk,
    pub(super) doubt: Risk,
}

pub(super) struct KindLine {
    pub(super) count: String,
    pub(super) name: String,
}

pub(super) struct StayLine {
    pub(super) count: String,
    pub(super) why: &'static str,
}

/// A risk that can be accepted.
#[derive(Clone, Copy, Default)]
pub(super) struct Risk {
    /// How many stay because of it.
    pub(super) staying: u64,
    /// How many go although they have it.
    pub(super) going: u64,
}

impl Risk {
    pub(super) fn is_there(&self) -> bool {
        self.staying + self.going > 0
    }

    pub(super) fn total(&self) -> String {
        grouped(self.staying + self.going)
    }
}

impl From<PlannedReplay> for Planned {
    fn from(plan: PlannedReplay) -> Self {
        let PlannedReplay { id, estimate, risks } = plan;
        let (going, rest): (Vec<_>, Vec<_>) = estimate.kinds.into_iter().partition(|kind| kind.refused.is_none());
        let mut staying: BTreeMap<ReplayRefusal, u64> = BTreeMap::new();
        for kind in rest {
            if let Some(refusal) = kind.refused {
                *staying.entry(refusal).or_default() += kind.count;
            }
        }
        let of = |from: &BTreeMap<_, u64>, risk| from.get(&risk).copied().unwrap_or(0);
        let risk = |kind| Risk { staying: of(&staying, kind), going: of(&risks, kind) };
        let limit = match estimate.limited_by {
            LimitedBy::Rate => "the rate".to_owned(),
            other => other.to_string(),
        };
        let faults = [ReplayRefusal::Rejected, ReplayRefusal::Invalid];
        let invalid = estimate
            .invalid_at
            .into_iter()
            .map(|(pointer, at)| (pointer, format!("{} in {}", shown(&at.detail), count_of(at.count, "job", "jobs"))));
        Self {
            id,
            kind: RunKind::Replay,
            count: estimate.replay,
            going: going.iter().map(KindLine::new).collect(),
            time: match (estimate.replay, estimate.at_least_ms) {
                (0, _) => String::new(),
                (_, 0) => "At once.".to_owned(),
                (_, ms) => format!("At least {}, because of {limit}.", age(ms)),
            },
            invalid_at: invalid.collect(),
            has_faults: staying.keys().any(|refusal| faults.contains(refusal)),
            codes: risk(ReplayRefusal::NobodyWaits),
            doubt: risk(ReplayRefusal::InDoubt),
            staying: staying.into_iter().map(|(refusal, count)| StayLine::new(refusal, count)).collect(),
        }
    }
}

impl From<PlannedDiscard> for Planned {
    fn from(plan: PlannedDiscard) -> Self {
        Self {
            id: plan.id,
            kind: RunKind::Discard,
            count: plan.discard,
            going: plan.kinds.iter().map(KindLine::new).collect(),
            staying: Vec::new(),
            time: String::new(),
            invalid_at: BTreeMap::new(),
            has_faults: false,
            codes: Risk::default(),
            doubt: Risk::default(),
        }
    }
}

impl Planned {
    pub(super) fn is_discard(&self) -> bool {
        self.kind == RunKind::Discard
    }

    /// Whether the number must be typed.
    pub(super) fn must_be_typed(&self) -> bool {
        must_be_typed(self.kind, self.count)
    }

    /// `Replay`, `Discard`
    pub(super) fn verb(&self) -> &'static str {
        verb(self.kind)
    }

    /// The answer of the page.
    pub(super) fn title(&self) -> String {
        let letters = count_of(self.count, "dead letter", "dead letters");
        match (self.kind, self.count) {
            (RunKind::Replay, 0) => "Nothing can be replayed as it is.".to_owned(),
            (RunKind::Discard, 0) => "There is nothing to discard.".to_owned(),
            (RunKind::Replay, _) => format!("Replay {letters}?"),
            (RunKind::Discard, _) => format!("Discard {letters} for good?"),
        }
    }

    pub(super) fn figure(&self) -> String {
        grouped(self.count)
    }
}

/// Whether the number must be typed to confirm.
pub(super) fn must_be_typed(kind: RunKind, count: u64) -> bool {
    kind == RunKind::Discard || count >= TYPED_FROM
}

/// `Replay`, `Discard`
pub(super) fn verb(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Replay => "Replay",
        RunKind::Discard => "Discard",
    }
}

impl KindLine {
    fn new(kind: &KindCount) -> Self {
        let word = |text: &'static str, unknown: &'static str| if text == "-" { unknown } else { text };
        let name = format!("{}, {}", word(kind.job_type, "unknown type"), word(kind.error, "unknown error"));
        Self { count: grouped(kind.count), name }
    }
}

impl StayLine {
    fn new(refusal: ReplayRefusal, count: u64) -> Self {
        let why = match refusal {
            ReplayRefusal::NeedsCode => "without the code that the customer typed: codes are kept nowhere",
            ReplayRefusal::Rejected => "rejected: something must be corrected first",
            ReplayRefusal::NobodyWaits => "sending a code for which perhaps nobody waits",
            ReplayRefusal::InDoubt => "in doubt: the call may have taken effect already",
            ReplayRefusal::Invalid => "not valid",
        };
        Self { count: grouped(count), why }
    }
}
