//! A run as Redis keeps it, and as it is reported.

use super::{
    name::RunName,
    request::{RunKind, RunRequest},
};
use crate::{
    contract::{EntryId, MerchantScope, format_ms},
    operations::dead_letters::scan::Scope,
    queue::runs::{Fields, SILENT_MS},
};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// A process works on it.
    Running,
    /// Everything that it was to take was taken.
    Done,
    /// An operator stopped it.
    Stopped,
    /// Its process is gone, or gave it back. It can be continued.
    Interrupted,
}

impl RunState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How far a run is. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Its name.
    pub run: String,
    /// What it does.
    pub kind: RunKind,
    /// Whether it goes on.
    pub state: RunState,
    /// How many dead letters it takes at most.
    pub of: u64,
    /// What became of them so far.
    #[serde(flatten)]
    pub counts: RunCounts,
    /// Maximum rate of a replay, such as `50/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Who began it.
    pub by: String,
    /// Which dead letters fit, without personal data.
    pub filter: Value,
    /// Dead letters that were written later are not taken, RFC 3339.
    pub up_to: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When its process reported last, RFC 3339.
    pub updated_at: String,
    /// When it ended or was interrupted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Who stopped it, or wants it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// Why it was interrupted, if its process could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What became of the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RunCounts {
    /// Of a replay.
    Replay {
        /// How many went back into the queue.
        replayed: u64,
        /// How many were no longer there.
        gone: u64,
        /// How many were left where they are, because another job has their id by now.
        superseded: u64,
        /// How many replayed jobs ended in which way: `created`, `failed: upstream`.
        outcomes: BTreeMap<String, u64>,
        /// How many replayed jobs have not ended yet. Jobs replayed before an interruption are not followed.
        outstanding: u64,
    },
    /// Of a discard.
    Discard {
        /// How many were removed. After an interruption, those of its last second may be missing.
        discarded: u64,
    },
}

/// What is counted of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// How many were replayed or removed.
    pub(super) done: u64,
    pub(super) gone: u64,
    pub(super) superseded: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) outstanding: u64,
    /// Partition and entry of the last dead letter that was taken.
    pub(super) at: Option<(u16, EntryId)>,
}

impl Counts {
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let outcomes = serde_json::to_string(&self.outcomes).unwrap_or_default();
        vec![
            ("done", self.done.to_string()),
            ("gone", self.gone.to_string()),
            ("superseded", self.superseded.to_string()),
            ("outcomes", outcomes),
            ("outstanding", self.outstanding.to_string()),
            ("at", self.at.map(|(partition, entry)| format!("{partition} {entry}")).unwrap_or_default()),
        ]
    }

    /// How many dead letters were taken, whatever became of them.
    pub(super) const fn taken(&self) -> u64 {
        self.done.saturating_add(self.gone).saturating_add(self.superseded)
    }
}

/// A run as Redis keeps it. What cannot be read is as if it were not there.
pub(super) struct Record<'a> {
    name: &'a str,
    fields: &'a Fields,
    now_ms: u64,
}

impl<'a> Record<'a> {
    pub(super) const fn new(name: &'a str, fields: &'a Fields, now_ms: u64) -> Self {
        Self { name, fields, now_ms }
    }

    fn text(&self, field: &str) -> &'a str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or(0)
    }

    pub(super) fn kind(&self) -> RunKind {
        if self.text("kind") == RunKind::Discard.as_str() { RunKind::Discard } else { RunKind::Replay }
    }

    pub(super) fn state(&self) -> RunState {
        let is_silent = self.number("heartbeat").abs_diff(self.now_ms) > SILENT_MS;
        match self.text("state") {
            "done" => RunState::Done,
            "stopped" => RunState::Stopped,
            "running" if !is_silent => RunState::Running,
            // Nobody works on it any more who could obey.
            _ if self.fields.contains_key("stop") => RunState::Stopped,
            _ => RunState::Interrupted,
        }
    }

    /// Whether somebody who is restricted to these merchants may see it.
    pub(super) fn is_visible_to(&self, merchants: &MerchantScope) -> bool {
        let own = serde_json::from_str::<MerchantScope>(self.text("merchants"));
        merchants.is_all() || own.is_ok_and(|own| own.is_within(merchants))
    }

    pub(super) fn digest(&self) -> &'a str {
        self.text("digest")
    }

    pub(super) fn plan(&self) -> &'a str {
        self.text("plan")
    }

    pub(super) fn of(&self) -> u64 {
        self.number("of")
    }

    pub(super) fn request(&self) -> Option<RunRequest> {
        RunRequest::from_json(self.text("request"))
    }

    pub(super) fn scope(&self) -> Option<Scope> {
        serde_json::from_str(self.text("scope")).ok()
    }

    /// The name of the replay that its last process made, and how many were done before it.
    pub(super) fn leg(&self) -> (Option<u32>, u64) {
        (self.text("leg").parse().ok(), self.number("base"))
    }

    pub(super) fn counts(&self) -> Counts {
        let at = self.text("at").split_once(' ');
        Counts {
            done: self.number("done"),
            gone: self.number("gone"),
            superseded: self.number("superseded"),
            outcomes: serde_json::from_str(self.text("outcomes")).unwrap_or_default(),
            outstanding: self.number("outstanding"),
            at: at.and_then(|(partition, entry)| Some((partition.parse().ok()?, entry.parse().ok()?))),
        }
    }

    pub(super) fn report(&self) -> RunReport {
        let Counts { done, gone, superseded, outcomes, outstanding, .. } = self.counts();
        let (kind, state) = (self.kind(), self.state());
        let counts = match kind {
            RunKind::Replay => RunCounts::Replay { replayed: done, gone, superseded, outcomes, outstanding },
            RunKind::Discard => RunCounts::Discard { discarded: done },
        };
        let given = |field: &str| Some(self.text(field)).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let ended_ms = match state {
            RunState::Running => None,
            // A process that was killed recorded no end.
            _ => Some(self.number("ended")).filter(|ms| *ms > 0).or_else(|| Some(self.number("heartbeat"))),
        };
        RunReport {
            run: self.name.to_owned(),
            kind,
            state,
            of: self.of(),
            counts,
            rate: given("rate"),
            by: self.text("by").to_owned(),
            filter: serde_json::from_str(self.text("filter")).unwrap_or_default(),
            up_to: format_ms(self.scope().map_or(0, |scope| scope.as_of_ms)),
            started_at: format_ms(self.number("started")),
            updated_at: format_ms(self.number("heartbeat")),
            ended_at: ended_ms.map(format_ms),
            stopped_by: given("stop"),
            problem: given("problem"),
        }
    }
}

/// The name of a run that Redis lists; `None` for one that no run can have.
pub(super) fn listed(name: &str) -> Option<RunName> {
    name.parse().ok()
}
