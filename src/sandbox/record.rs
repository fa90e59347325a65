//! Records calls and effects: one by one (bounded), and as counts.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Maximum number of callers that are counted separately. Further ones are counted together as `…`.
const MAX_COUNTED_CALLERS: usize = 100_000;

/// The route of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `GET /v1/users/exists`
    Exists,
    /// `POST …/users`
    Create,
    /// `POST …/passwordless/start`
    Start,
    /// `POST …/passwordless/verify`
    Verify,
    /// `POST …/consents`
    Consent,
    /// `POST /oauth/token`
    Token,
}

impl Route {
    /// Name of the route in records and fault orders.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Create => "create",
            Self::Start => "start",
            Self::Verify => "verify",
            Self::Consent => "consent",
            Self::Token => "token",
        }
    }
}

/// Record of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallRecord {
    /// Number of the call, counted from 0 in order of arrival.
    pub seq: u64,
    /// Time of arrival, in milliseconds since 1970.
    pub at_ms: u64,
    /// Time of arrival, in microseconds since the simulator started (monotonic).
    pub at_us: u64,
    /// Route of the call.
    pub route: Route,
    /// The call's `caller_id`.
    pub caller_id: Option<String>,
    /// The customer of the call: email address, phone number or customer reference.
    pub key: Option<String>,
    /// The call's `traceparent` header.
    pub traceparent: Option<String>,
    /// Status of the answer; `None` if there is none yet, or never was.
    pub status: Option<u16>,
    /// Name of the fault that affected the call.
    pub fault: Option<&'static str>,
}

/// Kind of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// A user was created.
    UserCreated,
    /// A code was sent.
    CodeSent,
    /// A wrong code was tried, which spends a try.
    CodeTried,
    /// The right code was tried, which spends the code.
    CodeSpent,
    /// A consent was created.
    Consented,
}

/// Record of one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Time in milliseconds since 1970.
    pub at_ms: u64,
    /// Time in microseconds since the simulator started (monotonic).
    pub at_us: u64,
    /// Kind of the effect.
    pub kind: EffectKind,
    /// The customer: the contact, or the customer reference for [`EffectKind::UserCreated`] and
    /// [`EffectKind::Consented`].
    pub key: String,
    /// Number of the code among those sent to this contact, counted from 1; 0 if no code is involved.
    pub code_number: u32,
}

/// Counts since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Number of users.
    pub users: usize,
    /// Number of consents.
    pub consents: usize,
    /// Number of calls of the API, without the token endpoint.
    pub calls: u64,
    /// Answers by route, then status; `0` means that the call ended without an answer.
    pub answers: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    /// Calls by `caller_id`; `-` without one. Not counted when calls are not recorded.
    pub callers: BTreeMap<String, u64>,
    /// Effects by kind.
    pub effects: BTreeMap<EffectKind, u64>,
}

impl Stats {
    /// Number of answers of one route and status.
    pub fn answered(&self, route: Route, status: u16) -> u64 {
        self.answers.get(route.as_str()).and_then(|by_status| by_status.get(&status)).copied().unwrap_or(0)
    }

    /// Number of answers of one route.
    pub fn answered_in_all(&self, route: Route) -> u64 {
        self.answers.get(route.as_str()).map_or(0, |by_status| by_status.values().sum())
    }
}

/// The records of calls and effects.
#[derive(Debug, Default)]
pub(super) struct Log {
    calls: VecDeque<CallRecord>,
    next_seq: u64,
    effects: VecDeque<Effect>,
    answers: HashMap<(Route, u16), u64>,
    callers: HashMap<String, u64>,
    effect_counts: BTreeMap<EffectKind, u64>,
}

impl Log {
    /// Records an arrival and returns its number.
    pub(super) fn arrived(&mut self, mut call: CallRecord, max: usize) -> u64 {
        let caller = call.caller_id.as_deref().unwrap_or("-");
        if let Some(count) = self.callers.get_mut(caller) {
            *count += 1;
        } else {
            let name = if self.callers.len() < MAX_COUNTED_CALLERS { caller } else { "…" };
            *self.callers.entry(name.to_owned()).or_default() += 1;
        }
        call.seq = self.next_seq;
        self.next_seq += 1;
        self.calls.push_back(call);
        while self.calls.len() > max {
            self.calls.pop_front();
        }
        self.next_seq - 1
    }

    /// Records the end of call `seq`. `status` is 0 if it had no answer.
    pub(super) fn ended(&mut self, seq: Option<u64>, route: Route, status: u16, fault: Option<&'static str>) {
        *self.answers.entry((route, status)).or_default() += 1;
        let first = self.calls.front().map_or(0, |call| call.seq);
        let index = seq.and_then(|seq| usize::try_from(seq.checked_sub(first)?).ok());
        if let Some(call) = index.and_then(|index| self.calls.get_mut(index)) {
            call.status = (status != 0).then_some(status);
            call.fault = fault;
        }
    }

    /// Counts an effect, and records it if `max` is not 0.
    pub(super) fn effect(&mut self, effect: Effect, max: usize) {
        *self.effect_counts.entry(effect.kind).or_default() += 1;
        self.effects.push_back(effect);
        while self.effects.len() > max {
            self.effects.pop_front();
        }
    }

    pub(super) fn calls(&self) -> impl DoubleEndedIterator<Item = &CallRecord> {
        self.calls.iter()
    }

    /// The recorded calls from number `seq` on.
    pub(super) fn calls_from(&self, seq: u64) -> impl Iterator<Item = &CallRecord> {
        let first = self.calls.front().map_or(0, |call| call.seq);
        self.calls.iter().skip(usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX))
    }

    pub(super) fn effects(&self) -> impl DoubleEndedIterator<Item = &Effect> {
        self.effects.iter()
    }

    /// All counts except users, consents and arrivals.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats {
            callers: self.callers.iter().map(|(caller, count)| (caller.clone(), *count)).collect(),
            effects: self.effect_counts.clone(),
            ..Stats::default()
        };
        for ((route, status), count) in &self.answers {
            stats.answers.entry(route.as_str()).or_default().insert(*status, *count);
        }
        stats
    }
}
