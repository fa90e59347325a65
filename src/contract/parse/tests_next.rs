//! Tests of `next`: which children are allowed, what they inherit, and that they are valid when they are enqueued.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{
    MAX_JOB_BYTES, ParseContext, parse_job,
    tests::{CONTEXT, accepted, pointers, rejected},
};
use crate::contract::{ErrorKind, Job, Outcome};
use serde_json::{Value, json};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn create(next: &Value) -> Value {
    json!({ "type": "CreateUser", "args": { "customer_reference": "ref", "user": { "email": "a@b.fr" } }, "next": next })
}

fn check(next: &Value) -> Value {
    json!({ "type": "CheckUser", "id": "j", "args": { "email": "a@b.fr" }, "caller_id": "c", "next": next })
}

fn child(job: &Job, outcome: Outcome) -> Value {
    serde_json::from_str(&job.next.iter().find(|next| next.outcome == outcome).unwrap().job).unwrap()
}

#[test]
fn a_child_inherits_what_it_does_not_name() {
    let mut parent = check(&json!({ "absent": create(&json!(null)), "exists": {
        "type": "StartOtp", "args": { "email": "a@b.fr" }, "id": "own", "caller_id": "c", "customer_reference": "other", "merchant_id": "11111111-89ab-cdef-0123-456789abcdef",
        "batch": "mine", "meta": { "my": "own" }, "ttl_ms": 5, "run_at": "2024-11-22T08:43:20Z", "max_attempts": 2, "reply": true,
        "tracestate": "ignored=1", "traceparent": ""
    } }));
    let common = json!({
        "customer_reference": "mine", "merchant_id": "01234567-89ab-cdef-0123-456789abcdef", "batch": "b", "meta": { "k": "v" },
        "traceparent": TRACEPARENT, "tracestate": "a=1"
    });
    for (key, value) in common.as_object().unwrap() {
        parent[key] = value.clone();
    }
    for (key, value) in [
        ("ttl_ms", json!(9)),
        ("max_attempts", json!(7)),
        ("reply", json!(true)),
        ("run_at", json!("2024-11-22T08:43:21Z")),
    ] {
        parent[key] = value;
    }
    let job = accepted(&parent);
    let absent = child(&job, Outcome::Absent);
    let mut expected = json!({
        "v": 1, "id": "j/absent", "type": "CreateUser", "args": { "customer_reference": "ref", "user": { "email": "a@b.fr" } }, "caller_id": "c"
    });
    expected.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
    assert_eq!(absent, expected);
    assert_eq!(
        child(&job, Outcome::Exists),
        json!({
            "v": 1, "id": "own", "type": "StartOtp", "args": { "email": "a@b.fr" }, "caller_id": "c", "customer_reference": "other",
            "merchant_id": "11111111-89ab-cdef-0123-456789abcdef", "batch": "mine", "meta": { "my": "own" }, "ttl_ms": 5, "run_at": "2024-11-22T08:43:20Z",
            "max_attempts": 2, "reply": true, "traceparent": TRACEPARENT, "tracestate": "a=1"
        })
    );
    assert!(!job.carries_code);
}

#[test]
fn a_childs_own_trace_keeps_out_its_parents_state() {
    let own = "00-11111111111111111111111111111111-00f067aa0ba902b7-00";
    let mut parent =
        check(&json!({ "absent": { "type": "CheckUser", "args": { "email": "a@b.fr" }, "traceparent": own } }));
    parent["traceparent"] = json!(TRACEPARENT);
    parent["tracestate"] = json!("a=1");
    let child = child(&accepted(&parent), Outcome::Absent);
    assert_eq!((child["traceparent"].as_str(), child.get("tracestate")), (Some(own), None));
}

#[test]
fn the_caller_is_the_parents_effective_one() {
    let start = json!({ "type": "StartOtp", "args": { "email": "a@b.fr" } });
    // The reference in the parent's arguments serves as the caller.
    let job = accepted(&create(&json!({ "already_exists": start })));
    let start_child = child(&job, Outcome::AlreadyExists);
    assert_eq!(
        (start_child["caller_id"].as_str(), start_child["id"].as_str()),
        (Some("ref"), Some("interactive:0:1-0/already_exists"))
    );
    assert_eq!(start_child.get("customer_reference"), None);
    let mut other = start.clone();
    other["caller_id"] = json!("another");
    assert_eq!(pointers(&rejected(&check(&json!({ "exists": other })).to_string())), ["/next/exists/caller_id"]);
    // If the parent has no caller, the child may name one.
    let parent = |child: &Value| {
        json!({ "type": "CheckUser", "args": { "email": "a@b.fr" }, "next": { "exists": child } }).to_string()
    };
    let allowed = ParseContext { allow_missing_caller_id: true, ..CONTEXT };
    let job = parse_job(parent(&other).as_bytes(), allowed).unwrap();
    assert_eq!(child(&job, Outcome::Exists)["caller_id"], "another");
    let job = parse_job(parent(&start).as_bytes(), allowed).unwrap();
    assert_eq!(child(&job, Outcome::Exists).get("caller_id"), None);
    let both = rejected(&parent(&start));
    assert_eq!(
        (both.kind, pointers(&both)),
        (ErrorKind::MissingCallerId, vec!["/next/exists/caller_id", "/caller_id"])
    );
}

#[test]
fn faults_of_children_are_their_parents() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({ "created": create(&json!({})) }), &["/next/created"]),
        (json!({ "abscent": create(&json!({})), "x/y": 1 }), &["/next/abscent", "/next/x~1y"]),
        (json!({ "absent": "x", "exists": {} }), &["/next/absent", "/next/exists/type", "/next/exists/args"]),
        (
            json!({ "absent": { "type": "CreateUser", "args": { "customer_reference": "r", "user": { "phone_number": "1" } }, "idd": 1 } }),
            &["/next/absent/args/user/phone_number", "/next/absent/args/user/email", "/next/absent/idd"],
        ),
        (
            json!({ "absent": create(&json!({ "created": { "v": 2, "type": "New" } })) }),
            &["/next/absent/next/created/v"],
        ),
        (
            json!({ "absent": { "type": "CheckUser", "args": { "email": "a@b.fr" }, "id": "x".repeat(129) } }),
            &["/next/absent/id"],
        ),
    ];
    for (next, expected) in cases {
        let rejection = rejected(&check(&next).to_string());
        let mut found = pointers(&rejection);
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!((found, rejection.kind), (expected, ErrorKind::InvalidJob), "{next}");
    }
    let near = rejected(&check(&json!({ "abscent": {} })).to_string());
    assert!(near.faults[0].detail.contains("did you mean `absent`?"));
    let twice =
        r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"caller_id":"c","next":{"absent":null,"absent":null}}"#;
    assert_eq!(pointers(&rejected(twice)), ["/next/absent"]);
}

#[test]
fn four_generations_of_children_and_no_more() {
    let nested = |generations: usize| (0..generations).fold(json!({}), |next, _| json!({ "absent": check(&next) }));
    let strip = |generations| {
        let mut job = check(&nested(generations)).to_string();
        // Every id except the root's is derived.
        job = job.replace(r#""id":"j","#, "");
        job.replacen('{', r#"{"id":"j","#, 1)
    };
    assert_eq!(pointers(&rejected(&strip(5))), ["/next/absent/next/absent/next/absent/next/absent/next"]);
    let mut job = strip(4);
    for generation in 0..=4 {
        let context = ParseContext { generation, ..CONTEXT };
        let parsed =
            parse_job(job.as_bytes(), context).unwrap_or_else(|rejection| panic!("{generation}: {rejection:?}"));
        assert_eq!(parsed.id.unwrap().as_str(), format!("j{}", "/absent".repeat(usize::from(generation))));
        let too_late = ParseContext { generation: generation + 1, ..CONTEXT };
        assert_eq!(parse_job(job.as_bytes(), too_late).is_ok(), generation == 4);
        match parsed.next.first() {
            Some(next) => job.clone_from(&next.job),
            None => assert_eq!(generation, 4),
        }
    }
    assert!(parse_job(strip(1).as_bytes(), ParseContext { generation: 255, ..CONTEXT }).is_err());
}

#[test]
fn derived_ids_may_exceed_what_a_producer_may_give() {
    let mut parent = check(&json!({ "absent": create(&json!({})) }));
    parent["id"] = json!("x".repeat(128));
    let job = accepted(&parent);
    let bytes = job.next[0].job.as_bytes();
    assert_eq!(pointers(&parse_job(bytes, CONTEXT).unwrap_err()), ["/id"]);
    assert!(parse_job(bytes, ParseContext { generation: 1, ..CONTEXT }).is_ok());
}

#[test]
fn what_a_child_inherits_does_not_make_it_too_large() {
    // The largest possible parent. The child is almost all of it and inherits everything that grows when it is written
    // twice.
    let reference = "\"".repeat(256);
    let mut parent = json!({
        "id": "x".repeat(128), "type": "CreateUser", "args": { "customer_reference": reference, "user": { "email": "a@b.fr" } },
        "next": { "created": { "type": "CheckUser", "args": { "email": "a@b.fr" }, "next": { "absent": create(&json!({})) } } }
    });
    let user = &mut parent["next"]["created"]["next"]["absent"]["args"]["user"];
    let long = "é".repeat(256);
    user["addresses"] = Value::Array(vec![
        json!({ "street_address": long, "address_complement": long, "locality": long, "postal_code": long, "country": long });
        10
    ]);
    let json = parent.to_string();
    // Escapes in the input may become shorter and white space is dropped. Neither makes the output longer.
    let padded = json.replace(r#""user":{"#, &format!(r#""user":{{{}"#, " ".repeat((MAX_JOB_BYTES - json.len()) / 2)));
    let job = parse_job(padded.as_bytes(), CONTEXT).unwrap();
    assert!(parse_job(job.next[0].job.as_bytes(), ParseContext { generation: 1, ..CONTEXT }).is_ok());
}

#[test]
fn a_code_in_any_descendant_is_carried() {
    let verify = json!({ "type": "VerifyOtp", "args": { "email": "a@b.fr", "verification_code": "123456" } });
    assert!(accepted(&check(&json!({ "exists": verify }))).carries_code);
    assert!(accepted(&check(&json!({ "absent": create(&json!({ "created": verify })) }))).carries_code);
}
