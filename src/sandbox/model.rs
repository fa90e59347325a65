//! The data of the simulated XCO: users, codes, challenges and consents.

use super::{ConflictStyle, EffectKind, SandboxConfig, reply::Problem, reply::Reply, validate};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

/// A customer who has an account before the test starts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSandboxUser {
    /// Email address; required.
    pub email: String,
    /// Phone number in E.164 format.
    #[serde(default)]
    pub phone_number: Option<String>,
    /// Given name.
    #[serde(default)]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(default)]
    pub last_name: Option<String>,
    /// Number of payment tokens.
    #[serde(default)]
    pub token_count: u64,
}

struct User {
    profile: Value,
    token_count: u64,
}

struct Code {
    digits: String,
    sent: Instant,
    tries: u32,
    number: u32,
    good: bool,
}

/// An effect of a call, for the record.
pub(super) struct Done {
    pub(super) kind: EffectKind,
    pub(super) key: String,
    pub(super) code_number: u32,
}

/// An answer, and the effect of the call.
pub(super) type Outcome = (Result<Reply, Problem>, Option<Done>);

/// The data behind the five calls.
pub(super) struct Model {
    users: Vec<User>,
    by_contact: HashMap<String, usize>,
    codes: HashMap<String, Code>,
    challenges: HashMap<String, usize>,
    consents: HashSet<(String, String)>,
    pub(super) rng: StdRng,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            users: Vec::new(),
            by_contact: HashMap::new(),
            codes: HashMap::new(),
            challenges: HashMap::new(),
            consents: HashSet::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn consent_count(&self) -> usize {
        self.consents.len()
    }

    /// The valid code of a contact.
    pub(super) fn code(&self, contact: &str, config: &SandboxConfig) -> Option<&str> {
        let code = self.codes.get(&folded(contact))?;
        (code.good && code.sent.elapsed() < config.code_life).then_some(code.digits.as_str())
    }

    pub(super) fn seed_user(&mut self, user: &NewSandboxUser) {
        let mut profile = json!({ "email": user.email });
        for (name, value) in
            [("phone_number", &user.phone_number), ("first_name", &user.first_name), ("last_name", &user.last_name)]
        {
            if let Some(value) = value {
                profile[name] = Value::from(value.as_str());
            }
        }
        self.insert(profile, user.token_count);
    }

    fn insert(&mut self, profile: Value, token_count: u64) {
        for name in ["email", "phone_number"] {
            if let Some(contact) = profile.get(name).and_then(Value::as_str) {
                self.by_contact.insert(folded(contact), self.users.len());
            }
        }
        self.users.push(User { profile, token_count });
    }

    fn find(&self, contact: &str) -> Option<usize> {
        self.by_contact.get(&folded(contact)).copied()
    }

    pub(super) fn exists(&self, args: &Map<String, Value>) -> Outcome {
        let mut faults = Vec::new();
        validate::only(args, "", &["email", "phone_number", "caller_id"], &mut faults);
        let contact = validate::contact(args, &mut faults);
        let Some(contact) = contact.filter(|_| faults.is_empty()) else {
            return (Err(Problem::validation(faults)), None);
        };
        let user = self.find(contact).and_then(|index| self.users.get(index));
        let body = json!({ "exists": user.is_some(), "token_count": user.map_or(0, |user| user.token_count) });
        (Ok(Reply::json(200, &body)), None)
    }

    pub(super) fn create(&mut self, args: &Map<String, Value>, merchant: &str, config: &SandboxConfig) -> Outcome {
        let mut faults = Vec::new();
        validate::only(args, "", &["customer_reference", "user"], &mut faults);
        let reference =
            validate::text(args.get("customer_reference"), "/customer_reference", validate::is_filled, &mut faults);
        validate::user(args.get("user"), &mut faults);
        let (Some(reference), Some(user)) = (reference, args.get("user").filter(|_| faults.is_empty())) else {
            return (Err(Problem::validation(faults)), None);
        };
        let contacts = [user.get("email"), user.get("phone_number")];
        if contacts.into_iter().flatten().filter_map(Value::as_str).any(|contact| self.find(contact).is_some()) {
            let problem = match &config.conflict {
                ConflictStyle::Conflict => Problem::new(409, "user-already-exists", "The user exists already"),
                ConflictStyle::BadRequest(kind) => Problem::new(400, kind, "The user exists already"),
            };
            return (Err(problem), None);
        }
        self.insert(user.clone(), 0);
        self.consents.insert((merchant.to_owned(), reference.to_owned()));
        let reply = Reply::json(201, &json!({ "customer_reference": reference, "user": user }));
        (Ok(reply), Some(Done { kind: EffectKind::UserCreated, key: reference.to_owned(), code_number: 0 }))
    }

    pub(super) fn start(&mut self, args: &Map<String, Value>) -> Outcome {
        let mut faults = Vec::new();
        validate::only(args, "", &["email", "phone_number", "caller_id"], &mut faults);
        let contact = validate::contact(args, &mut faults);
        let Some(contact) = contact.filter(|_| faults.is_empty()) else {
            return (Err(Problem::validation(faults)), None);
        };
        if self.find(contact).is_none() {
            return (Err(Problem::new(404, "user-not-found", "User not found")), None);
        }
        let digits = format!("{:06}", self.rng.random_range(0..1_000_000_u32));
        let number = self.codes.get(&folded(contact)).map_or(1, |former| former.number + 1);
        self.codes.insert(folded(contact), Code { digits, sent: Instant::now(), tries: 0, number, good: true });
        let done = Done { kind: EffectKind::CodeSent, key: contact.to_owned(), code_number: number };
        (Ok(Reply::no_content()), Some(done))
    }

    pub(super) fn verify(&mut self, args: &Map<String, Value>, config: &SandboxConfig) -> Outcome {
        let mut faults = Vec::new();
        validate::only(args, "", &["email", "phone_number", "verification_code", "caller_id"], &mut faults);
        let contact = validate::contact(args, &mut faults);
        let tried =
            validate::text(args.get("verification_code"), "/verification_code", validate::is_filled, &mut faults);
        let (Some(contact), Some(tried)) = (contact, tried.filter(|_| faults.is_empty())) else {
            return (Err(Problem::validation(faults)), None);
        };
        let wrong = || {
            let mut problem = Problem::new(config.wrong_code_status, &config.wrong_code_type, "Request refused");
            if config.echo_code {
                problem.title = format!("{tried} is refused");
                problem.detail = format!("{tried} is not the code that was sent");
            }
            problem
        };
        let user = self.find(contact);
        let (Some(user), Some(code)) = (user, self.codes.get_mut(&folded(contact))) else {
            return (Err(wrong()), None);
        };
        if !code.good || code.sent.elapsed() >= config.code_life {
            return (Err(wrong()), None);
        }
        let done = |kind, number| Some(Done { kind, key: contact.to_owned(), code_number: number });
        if code.digits != tried {
            code.tries += 1;
            code.good = code.tries < config.max_code_attempts;
            return (Err(wrong()), done(EffectKind::CodeTried, code.number));
        }
        code.good = false;
        let number = code.number;
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        let challenge = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        let profile = self.users.get(user).map_or(Value::Null, |user| user.profile.clone());
        let reply = Reply::json(200, &json!({ "consent_challenge_id": challenge, "user": profile }));
        self.challenges.insert(challenge, user);
        (Ok(reply), done(EffectKind::CodeSpent, number))
    }

    pub(super) fn consent(&mut self, args: &Map<String, Value>, merchant: &str, reference: &str) -> Outcome {
        let mut faults = Vec::new();
        validate::only(args, "", &["consent_challenge_id"], &mut faults);
        let is_uuid = |text: &str| uuid::Uuid::parse_str(text).is_ok();
        let challenge = validate::text(args.get("consent_challenge_id"), "/consent_challenge_id", is_uuid, &mut faults);
        let Some(challenge) = challenge.filter(|_| faults.is_empty()) else {
            return (Err(Problem::validation(faults)), None);
        };
        if self.challenges.remove(challenge).is_none() {
            return (Err(Problem::new(404, "consent-challenge-not-found", "Consent challenge not found")), None);
        }
        self.consents.insert((merchant.to_owned(), reference.to_owned()));
        let done = Done { kind: EffectKind::Consented, key: reference.to_owned(), code_number: 0 };
        (Ok(Reply::no_content()), Some(done))
    }
}

/// A contact in lower case: the same customer may write an address in another case.
fn folded(contact: &str) -> String {
    contact.to_lowercase()
}
