//! A compact record of every job: its kind, how often it was enqueued, how it ended and which calls it made.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Kind of a job, which determines how it may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// `CheckUser` of an unknown customer.
    CheckAbsent,
    /// `CheckUser` of a customer with an account.
    CheckPresent,
    Create,
    Start,
    /// `VerifyOtp` with the code that was sent.
    Verify,
    /// `VerifyOtp` with a wrong code.
    VerifyWrong,
    /// `FinalizeConsent` with a code.
    Finalize,
    /// `FinalizeConsent` with a challenge.
    Consent,
    /// Not a valid job, but with a readable id.
    Malformed,
}

#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one job, kept small")]
pub(crate) struct Entry {
    pub(crate) nature: Nature,
    /// Number of times that Redis may have it; 0 for a child whose parent has not ended.
    pub(crate) sent: u8,
    /// Number of duplicates that Redis may have. Each may have the completion pushed to the reply list again.
    pub(crate) duplicates: u8,
    /// Whether Redis has acknowledged one of them.
    pub(crate) certain: bool,
    /// Whether it may expire.
    pub(crate) deadline: bool,
    /// Whether it has a child, which is the next job.
    pub(crate) parent: bool,
    /// Whether it belongs to the greedy caller.
    pub(crate) greedy: bool,
    pub(crate) completions: u8,
    /// Whether it ended because its attempts were used up, at a time when every call arrived.
    pub(crate) given_up: bool,
    pub(crate) attempts: u16,
    /// Calls that arrived at the API.
    pub(crate) calls: u16,
    /// Calls that were answered 429, and 401.
    pub(crate) limited: u16,
    pub(crate) refused: u16,
    /// Whether the last unsafe call may have taken effect.
    pub(crate) doubt: bool,
    /// POSTs of a creation that may have taken effect, and checks for it.
    pub(crate) posts: u8,
    pub(crate) looks: u8,
    pub(crate) batch: u16,
    /// Earliest start, in seconds since 1970; 0 means at once.
    pub(crate) not_before_s: u32,
}

impl Nature {
    /// Whether two workers may make one of its calls at the same time: one that has lost its lease unknowingly, and one
    /// that has taken over. The worker that ends the job knows only its own calls. No unsafe call is started twice.
    pub(crate) const fn is_safe(self) -> bool {
        // A creation is safe because a doubt is followed by a check.
        matches!(self, Self::CheckAbsent | Self::CheckPresent | Self::Create | Self::Malformed)
    }

    /// Number of failed attempts after which a job is given up.
    pub(crate) const fn max_attempts(self) -> u16 {
        match self {
            Self::CheckAbsent | Self::CheckPresent | Self::Create => 8,
            Self::Start | Self::Verify | Self::VerifyWrong => 3,
            Self::Finalize | Self::Consent => 5,
            Self::Malformed => 0,
        }
    }
}

impl Entry {
    pub(crate) const fn new(nature: Nature) -> Self {
        Self {
            nature,
            sent: 0,
            duplicates: 0,
            certain: false,
            deadline: false,
            parent: false,
            greedy: false,
            completions: 0,
            given_up: false,
            attempts: 0,
            calls: 0,
            limited: 0,
            refused: 0,
            doubt: false,
            posts: 0,
            looks: 0,
            batch: 0,
            not_before_s: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    /// Invalid entries without an id, by origin: whether Redis acknowledged them, and the number of completions.
    nameless: HashMap<String, (bool, u8)>,
    /// Number of such entries that Redis may or may not have.
    pub(crate) nameless_uncertain: usize,
    /// Number of jobs by batch, from 1.
    pub(crate) batches: Vec<u32>,
    /// Number of the greedy caller's jobs that have not ended.
    pub(crate) greedy: u32,
    pub(crate) duplicates_sent: u64,
    pub(crate) resent: u64,
    pub(crate) completed: u64,
    pub(crate) accepted: u64,
    /// Completions by status and outcome or error.
    pub(crate) tally: BTreeMap<String, u64>,
}

/// The end of a job, as far as other parts need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) number: usize,
    pub(crate) outcome: String,
    pub(crate) challenge: Option<String>,
}

pub(crate) fn id(number: usize) -> String {
    format!("j{number}")
}

/// The trace that leads from a call back to its job.
pub(crate) fn traceparent(number: usize) -> String {
    format!("00-50a050a050a050a0{:016x}-{:016x}-01", number + 1, number + 1)
}

pub(crate) fn of_trace(traceparent: &str) -> Option<usize> {
    let number = traceparent.strip_prefix("00-50a050a050a050a0")?.get(..16)?;
    usize::from_str_radix(number, 16).ok()?.checked_sub(1)
}

impl Ledger {
    pub(crate) fn open(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }

    pub(crate) fn entry(&mut self, number: usize) -> Option<&mut Entry> {
        self.entries.get_mut(number)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate()
    }

    /// Records that Redis has the job.
    pub(crate) fn accept(&mut self, number: usize) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        if !entry.certain {
            entry.certain = true;
            self.accepted += 1;
            if let Some(batch) = self.batches.get_mut(usize::from(entry.batch)) {
                *batch += 1;
            }
        }
    }

    /// Records that Redis has an entry without an id under this origin.
    pub(crate) fn accept_nameless(&mut self, origin: String) {
        let known = self.nameless.entry(origin).or_default();
        // Its completion may have been read before Redis acknowledged it.
        self.accepted += u64::from(known.1 == 0);
        known.0 = true;
    }

    /// Number of jobs that Redis has and that have not ended.
    pub(crate) fn outstanding(&self) -> u64 {
        self.accepted.saturating_sub(self.completed)
    }

    /// Records a completion, or returns what is wrong with it.
    ///
    /// `all_arrived` tells whether every call between two given times reached XCO.
    pub(crate) fn complete(
        &mut self,
        event: &Value,
        all_arrived: impl FnOnce(jiff::Timestamp, jiff::Timestamp) -> bool,
    ) -> Result<Option<Ended>, String> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let (id, status) = (text(&event["id"]), text(&event["status"]));
        let why = text(if event["outcome"].is_string() { &event["outcome"] } else { &event["error"]["kind"] });
        *self.tally.entry(format!("{status} {why}")).or_default() += 1;
        let Some(number) = number_of(&id, event) else {
            let known = self.nameless.entry(id).or_default();
            known.1 += 1;
            self.accepted += u64::from(known.1 == 1 && !known.0);
            self.completed += u64::from(known.1 == 1);
            return match (known.1, status.as_str()) {
                (1, "rejected") => Ok(None),
                _ => Err(format!("what is no job ended {} times, now as {status}", known.1)),
            };
        };
        if self.entries.get(number).is_none_or(|entry| entry.sent == 0) {
            return Err("ended, but was never enqueued".to_owned());
        }
        // Redis had it, even if it could not confirm that.
        self.accept(number);
        let Some(entry) = self.entries.get_mut(number) else { return Ok(None) };
        entry.completions = entry.completions.saturating_add(1);
        // A rejected job reserves no id, so it may come twice.
        let allowed = if entry.nature == Nature::Malformed { entry.sent } else { 1 };
        if entry.completions > allowed {
            return Err(format!("duplicate: it ended {} times", entry.completions));
        }
        self.completed += u64::from(entry.completions == 1);
        self.greedy -= u32::from(entry.greedy && entry.completions == 1);
        entry.attempts = u16::try_from(event["attempts"].as_u64().unwrap_or(0)).unwrap_or(u16::MAX);
        let moment = |name: &str| event[name].as_str().and_then(|text| text.parse().ok());
        entry.given_up = status == "failed"
            && matches!(why.as_str(), "upstream" | "timeout" | "network")
            && moment("enqueued_at").zip(moment("completed_at")).is_some_and(|(from, until)| all_arrived(from, until));
        if let Some(fault) = fault(*entry, &status, &why, event) {
            return Err(fault);
        }
        if entry.parent
            && why == "absent"
            && let Some(child) = self.entries.get_mut(number + 1)
        {
            child.sent = 1;
            self.accept(number + 1);
        }
        let challenge = event["result"]["consent_challenge_id"].as_str().map(str::to_owned);
        Ok(Some(Ended { number, outcome: why, challenge }))
    }

    /// Number of acknowledged entries without an id that have no completion, and of completions without an acknowledged
    /// entry.
    pub(crate) fn nameless_faults(&self) -> (usize, usize) {
        let missing = self.nameless.values().filter(|(acknowledged, seen)| *acknowledged && *seen == 0).count();
        let strange = self.nameless.values().filter(|(acknowledged, seen)| !*acknowledged && *seen > 0).count();
        (missing, strange)
    }
}

/// The job of a completion: by its id or, without one, by its trace.
fn number_of(id: &str, event: &Value) -> Option<usize> {
    if let Some(rest) = id.strip_prefix('j') {
        let (parent, child) = rest.split_once('/').map_or((rest, false), |(parent, _)| (parent, true));
        return parent.parse().ok().map(|number: usize| number + usize::from(child));
    }
    of_trace(event["traceparent"].as_str()?)
}

/// What is wrong with a job's end, given its kind.
fn fault(entry: Entry, status: &str, why: &str, event: &Value) -> Option<String> {
    let unsafe_call = matches!(
        entry.nature,
        Nature::Start | Nature::Verify | Nature::VerifyWrong | Nature::Finalize | Nature::Consent
    );
    let fine = match (entry.nature, status) {
        (Nature::Malformed, _) => status == "rejected",
        (_, "rejected") => false,
        (_, "expired") => entry.deadline && matches!(why, "expired" | "rate_limited" | "in_doubt"),
        (_, "failed") => match why {
            // Without a token no call is made.
            "upstream" | "timeout" | "network" => true,
            // A creation in doubt is checked, unless its deadline has passed.
            "in_doubt" => entry.attempts > 0 && (unsafe_call || entry.nature == Nature::Create && entry.deadline),
            "invalid_code" => entry.nature == Nature::VerifyWrong,
            _ => false,
        },
        (Nature::CheckAbsent, _) => why == "absent",
        (Nature::CheckPresent, _) => why == "exists",
        (Nature::Create, _) => {
            why == "created" || why == "already_exists" && event["result"]["after_doubt"] == Value::Bool(true)
        }
        (Nature::Start, _) => why == "otp_sent",
        (Nature::Verify, _) => why == "verified",
        (Nature::VerifyWrong, _) => false,
        (Nature::Finalize | Nature::Consent, _) => why == "consented",
    };
    if !fine {
        return Some(format!("a {:?} that ended as {status} {why}", entry.nature));
    }
    let started = event["started_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let early = started.is_some_and(|at| at.as_second() < i64::from(entry.not_before_s));
    early.then(|| "it started before its run_at".to_owned())
}

#[test]
fn a_trace_leads_back_to_its_job() {
    for number in [0, 1, 77, 400_000] {
        assert_eq!(of_trace(&traceparent(number)), Some(number));
    }
    assert_eq!(of_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), None);
}
