//! The state of a job between deliveries: a small JSON document stored with the job while it waits.

use super::{Attempt, attempt};
use crate::{
    contract::{EntryId, JsonText, Lane, Origin},
    limits::Turn,
};
use serde::{Deserialize, Serialize};

/// Why a job is delayed. The wait is counted in the matching field of `timings_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// The bucket had no room.
    Limit,
    /// The next attempt is due later.
    Retry,
    /// The `run_at` of the job is in the future.
    Schedule,
    /// The job needs a free worker slot: it was handed back, or is between two steps.
    Slot,
    /// An operator's pause selects the job, or the circuit breaker of its route is not closed (`by_breaker`).
    Paused,
}

/// The result of `VerifyOtp` between the two steps of a `FinalizeConsent`. It ensures that a retry never uses the code
/// twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The challenge that the consent needs.
    pub challenge_id: String,
    /// The customer's profile from XCO, for the job's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<JsonText>,
}

/// The stored state of a job. The keys are short, because Redis has one such document for each waiting job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each a key of the stored document")]
pub struct JobState {
    /// An operator cancelled the job while it was delayed. This must stay the first field: `lua/rules/cancel_delayed.lua` inserts it
    /// there.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub cancelled: bool,
    /// The job's origin, stored as text.
    #[serde(rename = "o", with = "origin_text")]
    pub origin: Origin,
    /// Number of calls to XCO so far.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub attempts: u32,
    /// Number of failed attempts, which count against `max_attempts`.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When the first call was admitted, in milliseconds on Redis's clock.
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub started_at_ms: Option<u64>,
    /// Milliseconds spent waiting for limits.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub limited_ms: u64,
    /// Milliseconds spent waiting between attempts.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub retrying_ms: u64,
    /// Milliseconds spent in calls to XCO.
    #[serde(rename = "x", default, skip_serializing_if = "is_default")]
    pub xco_ms: u64,
    /// Why the job is delayed, and since when in milliseconds on Redis's clock.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub waiting: Option<(Waiting, u64)>,
    /// The job was delayed by the circuit breaker of its route, not by an operator.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub by_breaker: bool,
    /// The job has a reservation in its own bucket, so it must not ask for another.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub reserved: bool,
    /// The job has a reservation in the bucket of all calls.
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    pub reserved_total: bool,
    /// The job's turn in its own bucket, if it has a reservation there.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub turn: Turn,
    /// The job's turn in the bucket of all calls, if it has a reservation there.
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub total_turn: Turn,
    /// An earlier call of the current step may have taken effect.
    #[serde(rename = "d", default, skip_serializing_if = "is_default")]
    pub doubt: bool,
    /// After a doubt, a check showed that the user does not exist, so `CreateUser` may be posted again.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub checked: bool,
    /// The result of the verification, present between verify and consent.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub checkpoint: Option<Checkpoint>,
    /// Id of the job whose `next` enqueued this one.
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub parent_id: Option<String>,
    /// Number of generations above this job.
    #[serde(rename = "g", default, skip_serializing_if = "is_default")]
    pub generation: u8,
    /// How many times the job was replayed.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub replay: u32,
    /// How many workers were lost while they processed this job.
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    pub losses: u32,
    /// The job has passed the check for duplicates.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// When the job was enqueued, if its entry id does not show that: milliseconds on Redis's clock, and the number of
    /// the last clock step that was taken into account.
    #[serde(rename = "q", default, skip_serializing_if = "is_default")]
    pub enqueued: Option<(u64, u32)>,
    /// The latest attempts that did not end the job with success, the oldest first.
    #[serde(rename = "v", default, skip_serializing_if = "is_default", deserialize_with = "attempt::known")]
    pub history: Vec<Attempt>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl JobState {
    /// Creates the state of a job that was just enqueued.
    pub const fn new(origin: Origin) -> Self {
        Self {
            cancelled: false,
            origin,
            attempts: 0,
            failures: 0,
            started_at_ms: None,
            limited_ms: 0,
            retrying_ms: 0,
            xco_ms: 0,
            waiting: None,
            by_breaker: false,
            reserved: false,
            reserved_total: false,
            turn: Turn::NONE,
            total_turn: Turn::NONE,
            doubt: false,
            checked: false,
            checkpoint: None,
            parent_id: None,
            generation: 0,
            replay: 0,
            losses: 0,
            accepted: false,
            enqueued: None,
            history: Vec::new(),
        }
    }

    /// Returns the part of the state that a dead letter keeps: the job's origin, its latest attempts, and what a replay must
    /// know. Attempts, waits and losses start at zero in a replay.
    #[must_use]
    pub fn of_a_letter(&self) -> Self {
        Self {
            parent_id: self.parent_id.clone(),
            generation: self.generation,
            replay: self.replay,
            doubt: self.doubt,
            enqueued: self.enqueued,
            history: self.history.clone(),
            ..Self::new(self.origin)
        }
    }

    /// Returns the state for replaying a dead letter that has this state. The replay is enqueued with a new origin, and
    /// its deadline counts from there.
    #[must_use]
    pub fn replayed(&self) -> Self {
        let (replay, history) = (self.replay.saturating_add(1), Vec::new());
        Self { replay, accepted: true, enqueued: None, history, ..self.of_a_letter() }
    }

    /// Whether an earlier call may have taken effect and no check has settled it since.
    pub const fn in_doubt(&self) -> bool {
        self.doubt && !self.checked
    }

    /// When the job was enqueued, in milliseconds on Redis's clock.
    pub const fn enqueued_at_ms(&self) -> u64 {
        match self.enqueued {
            Some((at_ms, _)) => at_ms,
            None => self.origin.entry.ms,
        }
    }

    /// Adds an attempt to the history, which keeps the latest.
    pub fn remember(&mut self, attempt: Option<Attempt>) {
        if let Some(attempt) = attempt {
            attempt::remember(&mut self.history, attempt);
        }
    }

    /// Records a reservation in the job's own bucket.
    pub const fn reserve(&mut self, turn: Turn) {
        self.reserved = true;
        self.turn = turn;
    }

    /// Records a reservation in the bucket of all calls. The job's own bucket had room for it.
    pub const fn reserve_total(&mut self, turn: Turn) {
        self.reserved = true;
        self.reserved_total = true;
        self.total_turn = turn;
    }

    /// Whether the job has a reservation in any bucket.
    pub const fn holds_slot(&self) -> bool {
        self.reserved || self.reserved_total
    }

    /// Clears all reservations.
    pub const fn spend_slots(&mut self) {
        self.reserved = false;
        self.reserved_total = false;
        self.turn = Turn::NONE;
        self.total_turn = Turn::NONE;
    }

    /// Adds the wait that ends at `now_ms` to the matching total.
    pub fn resume(&mut self, now_ms: u64) {
        if let Some((why, since_ms)) = self.waiting.take() {
            self.by_breaker = false;
            let waited_ms = now_ms.saturating_sub(since_ms);
            match why {
                Waiting::Limit => self.limited_ms += waited_ms,
                Waiting::Retry => self.retrying_ms += waited_ms,
                Waiting::Schedule | Waiting::Slot | Waiting::Paused => {}
            }
        }
    }

    /// Records that the job is delayed from `now_ms`, for this reason.
    pub const fn wait(&mut self, why: Waiting, now_ms: u64) {
        self.waiting = Some((why, now_ms));
        self.by_breaker = false;
    }

    /// Serialises the state for Redis. It is one line, because compact JSON contains no newline.
    pub fn to_json(&self) -> String {
        // Plain data with string keys: serialisation cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses a state from Redis. Returns `None` for anything else, because any producer can write to a stream.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

mod origin_text {
    use super::Origin;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(origin)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Creates a state with the origin `lane:0:ms-0`, for tests and tools.
pub fn fresh(lane: Lane, enqueued_at_ms: u64) -> JobState {
    JobState::new(Origin { lane, partition: 0, entry: EntryId { ms: enqueued_at_ms, seq: 0 } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_state_survives_redis_and_a_fresh_one_is_short() {
        let mut state = fresh(Lane::Bulk, 1_732_265_000_000);
        assert_eq!(state.to_json(), r#"{"o":"bulk:0:1732265000000-0"}"#);
        state.attempts = 3;
        state.checkpoint =
            Some(Checkpoint { challenge_id: "c".to_owned(), user: Some(serde_json::json!({"a": "\n"}).into()) });
        let exact =
            r#"{"o":"bulk:0:1-0","k":{"challenge_id":"c","user":{"id":12345678901234567890123,"n":[1.10,1e400]}}}"#;
        assert_eq!(JobState::from_json(exact.as_bytes()).unwrap().to_json(), exact);
        state.wait(Waiting::Retry, 5);
        let text = state.to_json();
        assert!(!text.contains('\n'));
        assert_eq!(JobState::from_json(text.as_bytes()).unwrap(), state);
    }

    /// Three scripts read or edit the text of a state: `cancel_delayed`, `replay` and `clock_ahead`.
    #[test]
    fn the_text_of_a_state_is_as_scripts_expect_it() {
        let misleading = r#""o":"bulk:9:9-0","w":["retry",1]"#;
        for waiting in [Waiting::Limit, Waiting::Retry, Waiting::Schedule, Waiting::Slot, Waiting::Paused] {
            let mut state = fresh(Lane::Bulk, 5);
            state.parent_id = Some(misleading.to_owned());
            let user = Some(serde_json::json!({"o": "bulk:9:9-0", "w": ["retry", 1]}).into());
            state.checkpoint = Some(Checkpoint { challenge_id: misleading.to_owned(), user });
            state.wait(waiting, 7);
            let text = state.to_json();
            // Inserted at the beginning.
            let cancelled = text.replacen('{', r#"{"e":true,"#, 1);
            state.cancelled = true;
            assert_eq!(state.to_json(), cancelled);
            assert_eq!(JobState::from_json(cancelled.as_bytes()), Some(state));
            // The first match of each pattern is the state's own.
            assert_eq!(text.find(r#""o":""#), Some(1), "{text}");
            let word = serde_json::to_string(&waiting).unwrap();
            let own = format!(r#""w":[{word},7]"#);
            assert_eq!(text.find(r#""w":["#), text.find(&own), "{text}");
            assert!(text.contains(&own), "{text}");
        }
    }

    #[test]
    fn waits_are_booked_under_their_reason() {
        let mut state = fresh(Lane::Interactive, 0);
        state.wait(Waiting::Limit, 100);
        state.resume(150);
        state.wait(Waiting::Retry, 150);
        state.resume(170);
        state.wait(Waiting::Slot, 170);
        state.resume(990);
        assert_eq!((state.limited_ms, state.retrying_ms), (50, 20));
    }

    #[test]
    fn a_replay_remembers_what_must_not_be_forgotten_and_nothing_else() {
        let mut state = fresh(Lane::Interactive, 7);
        (state.attempts, state.failures, state.losses, state.reserved) = (8, 8, 5, true);
        (state.generation, state.replay, state.doubt) = (2, 1, true);
        state.parent_id = Some("p".to_owned());
        state.enqueued = Some((6, 1));
        let letter = state.of_a_letter();
        assert_eq!(letter.to_json(), r#"{"o":"interactive:0:7-0","d":true,"p":"p","g":2,"n":1,"q":[6,1]}"#);
        assert_eq!(letter.replayed().to_json(), r#"{"o":"interactive:0:7-0","d":true,"p":"p","g":2,"n":2,"i":true}"#);
    }

    #[test]
    fn rubbish_is_no_state() {
        for text in ["", "{}", "[]", r#"{"o":"x"}"#, r#"{"o":"bulk:0:1-0","a":-1}"#] {
            assert_eq!(JobState::from_json(text.as_bytes()), None, "{text}");
        }
    }
}
