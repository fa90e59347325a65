//! What is remembered of a job between deliveries: the small document beside it while it waits.

use crate::{
    contract::{EntryId, JsonText, Lane, Origin},
    limits::SlotKind,
};
use serde::{Deserialize, Serialize};

/// Why a job was put aside. What it then waits for is counted under that heading in `timings_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// For its bucket.
    Limit,
    /// For its next attempt.
    Retry,
    /// For its `run_at`.
    Schedule,
    /// For a free slot: handed back, or between two steps.
    Slot,
    /// For the end of an operator's pause.
    Paused,
}

/// What `VerifyOtp` brought, kept between the two steps of a `FinalizeConsent`, so that a retry never spends the code
/// twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The challenge to consent with.
    pub challenge_id: String,
    /// The customer's profile, for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<JsonText>,
}

/// A job's memory. Serialised with short keys: it lies in Redis beside every waiting job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each a key of the stored document")]
pub struct JobState {
    /// An operator cancelled it while it was parked. (First: `lua/call_up.lua` writes it there.)
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub cancelled: bool,
    /// Where it first entered, as text.
    #[serde(rename = "o", with = "origin_text")]
    pub origin: Origin,
    /// Calls to XCO made so far.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub attempts: u32,
    /// Failed attempts: those that count against `max_attempts`.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When its first call was admitted, milliseconds on Redis's clock.
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub started_at_ms: Option<u64>,
    /// Milliseconds waited for limits.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub limited_ms: u64,
    /// Milliseconds waited between attempts.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub retrying_ms: u64,
    /// Milliseconds spent in calls.
    #[serde(rename = "x", default, skip_serializing_if = "is_default")]
    pub xco_ms: u64,
    /// When and why it was put aside last.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub waiting: Option<(Waiting, u64)>,
    /// It was put aside by the breaker of its route, not by an operator.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub by_breaker: bool,
    /// The slot in its own bucket is reserved: do not ask for another.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub reserved: bool,
    /// The slot in the bucket of all calls is reserved.
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    pub reserved_total: bool,
    /// How the slot was given that it waits for.
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub slot: SlotKind,
    /// An earlier call of the present step may have taken effect.
    #[serde(rename = "d", default, skip_serializing_if = "is_default")]
    pub doubt: bool,
    /// After a doubt, a check said that the user does not exist: `CreateUser` may be posted again.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub checked: bool,
    /// Between verify and consent.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub checkpoint: Option<Checkpoint>,
    /// The job whose `next` enqueued this one.
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub parent_id: Option<String>,
    /// Generations above it.
    #[serde(rename = "g", default, skip_serializing_if = "is_default")]
    pub generation: u8,
    /// How many times it was replayed.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub replay: u32,
    /// How many workers were lost while they held it.
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    pub losses: u32,
    /// It has passed the check for duplicates.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// When it was enqueued, where its entry id is no answer to that: milliseconds on Redis's clock, and the number of the last
    /// step of that clock that was taken into account.
    #[serde(rename = "q", default, skip_serializing_if = "is_default")]
    pub enqueued: Option<(u64, u32)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl JobState {
    /// The state of a job that has just entered.
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
            slot: SlotKind::Reserved,
            doubt: false,
            checked: false,
            checkpoint: None,
            parent_id: None,
            generation: 0,
            replay: 0,
            losses: 0,
            accepted: false,
            enqueued: None,
        }
    }

    /// What of it a dead letter keeps: where the job came from, and what a replay must not forget. Attempts, waits and
    /// losses begin anew with a replay.
    #[must_use]
    pub fn of_a_letter(&self) -> Self {
        Self {
            parent_id: self.parent_id.clone(),
            generation: self.generation,
            replay: self.replay,
            doubt: self.doubt,
            enqueued: self.enqueued,
            ..Self::new(self.origin)
        }
    }

    /// The state that the job of a letter with this state is replayed with. The origin becomes another: the replay is
    /// enqueued anew, and its deadline counts from there.
    #[must_use]
    pub fn replayed(&self) -> Self {
        Self { replay: self.replay.saturating_add(1), accepted: true, enqueued: None, ..self.of_a_letter() }
    }

    /// Whether a call may have taken effect about which nothing has been found out since.
    pub const fn in_doubt(&self) -> bool {
        self.doubt && !self.checked
    }

    /// When it was enqueued, milliseconds on Redis's clock.
    pub const fn enqueued_at_ms(&self) -> u64 {
        match self.enqueued {
            Some((at_ms, _)) => at_ms,
            None => self.origin.entry.ms,
        }
    }

    /// Waits for a slot that is reserved in its bucket.
    pub const fn reserve(&mut self, slot: SlotKind) {
        self.reserved = true;
        self.slot = slot;
    }

    /// Whether a slot is reserved for it, in whichever bucket.
    pub const fn holds_slot(&self) -> bool {
        self.reserved || self.reserved_total
    }

    /// Holds no slot (any more).
    pub const fn spend_slots(&mut self) {
        self.reserved = false;
        self.reserved_total = false;
        self.slot = SlotKind::Reserved;
    }

    /// Books the wait that ends at `now_ms`.
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

    /// Puts it aside.
    pub const fn wait(&mut self, why: Waiting, now_ms: u64) {
        self.waiting = Some((why, now_ms));
        self.by_breaker = false;
    }

    /// For Redis. One line: no newline can occur in JSON's compact form.
    pub fn to_json(&self) -> String {
        // Plain data with string keys: there is nothing in it that serialisation could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From Redis. Anyone can write to a stream, so this may be anything.
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

/// A state for tests and tools: the origin `lane:0:ms-0`.
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
