//! The jobs that merchants enqueue, of every kind, and the jobs that follow from their ends.

use super::ledger::{Ended, Entry, Ledger, Nature, id, traceparent};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};
use xco_worker::sandbox::{NewSandboxUser, Sandbox};

/// Number of callers. Only the greedy one has more jobs than its limit allows in the long run.
const CALLERS: u32 = 300;
/// Number of customers who have accounts from the start.
const KNOWN: u32 = 50;
/// A caller that always has more jobs than its limit allows, so that a limit that fails now and then is noticed.
const GREEDY: &str = "192.0.2.200";
/// Number of the greedy caller's jobs that are in the queue at once.
const GREEDY_JOBS: u32 = 12;
const BATCH: u32 = 200;

/// Something to enqueue.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    /// Index in the ledger; `None` for an invalid entry without an id.
    pub(crate) number: Option<usize>,
    pub(crate) lane: &'static str,
    pub(crate) text: String,
    /// Whether it was enqueued before under the same id.
    pub(crate) duplicate: bool,
    /// Whether it has an id, and may be enqueued again if Redis did not answer.
    pub(crate) has_id: bool,
}

/// Draws random jobs.
#[derive(Debug)]
pub(crate) struct Traffic {
    rng: StdRng,
    /// Texts and indexes of the latest jobs, used for duplicates.
    latest: VecDeque<(usize, String)>,
    in_batch: u32,
}

fn email(number: usize) -> String {
    format!("c{number}@example.com")
}

impl Traffic {
    pub(crate) fn new(seed: u64, sandbox: &Sandbox) -> Self {
        for n in 0..KNOWN {
            let user = NewSandboxUser { email: format!("known{n}@example.com"), ..NewSandboxUser::default() };
            sandbox.seed_user(&user);
        }
        Self { rng: StdRng::seed_from_u64(seed), latest: VecDeque::new(), in_batch: 0 }
    }

    /// The next orders, usually one.
    pub(crate) fn next(&mut self, ledger: &mut Ledger, sandbox: &Sandbox) -> Vec<NewJob> {
        match self.rng.random_range(0..100) {
            0..=3 => self.nothing_valid(ledger).into_iter().collect(),
            4..=8 => self.again(ledger).into_iter().collect(),
            // Several jobs of one caller, more at once than its limit allows.
            9 => {
                let caller = self.caller();
                (0..15).map(|_| self.check(ledger, &caller)).collect()
            }
            10..=49 => {
                let caller = self.caller();
                vec![self.check(ledger, &caller)]
            }
            50..=69 => {
                let number = ledger.open(Entry::new(Nature::Create));
                vec![self.job(ledger, number, "CreateUser", None, &create_args(number))]
            }
            _ => {
                let number = ledger.open(Entry::new(Nature::Start));
                sandbox.seed_user(&NewSandboxUser { email: email(number), ..NewSandboxUser::default() });
                let caller = self.caller();
                vec![self.job(ledger, number, "StartOtp", Some(&caller), &json!({"email": email(number)}))]
            }
        }
    }

    /// The next job of the greedy caller, if it is due.
    pub(crate) fn greedy(&mut self, ledger: &mut Ledger) -> Option<NewJob> {
        if ledger.greedy >= GREEDY_JOBS {
            return None;
        }
        ledger.greedy += 1;
        let number = ledger.open(Entry { greedy: true, ..Entry::new(Nature::CheckAbsent) });
        Some(self.job(ledger, number, "CheckUser", Some(GREEDY), &json!({"email": email(number)})))
    }

    /// The job that follows from a job's end.
    pub(crate) fn after(&mut self, ended: &Ended, ledger: &mut Ledger, sandbox: &Sandbox) -> Option<NewJob> {
        let nature = ledger.entry(ended.number)?.nature;
        let caller = self.caller();
        if nature == Nature::Start {
            // In doubt, too: if the code was sent, its owner enters it.
            let code = sandbox.otp(&email(ended.number))?;
            let (nature, code) = match self.rng.random_range(0..10) {
                0 => return None,
                1 => (Nature::VerifyWrong, if code == "735128" { "735129".to_owned() } else { "735128".to_owned() }),
                2..=5 => (Nature::Verify, code),
                _ => (Nature::Finalize, code),
            };
            let number = ledger.open(Entry::new(nature));
            let mut args = json!({"email": email(ended.number), "verification_code": code});
            let mut job_type = "VerifyOtp";
            if nature == Nature::Finalize {
                args["customer_reference"] = json!(id(number));
                job_type = "FinalizeConsent";
            }
            return Some(self.job(ledger, number, job_type, Some(&caller), &args));
        }
        if nature == Nature::Verify && self.rng.random_bool(0.5) {
            let number = ledger.open(Entry::new(Nature::Consent));
            let args = json!({"customer_reference": id(number), "consent_challenge_id": ended.challenge.as_ref()?});
            return Some(self.job(ledger, number, "FinalizeConsent", None, &args));
        }
        None
    }

    fn caller(&mut self) -> String {
        let n = self.rng.random_range(0..CALLERS);
        format!("192.0.{}.{}", n / 200, n % 200)
    }

    fn check(&mut self, ledger: &mut Ledger, caller: &str) -> NewJob {
        if self.rng.random_bool(0.3) {
            let known = self.rng.random_range(0..KNOWN);
            let number = ledger.open(Entry::new(Nature::CheckPresent));
            let args = json!({"email": format!("known{known}@example.com")});
            return self.job(ledger, number, "CheckUser", Some(caller), &args);
        }
        let number = ledger.open(Entry::new(Nature::CheckAbsent));
        self.job(ledger, number, "CheckUser", Some(caller), &json!({"email": email(number)}))
    }

    /// A valid job with random optional fields.
    fn job(
        &mut self,
        ledger: &mut Ledger,
        number: usize,
        job_type: &str,
        caller: Option<&str>,
        args: &Value,
    ) -> NewJob {
        let mut job = json!({"type": job_type, "args": args, "traceparent": traceparent(number)});
        if let Some(caller) = caller {
            job["caller_id"] = json!(caller);
        }
        let nature = ledger.entry(number).map(|entry| entry.nature);
        let has_id = nature != Some(Nature::CheckPresent) || self.rng.random_bool(0.8);
        if has_id {
            job["id"] = json!(id(number));
            if self.rng.random_bool(0.1) {
                job["reply"] = json!(true);
            }
            if self.rng.random_bool(0.25) {
                let batch = self.batch(ledger);
                job["batch"] = json!(format!("b{batch}"));
                if let Some(entry) = ledger.entry(number) {
                    entry.batch = batch;
                }
            }
        }
        if let Some(entry) = ledger.entry(number) {
            if self.rng.random_bool(0.03) {
                job["ttl_ms"] = json!(self.rng.random_range(200..4_000));
                entry.deadline = true;
            }
            if self.rng.random_bool(0.03) {
                let at = SystemTime::now() + Duration::from_millis(self.rng.random_range(0..5_000));
                let at = jiff::Timestamp::try_from(at).unwrap();
                job["run_at"] = json!(at.to_string());
                entry.not_before_s = u32::try_from(at.as_second()).unwrap();
            }
        }
        if nature == Some(Nature::CheckAbsent) && has_id && self.rng.random_bool(0.4) {
            Self::child(ledger, number, &mut job);
        }
        let text = job.to_string();
        if has_id {
            self.latest.push_back((number, text.clone()));
            if self.latest.len() > 300 {
                self.latest.pop_front();
            }
        }
        NewJob { number: Some(number), lane: self.lane(), text, duplicate: false, has_id }
    }

    /// Adds a child for a customer without an account.
    fn child(ledger: &mut Ledger, number: usize, job: &mut Value) {
        let batch = ledger.entry(number).map_or(0, |entry| {
            entry.parent = true;
            entry.batch
        });
        let child = ledger.open(Entry { batch, ..Entry::new(Nature::Create) });
        assert_eq!(child, number + 1, "a child follows its parent");
        job["next"] = json!({"absent": {"type": "CreateUser", "args": create_args(child),
            "traceparent": traceparent(child)}});
    }

    fn batch(&mut self, ledger: &mut Ledger) -> u16 {
        if self.in_batch == 0 {
            // Index 0 is not a batch.
            ledger.batches.resize(ledger.batches.len().max(1) + 1, 0);
        }
        self.in_batch = (self.in_batch + 1) % BATCH;
        u16::try_from(ledger.batches.len() - 1).unwrap()
    }

    fn lane(&mut self) -> &'static str {
        if self.rng.random_bool(0.7) { "interactive" } else { "bulk" }
    }

    fn nothing_valid(&mut self, ledger: &mut Ledger) -> Option<NewJob> {
        let lane = self.lane();
        if self.rng.random_bool(0.3) {
            let texts = ["no json", "{}", "[1,2]", r#"{"type":"CheckUser","args":"#, "\u{0}\u{1}"];
            let text = (*texts.choose(&mut self.rng)?).to_owned();
            return Some(NewJob { number: None, lane, text, duplicate: false, has_id: false });
        }
        let number = ledger.open(Entry::new(Nature::Malformed));
        let mut job = json!({"id": id(number), "type": "CheckUser", "caller_id": "192.0.2.1", "args": {"email": "?"}});
        match self.rng.random_range(0..4) {
            0 => job["type"] = json!("Nonsense"),
            1 => job["args"] = json!({"email": email(number), "phone_number": "+33612345678"}),
            2 => job["unknown"] = json!(1),
            _ => {}
        }
        Some(NewJob { number: Some(number), lane, text: job.to_string(), duplicate: false, has_id: true })
    }

    fn again(&mut self, ledger: &mut Ledger) -> Option<NewJob> {
        let (number, text) = self.latest.iter().collect::<Vec<_>>().choose(&mut self.rng).copied().cloned()?;
        ledger.duplicates_sent += 1;
        Some(NewJob { number: Some(number), lane: self.lane(), text, duplicate: true, has_id: true })
    }
}

fn create_args(number: usize) -> Value {
    json!({"customer_reference": id(number), "user": {"email": email(number)}})
}
