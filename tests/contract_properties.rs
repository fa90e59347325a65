//! Properties of the contract for any input: parsing does not panic, messages contain no secrets, and dead letters no
//! codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "integration/support/field_names.rs"]
mod field_names;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use xco_worker::contract::{
    ErrorKind, Job, JobError, MAX_JOB_BYTES, ParseContext, Partitions, Rejection, dead_letter_job, parse_job,
    partition_of, redact_code,
};

/// Values that no field name, limit or example in a message could contain by chance.
const EMAIL: &str = "zebulon.quux@wobble-mail.example";
const PHONE: &str = "+33698765432";
const CODE: &str = "987031";

fn context(generation: u8) -> ParseContext<'static> {
    ParseContext { allow_missing_caller_id: false, default_id: "bulk:3:1732265000000-7", generation }
}

/// Field names of the contract, and similar names.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => select(&field_names::NAMES[..]).prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

fn scalar() -> impl Strategy<Value = Value> {
    let texts = vec![
        EMAIL,
        PHONE,
        CODE,
        "CheckUser",
        "CreateUser",
        "StartOtp",
        "VerifyOtp",
        "FinalizeConsent",
        "",
        "c",
        "billing",
        "male",
        "1990-02-29",
        "2026-01-01T00:00:00Z",
        "01234567-89ab-cdef-0123-456789abcdef",
        "a b",
        "00-0-0-0",
    ];
    prop_oneof![
        8 => select(texts).prop_map(Value::from),
        1 => "\\PC{0,20}".prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(json!(1)),
        1 => Just(Value::Null),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((name(), inner), 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn args() -> impl Strategy<Value = (&'static str, Value, &'static [&'static str])> {
    prop_oneof![
        Just(("CheckUser", json!({ "email": EMAIL }), ["exists", "absent"].as_slice())),
        Just(("StartOtp", json!({ "phone_number": PHONE, "email": null }), ["otp_sent"].as_slice())),
        Just(("VerifyOtp", json!({ "email": EMAIL, "verification_code": CODE }), ["verified"].as_slice())),
        Just((
            "CreateUser",
            json!({ "customer_reference": "ref", "user": { "email": EMAIL, "phone_number": PHONE, "birthdate": "1990-01-15",
                "gender": "other", "addresses": [{ "address_type": "billing", "postal_code": "75001" }, {}] } }),
            ["created", "already_exists"].as_slice()
        )),
        Just((
            "FinalizeConsent",
            json!({ "customer_reference": "ref", "consent_challenge_id": "01234567-89ab-cdef-0123-456789abcdef" }),
            ["consented"].as_slice()
        )),
        Just((
            "FinalizeConsent",
            json!({ "customer_reference": "ref", "phone_number": PHONE, "verification_code": CODE }),
            ["consented"].as_slice()
        )),
    ]
}

/// Fields that any job may have, also a child.
fn extras() -> impl Strategy<Value = Map<String, Value>> {
    let fields = vec![
        ("v", json!(1)),
        ("customer_reference", json!("job-ref \"é\"")),
        ("merchant_id", json!("01234567-89ab-cdef-0123-456789abcdef")),
        ("ttl_ms", json!(60_000)),
        ("run_at", json!("2026-01-01T00:00:00.5+02:00")),
        ("max_attempts", json!(3)),
        ("max_attempts", json!(3.0)),
        ("batch", json!("batch/1")),
        ("meta", json!({ "order": "42", "empty": "" })),
        ("meta", json!({ "order": 42, "price": 1.5, "new": true })),
        ("meta", json!([])),
        ("traceparent", json!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
        ("traceparent", json!("")),
        ("tracestate", json!("a=1")),
        ("batch", Value::Null),
    ];
    proptest::sample::subsequence(fields, 0..8)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A valid job with up to this number of generations of children.
fn valid_job(generations: u32) -> BoxedStrategy<Value> {
    let alone = (args(), extras()).prop_map(|((job_type, args, _), mut job)| {
        job.insert("type".to_owned(), json!(job_type));
        job.insert("args".to_owned(), args);
        Value::Object(job)
    });
    if generations == 0 {
        return alone.boxed();
    }
    let parent = (args(), extras(), vec(valid_job(generations - 1), 2), any::<bool>());
    let parent = parent.prop_map(|((job_type, args, outcomes), mut job, children, reply)| {
        job.insert("type".to_owned(), json!(job_type));
        job.insert("args".to_owned(), args);
        let next = outcomes.iter().zip(children).map(|(outcome, mut child)| {
            child["reply"] = json!(reply);
            ((*outcome).to_owned(), child)
        });
        job.insert("next".to_owned(), Value::Object(next.collect()));
        Value::Object(job)
    });
    prop_oneof![alone, parent].boxed()
}

/// A valid job as a producer sends it: with a caller.
fn produced_job() -> impl Strategy<Value = Value> {
    (valid_job(4), any::<bool>()).prop_map(|(mut job, id)| {
        job["caller_id"] = json!("203.0.113.9");
        if id {
            job["id"] = json!("signup/42");
        }
        job
    })
}

/// Replaces something inside `value` by `with`.
fn mutate(value: &mut Value, path: &[usize], with: Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = with;
        return;
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            let index = first % members.len();
            mutate(members.values_mut().nth(index).unwrap(), rest, with);
        }
        Value::Array(values) if !values.is_empty() => {
            let index = first % values.len();
            mutate(&mut values[index], rest, with);
        }
        other => *other = with,
    }
}

/// Checks that hold for every parse result. `told` tells whether the secrets are in the job only as values, not as
/// keys.
fn check(bytes: &[u8], told: bool) -> Result<Result<Job, Box<Rejection>>, TestCaseError> {
    let judged = parse_job(bytes, context(0));
    match &judged {
        Ok(job) => {
            prop_assert_eq!(job.id.is_some() || !job.reply, true);
            // The producer chooses `id` and `batch`; no other text of the job is shown.
            let shown = format!("{:?}", Job { id: None, batch: None, ..job.clone() });
            prop_assert!(![EMAIL, PHONE, CODE].iter().any(|secret| shown.contains(secret)), "{}", shown);
        }
        Err(rejection) => {
            prop_assert!(!rejection.faults.is_empty());
            prop_assert!(!rejection.reply || rejection.id.is_some());
            for fault in &rejection.faults {
                prop_assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'));
                prop_assert!(!fault.detail.is_empty());
                prop_assert!(
                    ![EMAIL, PHONE, CODE].iter().any(|secret| fault.detail.contains(secret)),
                    "{}",
                    fault.detail
                );
            }
            let error = JobError::rejected(rejection.kind, rejection.faults.clone());
            if told {
                let text = serde_json::to_string(&error).unwrap();
                prop_assert!(![EMAIL, PHONE, CODE].iter().any(|secret| text.contains(secret)), "{}", text);
            }
            prop_assert_eq!(
                rejection.kind == ErrorKind::UnsupportedVersion,
                rejection.faults.iter().any(|fault| fault.pointer == "/v")
                    && rejection.faults.len() == 1
                    && rejection.kind != ErrorKind::InvalidJob
            );
        }
    }
    Ok(judged)
}

fn without_codes(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(name, _)| name != "verification_code");
            Value::Object(kept.map(|(name, value)| (name, without_codes(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(without_codes).collect(),
        other => other,
    }
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| name == key || has_key(value, key)),
        Value::Array(values) => values.iter().any(|value| has_key(value, key)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..600)) {
        check(&bytes, false)?.ok();
        prop_assert!(dead_letter_job(&bytes).len() <= 8192);
    }

    #[test]
    fn any_json_is_judged(value in any_json()) {
        check(value.to_string().as_bytes(), true)?.ok();
    }

    #[test]
    fn valid_jobs_are_accepted_and_their_children_after_them(job in produced_job()) {
        let text = job.to_string();
        let parsed = check(text.as_bytes(), true)?.map_err(|rejection| TestCaseError::fail(format!("{text}: {rejection:?}")))?;
        prop_assert_eq!(parsed.carries_code, has_key(&job, "verification_code"));
        let mut generation = vec![(parsed, "bulk:3:1732265000000-7".to_owned())];
        for depth in 1..=4 {
            let mut below = Vec::new();
            for (parent, default_id) in &generation {
                let parent_id = parent.id.as_ref().map_or(default_id.as_str(), |id| id.as_str());
                for next in &parent.next {
                    let child = parse_job(next.job.as_bytes(), context(depth))
                        .map_err(|rejection| TestCaseError::fail(format!("{}: {rejection:?}", next.job)))?;
                    prop_assert_eq!(child.id.as_ref().unwrap().as_str(), format!("{parent_id}/{}", next.outcome.as_str()));
                    prop_assert_eq!(child.id.as_ref().unwrap().as_str(), &next.id);
                    prop_assert_eq!(&child.effective_caller, &parent.effective_caller);
                    prop_assert!(child.customer_reference.is_some() || parent.customer_reference.is_none());
                    prop_assert!(child.traceparent.is_some() || parent.traceparent.is_none());
                    prop_assert!(parent.carries_code || !child.carries_code);
                    below.push((child, String::new()));
                }
            }
            generation = below;
        }
        prop_assert!(generation.iter().all(|(job, _)| job.next.is_empty()));
    }

    #[test]
    fn a_letter_keeps_all_of_a_valid_job_but_its_codes(job in produced_job()) {
        let letter: Value = serde_json::from_str(&dead_letter_job(job.to_string().as_bytes())).unwrap();
        prop_assert_eq!(letter, without_codes(job));
    }

    #[test]
    fn mutated_jobs_are_judged(job in produced_job(), path in vec(any::<usize>(), 0..7), with in any_json()) {
        let mut job = job;
        mutate(&mut job, &path, with);
        check(job.to_string().as_bytes(), true)?.ok();
    }

    #[test]
    fn damaged_jobs_are_judged_and_kept_without_codes(job in produced_job(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = job.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        check(&bytes, false)?.ok();
        // Damage within the name can turn it into another name.
        let letter = dead_letter_job(&bytes);
        let name_is_whole = String::from_utf8_lossy(&bytes).matches("verification_code").count() == job.to_string().matches("verification_code").count();
        if cut || name_is_whole {
            prop_assert!(!letter.contains(CODE), "{}", letter);
        }
    }

    #[test]
    fn no_code_survives_in_a_letter(value in any_json(), path in vec(any::<usize>(), 0..6), code in "[0-9a-z]{6,12}", layers in 0..4_usize) {
        let mut job = value;
        mutate(&mut job, &path, json!({ "verification_code": format!("<{code}>"), "args": [{ "verification_code": [format!("<{code}>")] }] }));
        let mut text = job.to_string();
        for _ in 0..layers {
            text = json!({ "meta": { "inner": text } }).to_string();
        }
        let letter = dead_letter_job(text.as_bytes());
        prop_assert!(!letter.contains(&format!("<{code}>")), "{}", letter);
        prop_assert!(serde_json::from_str::<Value>(&letter).is_ok());
        // A broken job is kept as text, and the code is still masked.
        let letter = dead_letter_job(format!("{text}]").as_bytes());
        prop_assert!(!letter.contains(&format!("<{code}>")), "{}", letter);
        prop_assert!(letter.len() <= 4096);
    }

    #[test]
    fn no_known_code_survives_in_an_answer(value in any_json(), code in "[0-9]{4,8}|[!-~]{1,6}", path in vec(any::<usize>(), 0..6)) {
        let mut value = value;
        mutate(&mut value, &path, json!({ "detail": format!("{code}{code} is wrong"), code.clone(): [code] }));
        let value = redact_code(&value.into(), &code).value();
        let mut texts = Vec::new();
        collect(&value, &mut texts);
        prop_assert!(texts.iter().all(|text| !text.contains(&code)), "{:?}", texts);
    }

    #[test]
    fn a_partition_is_one_of_those_there_are(key in "\\PC{0,40}", partitions in 1..=u16::MAX) {
        prop_assert!(partition_of(&key, Partitions::new(partitions).unwrap()) < partitions);
    }

    #[test]
    fn a_flood_of_fields_is_answered_within_bounds(count in 1..3000_usize) {
        let mut job = String::from("{\"type\":\"CheckUser\"");
        job.extend((0..count).map(|index| format!(",\"{index}\":0")));
        job.push('}');
        prop_assume!(job.len() <= MAX_JOB_BYTES);
        let rejection = parse_job(job.as_bytes(), context(0)).unwrap_err();
        prop_assert!(rejection.faults.len() <= 257);
    }
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(members) => {
            for (key, value) in members {
                texts.push(key.clone());
                collect(value, texts);
            }
        }
        _ => {}
    }
}
