//! The JSON Schemas in `docs`, held against the parser of jobs: what the parser accepts, the job's schema accepts; what it
//! rejects, the schema rejects, except for the few rules that no schema can express.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value, missing_docs)]

#[path = "integration/support/field_names.rs"]
mod field_names;

use jsonschema::Validator;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use std::{fs, path::Path, sync::LazyLock};
use xco_worker::contract::{ErrorKind, JobType, Outcome, ParseContext, Rejection, Status, parse_job};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

static JOB: LazyLock<Validator> = LazyLock::new(|| schema("job.schema.json").1);

fn schema(name: &str) -> (Value, Validator) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap();
    let schema = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    (schema, validator)
}

fn parse(job: &Value) -> Result<(), Box<Rejection>> {
    let context = ParseContext { allow_missing_caller_id: false, default_id: "interactive:0:1-0", generation: 0 };
    parse_job(job.to_string().as_bytes(), context).map(drop)
}

/// The beginnings of details of rules that no schema expresses: they are named in its `$comment`s.
const BEYOND_A_SCHEMA: [&str; 7] = [
    "must be an email address",
    "must be a date, ",
    "must be a moment in RFC 3339 form",
    "must be 1 to 256 bytes",
    "must be 1 to 128 bytes",
    "must be at most 2048 bytes as JSON",
    "must be left out or be its parent's",
];

/// Why parser and schema disagree about `job`, if they do.
fn disagreement(job: &Value) -> Option<String> {
    let by_schema = JOB.validate(job).map_err(|error| error.to_string());
    match (parse(job), by_schema) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => None,
        (Ok(()), Err(error)) => Some(format!("the schema alone rejects {job}: {error}")),
        (Err(rejection), Ok(())) => {
            let expressible = rejection
                .faults
                .iter()
                .find(|fault| !BEYOND_A_SCHEMA.iter().any(|beyond| fault.detail.starts_with(beyond)));
            expressible.map(|fault| format!("the parser alone rejects {job}: {} {}", fault.pointer, fault.detail))
        }
    }
}

fn check() -> Value {
    json!({ "type": "CheckUser", "args": { "email": "ada@example.com" }, "caller_id": "203.0.113.9" })
}

fn with(fields: Value) -> Value {
    let mut job = check();
    for (name, value) in fields.as_object().unwrap() {
        job[name] = value.clone();
    }
    job
}

fn of_type(job_type: &str, args: Value) -> Value {
    json!({ "type": job_type, "args": args, "caller_id": "c" })
}

/// A job with so many generations below it.
fn chain(generations: u32) -> Value {
    (0..generations).fold(check(), |child, _| with(json!({ "next": { "absent": child } })))
}

fn accepted() -> Vec<Value> {
    let user = json!({ "email": "ada@example.com", "phone_number": "+33612345678", "first_name": "Ada", "gender": "female",
        "birthdate": "1990-01-15", "addresses": [{ "address_type": "billing", "country": "FRANCE" }, {}, []] });
    vec![
        check(),
        with(
            json!({ "v": 1.0, "id": "a/b:c_d.e-9", "reply": true, "ttl_ms": 60000.0, "max_attempts": 100, "batch": "b 1" }),
        ),
        with(json!({ "run_at": "2026-01-31t09:00:00.123456+01:00", "merchant_id": UUID, "customer_reference": "é 1" })),
        with(json!({ "meta": { "order": 42, "new": true, "empty": "" }, "traceparent": "", "tracestate": "x" })),
        with(json!({ "meta": [], "next": [], "id": null, "v": null, "reply": null, "batch": null })),
        with(json!({ "caller_id": null, "customer_reference": "c-1" })),
        with(
            json!({ "next": { "exists": null, "absent": { "type": "StartOtp", "args": { "phone_number": "+33612345678" }, "reply": true } } }),
        ),
        with(json!({ "args": { "email": null, "phone_number": "+33612345678" } })),
        chain(4),
        of_type("StartOtp", json!({ "email": "ada@example.com" })),
        of_type("VerifyOtp", json!({ "email": "ada@example.com", "verification_code": "123456" })),
        json!({ "type": "CreateUser", "args": { "customer_reference": "c-1", "user": user } }),
        json!({ "type": "FinalizeConsent", "args": { "customer_reference": "c-1", "consent_challenge_id": UUID, "email": null } }),
        json!({ "type": "FinalizeConsent", "args": { "customer_reference": "c-1", "email": "ada@example.com", "verification_code": "1" } }),
    ]
}

fn rejected() -> Vec<Value> {
    let long = "x".repeat(300);
    let user = |user: Value| of_type("CreateUser", json!({ "customer_reference": "c", "user": user }));
    let consent = |args: Value| of_type("FinalizeConsent", args);
    let fields = [
        json!({ "v": 2 }),
        json!({ "v": "1" }),
        json!({ "id": "a b" }),
        json!({ "id": "" }),
        json!({ "id": long }),
        json!({ "id": 7 }),
        json!({ "type": "checkuser" }),
        json!({ "type": null }),
        json!({ "args": null }),
        json!({ "args": [] }),
        json!({ "args": {} }),
        json!({ "args": { "email": "nope" } }),
        json!({ "args": { "email": "" } }),
        json!({ "args": { "mail": "a@b.fr" } }),
        json!({ "args": { "phone_number": "0612345678" } }),
        json!({ "args": { "email": "a@b.fr", "phone_number": "+33612345678" } }),
        json!({ "caller_id": null }),
        json!({ "caller_id": "" }),
        json!({ "caller_id": long }),
        json!({ "customer_reference": ".." }),
        json!({ "customer_reference": "a\u{7}" }),
        json!({ "merchant_id": "nobody" }),
        json!({ "ttl_ms": 0 }),
        json!({ "ttl_ms": 1.5 }),
        json!({ "ttl_ms": "1000" }),
        json!({ "ttl_ms": 2_592_000_001_u64 }),
        json!({ "run_at": "tomorrow" }),
        json!({ "run_at": 1_732_265_000 }),
        json!({ "max_attempts": 101 }),
        json!({ "reply": true }),
        json!({ "reply": "true" }),
        json!({ "batch": "a\nb" }),
        json!({ "meta": { "k": null } }),
        json!({ "meta": { "verification_code": "1" } }),
        json!({ "meta": [1] }),
        json!({ "traceparent": 1 }),
        json!({ "next": { "created": {} } }),
        json!({ "next": { "absent": { "type": "CheckUser" } } }),
        json!({ "next": "x" }),
        json!({ "callerId": "c" }),
    ];
    let mut jobs: Vec<Value> = fields.into_iter().map(with).collect();
    jobs.extend([
        json!([]),
        json!("job"),
        chain(5),
        user(json!({})),
        user(json!({ "email": "a@b.fr", "gender": "m" })),
        user(json!({ "email": "a@b.fr", "first_name": "" })),
        user(json!({ "email": "a@b.fr", "addresses": {} })),
        user(json!({ "email": "a@b.fr", "addresses": [{ "adress_type": "billing" }] })),
        user(json!({ "email": "a@b.fr", "birthdate": "0000-01-01" })),
        of_type("VerifyOtp", json!({ "email": "a@b.fr" })),
        of_type("VerifyOtp", json!({ "email": "a@b.fr", "verification_code": "1 2" })),
        of_type("StartOtp", json!({ "email": "a@b.fr", "verification_code": "1" })),
        consent(json!({ "customer_reference": "c" })),
        consent(json!({ "consent_challenge_id": UUID })),
        consent(json!({ "customer_reference": "c", "consent_challenge_id": UUID, "verification_code": "1" })),
        consent(json!({ "customer_reference": "c", "email": "a@b.fr" })),
    ]);
    jobs
}

#[test]
fn parser_and_schema_accept_the_same_jobs() {
    for job in accepted() {
        assert!(parse(&job).is_ok(), "{job}: {:?}", parse(&job));
        assert!(JOB.is_valid(&job), "{job}: {:?}", JOB.validate(&job));
    }
}

#[test]
fn parser_and_schema_reject_the_same_jobs() {
    for job in rejected() {
        assert!(parse(&job).is_err(), "{job}");
        assert!(!JOB.is_valid(&job), "{job}");
    }
}

/// What the schema accepts and the parser does not is told in the schema.
#[test]
fn rules_beyond_the_schema_are_known() {
    let jobs = [
        json!({ "args": { "email": "a@@b..fr" } }),
        json!({ "run_at": "2026-02-30T00:00:00Z" }),
        json!({ "caller_id": "é".repeat(200) }),
        json!({ "batch": "é".repeat(100) }),
        json!({ "meta": { "k": "x".repeat(2048) } }),
        json!({ "next": { "absent": { "type": "CheckUser", "args": { "email": "a@b.fr" }, "caller_id": "another" } } }),
    ];
    for job in jobs.into_iter().map(with) {
        assert!(parse(&job).is_err() && JOB.is_valid(&job) && disagreement(&job).is_none(), "{job}");
    }
}

#[test]
fn the_schemas_name_what_the_code_names() {
    let (job, _) = schema("job.schema.json");
    let (completion, _) = schema("completion.schema.json");
    let types: Vec<_> = JobType::ALL.into_iter().map(JobType::as_str).collect();
    assert_eq!(job["$defs"]["job"]["properties"]["type"]["enum"], json!(types));
    assert_eq!(completion["properties"]["type"]["enum"], json!(types));
    let outcomes: Vec<_> = Outcome::ALL.into_iter().map(Outcome::as_str).collect();
    assert_eq!(completion["properties"]["outcome"]["enum"], json!(outcomes));
    let statuses: Vec<_> = Status::ALL.into_iter().map(Status::as_str).collect();
    assert_eq!(completion["properties"]["status"]["enum"], json!(statuses));
    for rule in job["$defs"]["job"]["allOf"].as_array().unwrap() {
        let name = rule["if"]["properties"]["type"]["const"].as_str().unwrap();
        let of_type = Outcome::of(JobType::from_name(name).unwrap());
        let of_type: Vec<_> = of_type.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!(rule["then"]["properties"]["next"]["propertyNames"]["enum"], json!(of_type), "{name}");
    }
    assert_eq!(job["$defs"]["job"]["allOf"].as_array().unwrap().len(), types.len());
}

/// Rejections name a kind that the completion's schema has for the status `rejected`.
#[test]
fn kinds_of_rejections_are_in_the_schema() {
    let (completion, _) = schema("completion.schema.json");
    let kinds = completion["else"]["oneOf"][3]["properties"]["error"]["properties"]["kind"]["enum"].clone();
    let of_rejections = [ErrorKind::InvalidJob, ErrorKind::MissingCallerId, ErrorKind::UnsupportedVersion];
    assert_eq!(kinds, json!(of_rejections.map(ErrorKind::as_str)));
}

/// Any value that may stand in a job, of the right or the wrong sort.
fn piece() -> impl Strategy<Value = Value> {
    let pieces = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(3.0),
        json!(2.5),
        json!(101),
        json!(-1),
        json!(1e30),
        json!(""),
        json!("c"),
        json!("CheckUser"),
        json!("VerifyOtp"),
        json!("male"),
        json!("billing"),
        json!("1990-01-15"),
        json!("1990-02-30"),
        json!("2026-01-01T00:00:00Z"),
        json!("23:59:60"),
        json!(UUID),
        json!("ada@example.com"),
        json!("a@b"),
        json!("+33612345678"),
        json!("é\n"),
        json!("a b"),
        json!([]),
        json!([1]),
        json!({}),
        json!({ "email": "ada@example.com" }),
        json!({ "exists": null }),
        json!({ "a": "b" }),
        check(),
        chain(2),
    ];
    select(pieces)
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&field_names::NAMES[..])
}

/// Changes `count` places of a job: a member set, removed, or replaced.
fn mutate(value: &mut Value, path: &[usize], name: &str, with: &Value) {
    match (value, path) {
        (Value::Object(members), [first, rest @ ..]) if !members.is_empty() && first % 3 != 0 => {
            let index = first % members.len();
            mutate(members.values_mut().nth(index).unwrap(), rest, name, with);
        }
        (Value::Array(values), [first, rest @ ..]) if !values.is_empty() => {
            let index = first % values.len();
            mutate(&mut values[index], rest, name, with);
        }
        (Value::Object(members), [first, ..]) if first % 2 == 0 => drop(members.remove(name)),
        (Value::Object(members), _) => drop(members.insert(name.to_owned(), with.clone())),
        (other, _) => *other = with.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parser_and_schema_agree_on_changed_jobs(
        job in select(accepted()),
        changes in vec((vec(any::<usize>(), 0..6), name(), piece()), 1..4),
    ) {
        let mut job = job;
        for (path, name, with) in &changes {
            mutate(&mut job, path, name, with);
        }
        prop_assert_eq!(disagreement(&job), None);
    }
}
