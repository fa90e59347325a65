//! Tests of malformed jobs: where their faults are, and what can still be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{MAX_JOB_BYTES, ParseContext, Rejection, parse_job};
use crate::contract::{Args, Contact, ErrorKind, Job, JobType};
use serde_json::{Value, json};

pub(super) const CONTEXT: ParseContext<'static> =
    ParseContext { allow_missing_caller_id: false, default_id: "interactive:0:1-0", generation: 0 };

pub(super) fn accepted(job: &Value) -> Job {
    parse_job(job.to_string().as_bytes(), CONTEXT).unwrap_or_else(|rejection| panic!("{job}: {rejection:?}"))
}

pub(super) fn rejected(job: &str) -> Rejection {
    match parse_job(job.as_bytes(), CONTEXT) {
        Ok(_) => panic!("accepted: {job}"),
        Err(rejection) => *rejection,
    }
}

pub(super) fn pointers(rejection: &Rejection) -> Vec<&str> {
    rejection.faults.iter().map(|fault| fault.pointer.as_str()).collect()
}

/// Returns a valid job of any type that needs a caller, with `field` set.
fn with(field: &str, value: &Value) -> String {
    let mut job = json!({ "type": "CheckUser", "args": { "email": "a@b.fr" }, "id": "j-1", "caller_id": "c" });
    job[field] = value.clone();
    job.to_string()
}

#[test]
fn every_field_of_a_job_is_read() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let job = accepted(&json!({
        "v": 1, "id": "a/b:c_d.e-9", "type": "CheckUser", "args": { "phone_number": "+33612345678", "email": null },
        "caller_id": "203.0.113.9", "customer_reference": "client 42", "merchant_id": "01234567-89ab-cdef-0123-456789abcdef",
        "ttl_ms": 2_592_000_000_u64, "run_at": "2024-11-22T09:43:20+01:00", "max_attempts": 100, "reply": true, "batch": "b 1",
        "meta": { "k": "v", "empty": "" }, "traceparent": traceparent, "tracestate": "a=1", "next": {}
    }));
    assert_eq!(job.id.as_ref().unwrap().as_str(), "a/b:c_d.e-9");
    assert_eq!(job.job_type, JobType::CheckUser);
    assert!(
        matches!(&job.args, Args::CheckUser { contact: Contact::Phone(phone) } if phone.expose() == "+33612345678")
    );
    assert_eq!(job.caller_id.as_ref().unwrap().as_str(), "203.0.113.9");
    assert_eq!(job.partition_key(), Some("203.0.113.9"));
    assert_eq!(job.customer_reference.as_ref().unwrap().as_str(), "client 42");
    assert_eq!(job.merchant_id.as_ref().unwrap().as_str(), "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(
        (job.ttl_ms, job.run_at_ms, job.max_attempts),
        (Some(2_592_000_000), Some(1_732_265_000_000), Some(100))
    );
    assert_eq!((job.reply, job.batch.as_deref()), (true, Some("b 1")));
    assert_eq!(Value::Object(job.meta.unwrap()), json!({ "k": "v", "empty": "" }));
    assert_eq!((job.traceparent.as_deref(), job.tracestate.as_deref()), (Some(traceparent), Some("a=1")));
    assert!(job.next.is_empty() && !job.carries_code);
}

#[test]
fn null_leaves_an_optional_field_out() {
    let mut job = json!({ "type": "CreateUser", "args": { "customer_reference": "c", "user": { "email": "a@b.fr", "addresses": null, "gender": null } } });
    for name in [
        "v",
        "id",
        "caller_id",
        "customer_reference",
        "merchant_id",
        "ttl_ms",
        "run_at",
        "max_attempts",
        "reply",
        "batch",
        "meta",
        "traceparent",
        "tracestate",
        "next",
    ] {
        job[name] = Value::Null;
    }
    let job = accepted(&job);
    assert_eq!(job.effective_caller.unwrap().as_str(), "c");
    assert_eq!((job.id, job.caller_id, job.meta), (None, None, None));
    assert_eq!(pointers(&rejected(r#"{"type":null,"args":null}"#)), ["/type", "/args"]);
    assert_eq!(
        pointers(&rejected(r#"{"type":"CreateUser","args":{"customer_reference":null,"user":{"email":null}}}"#)),
        ["/args/customer_reference", "/args/user/email"]
    );
}

#[test]
fn each_field_has_its_fault() {
    let long = "x".repeat(300);
    let cases: [(&str, Vec<Value>); 14] = [
        ("v", vec![json!("1"), json!(true), json!([])]),
        ("id", vec![json!(""), json!("a b"), json!("é"), json!(7), json!(&long)]),
        ("type", vec![json!(""), json!("checkuser"), json!("Nope"), json!(1)]),
        ("args", vec![json!("x"), json!([]), json!({})]),
        ("caller_id", vec![json!(""), json!(1), json!(&long)]),
        ("customer_reference", vec![json!(""), json!(1), json!(&long), json!("a\u{7}")]),
        ("merchant_id", vec![json!(""), json!(1), json!("not-a-uuid")]),
        (
            "ttl_ms",
            vec![json!(0), json!(-1), json!(1.5), json!("1000"), json!(2_592_000_001_u64), json!(1e30), json!(true)],
        ),
        ("run_at", vec![json!(""), json!("tomorrow"), json!(1_732_265_000), json!("2024-02-30T00:00:00Z")]),
        ("max_attempts", vec![json!(0), json!(101), json!(-3), json!("3"), json!(2.5)]),
        ("reply", vec![json!("true"), json!(1), json!("")]),
        ("batch", vec![json!(""), json!(1), json!(&long), json!("a\nb")]),
        ("meta", vec![json!([1]), json!("x"), json!(1), json!(false), json!({ "k": "x".repeat(2048) })]),
        ("next", vec![json!([{}]), json!("x"), json!(false), json!(0)]),
    ];
    for (field, values) in cases {
        for value in values {
            let rejection = rejected(&with(field, &value));
            assert_eq!(pointers(&rejection), [format!("/{field}")], "{field} {value}");
            assert_eq!(rejection.kind, ErrorKind::InvalidJob);
            assert_eq!(rejection.id.is_some(), field != "id");
        }
    }
}

#[test]
fn arguments_have_theirs() {
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let cases: Vec<(&str, Value, &[&str])> = vec![
        (
            "CheckUser",
            json!({ "email": "a@b.fr", "phone_number": "+33612345678" }),
            &["/args/email", "/args/phone_number"],
        ),
        ("CheckUser", json!({ "email": "nope" }), &["/args/email"]),
        ("CheckUser", json!({ "email": "" }), &["/args/email"]),
        ("CheckUser", json!({ "phone_number": "0612345678" }), &["/args/phone_number"]),
        ("CheckUser", json!({ "email": null }), &["/args"]),
        ("CheckUser", json!({ "mail": "a@b.fr" }), &["/args", "/args/mail"]),
        ("StartOtp", json!({ "email": "a@b.fr", "verification_code": "1" }), &["/args/verification_code"]),
        ("VerifyOtp", json!({ "email": "a@b.fr" }), &["/args/verification_code"]),
        ("VerifyOtp", json!({ "verification_code": 123_456 }), &["/args", "/args/verification_code"]),
        ("VerifyOtp", json!({ "email": 1, "verification_code": "1 2" }), &["/args/email", "/args/verification_code"]),
        ("CreateUser", json!({ "user": {} }), &["/args/user/email", "/args/customer_reference"]),
        ("CreateUser", json!({ "customer_reference": "c", "user": "x" }), &["/args/user"]),
        (
            "CreateUser",
            json!({ "customer_reference": "", "user": { "addresses": [{ "country": 1 }, { "adress_type": "billing" }, 3, { "address_type": "home", "locality": "" }],
                "birthdate": "1990-02-30", "email": "x", "first_name": "", "gender": "m", "last_name": 257, "phone_number": "1", "a/b~": 1 } }),
            &[
                "/args/customer_reference",
                "/args/user/a~1b~0",
                "/args/user/addresses/0/country",
                "/args/user/addresses/1/adress_type",
                "/args/user/addresses/2",
                "/args/user/addresses/3/address_type",
                "/args/user/addresses/3/locality",
                "/args/user/birthdate",
                "/args/user/email",
                "/args/user/first_name",
                "/args/user/gender",
                "/args/user/last_name",
                "/args/user/phone_number",
            ],
        ),
        (
            "CreateUser",
            json!({ "customer_reference": "c", "user": { "email": "a@b.fr", "addresses": [{}, [1]] } }),
            &["/args/user/addresses/1"],
        ),
        (
            "CreateUser",
            json!({ "customer_reference": "c", "user": { "email": "a@b.fr", "addresses": {} } }),
            &["/args/user/addresses"],
        ),
        ("FinalizeConsent", json!({ "customer_reference": "c" }), &["/args"]),
        (
            "FinalizeConsent",
            json!({ "customer_reference": "c", "consent_challenge_id": "x" }),
            &["/args/consent_challenge_id"],
        ),
        (
            "FinalizeConsent",
            json!({ "consent_challenge_id": uuid, "verification_code": "1" }),
            &["/args/verification_code", "/args/customer_reference"],
        ),
        ("FinalizeConsent", json!({ "customer_reference": "c", "email": "a@b.fr" }), &["/args/verification_code"]),
        ("FinalizeConsent", json!({ "customer_reference": "c", "verification_code": "1" }), &["/args"]),
    ];
    for (job_type, args, expected) in cases {
        let job = json!({ "type": job_type, "args": args, "caller_id": "c" }).to_string();
        assert_eq!(pointers(&rejected(&job)), expected, "{job}");
    }
}

#[test]
fn what_is_no_job_at_all_is_one_fault_of_the_whole() {
    let deep = format!(r#"{{"type":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    let large = format!(r#"{{"type":"CheckUser","x":"{}"}}"#, "x".repeat(MAX_JOB_BYTES));
    let cases: [&[u8]; 15] = [
        b"",
        b"{",
        b"[]",
        b"17",
        b"null",
        b"\"x\"",
        b"{} {}",
        b"{}x",
        b"\xff",
        b"{\"type\":\"\xc3\"}",
        b"{\"v\":NaN}",
        b"{\"v\":1e999}",
        br#"{"type":"\ud800"}"#,
        deep.as_bytes(),
        large.as_bytes(),
    ];
    for case in cases {
        let rejection = parse_job(case, CONTEXT).unwrap_err();
        assert_eq!(pointers(&rejection), [""], "{}", String::from_utf8_lossy(&case[..case.len().min(60)]));
        assert_eq!((rejection.kind, rejection.id), (ErrorKind::InvalidJob, None));
    }
}

#[test]
fn sixty_four_kib_are_enough_and_one_byte_more_is_too_much() {
    let job = with("caller_id", &json!("c"));
    let fits = format!("{job}{}", " ".repeat(MAX_JOB_BYTES - job.len()));
    assert!(parse_job(fits.as_bytes(), CONTEXT).is_ok());
    assert_eq!(pointers(&rejected(&format!("{fits} "))), [""]);
}

#[test]
fn unknown_and_doubled_fields_are_named() {
    let rejection = rejected(
        r#"{"callerId":"x","type":"CheckUser","args":{"email":"a@b.fr","email":"a@b.fr"},"id":"a","id":"b","caller_id":"c","reply":true,"zzz":null}"#,
    );
    assert_eq!(pointers(&rejection), ["/callerId", "/args/email", "/id", "/zzz"]);
    assert!(rejection.faults[0].detail.contains("`caller_id`"));
    assert_eq!((rejection.id, rejection.reply), (None, false));
}

#[test]
fn another_version_is_the_only_fault_and_what_can_be_read_is() {
    for v in ["2", "0", "-1", "1.5", "1e300", "99999999999999999999"] {
        let rejection = rejected(&format!(
            r#"{{"v":{v},"id":"j","reply":true,"type":"CheckUser","args":{{"new":1}},"new":2,"next":{{"absent":3}}}}"#
        ));
        assert_eq!((rejection.kind, pointers(&rejection)), (ErrorKind::UnsupportedVersion, vec!["/v"]));
        assert_eq!(
            (rejection.id.unwrap().as_str(), rejection.reply, rejection.job_type),
            ("j", true, Some(JobType::CheckUser))
        );
    }
    assert!(parse_job(with("v", &json!(1.0)).as_bytes(), CONTEXT).is_ok());
}

#[test]
fn a_rejection_keeps_what_is_valid_by_itself() {
    let rejection = rejected(
        r#"{"id":"j","type":"CreateUser","args":{"customer_reference":"ref","user":{"email":"x"}},"caller_id":"c","merchant_id":"x","batch":"b","meta":{"k":"v"},"reply":true}"#,
    );
    assert_eq!(rejection.id.unwrap().as_str(), "j");
    assert_eq!(rejection.caller_id.unwrap().as_str(), "c");
    assert_eq!(rejection.customer_reference.unwrap().as_str(), "ref");
    assert_eq!((rejection.merchant_id, rejection.batch.as_deref(), rejection.reply), (None, Some("b"), true));
    assert_eq!(Value::Object(rejection.meta.unwrap()), json!({ "k": "v" }));
}

#[test]
fn a_caller_is_needed_by_what_spends_a_customers_limit() {
    for job_type in ["CheckUser", "StartOtp"] {
        let job = json!({ "id": "j", "type": job_type, "args": { "email": "a@b.fr" } });
        let rejection = rejected(&job.to_string());
        assert_eq!((rejection.kind, pointers(&rejection)), (ErrorKind::MissingCallerId, vec!["/caller_id"]));
        let allowed = ParseContext { allow_missing_caller_id: true, ..CONTEXT };
        let job = parse_job(job.to_string().as_bytes(), allowed).unwrap();
        assert_eq!((job.effective_caller.clone(), job.partition_key()), (None, Some("j")));
    }
    let verify = json!({ "email": "a@b.fr", "verification_code": "1" });
    assert_eq!(rejected(&json!({ "type": "VerifyOtp", "args": verify }).to_string()).kind, ErrorKind::MissingCallerId);
    let job = accepted(&json!({ "type": "VerifyOtp", "args": verify, "customer_reference": "ref" }));
    assert_eq!((job.effective_caller.unwrap().as_str(), job.caller_id, job.carries_code), ("ref", None, true));
    // Another fault decides the kind. An unreadable caller is such a fault, and is not also reported as missing.
    let both = rejected(r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"x":1}"#);
    assert_eq!((both.kind, pointers(&both)), (ErrorKind::InvalidJob, vec!["/x", "/caller_id"]));
    assert_eq!(pointers(&rejected(r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"caller_id":""}"#)), ["/caller_id"]);
    let finalize = json!({ "type": "FinalizeConsent", "args": { "customer_reference": "ref", "phone_number": "+33612345678", "verification_code": "1" } });
    assert_eq!(accepted(&finalize).effective_caller.unwrap().as_str(), "ref");
}

#[test]
fn a_reply_needs_an_id() {
    assert_eq!(
        pointers(&rejected(r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"caller_id":"c","reply":true}"#)),
        ["/reply"]
    );
    let rejection = rejected(r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"caller_id":"c","reply":true,"id":""}"#);
    assert_eq!((pointers(&rejection), rejection.reply), (vec!["/id"], false));
}

#[test]
fn meta_is_bounded_and_carries_no_code() {
    // {"k":"…"} adds 8 bytes to the text.
    assert!(parse_job(with("meta", &json!({ "k": "x".repeat(2040) })).as_bytes(), CONTEXT).is_ok());
    assert_eq!(pointers(&rejected(&with("meta", &json!({ "k": "x".repeat(2041) })))), ["/meta"]);
    assert_eq!(pointers(&rejected(&with("meta", &json!({ "k": "\n".repeat(1021) })))), ["/meta"]);
    assert_eq!(
        pointers(&rejected(&with("meta", &json!({ "a": [1], "verification_code": 1, "z": null })))),
        ["/meta/a", "/meta/verification_code", "/meta/z"]
    );
    assert_eq!(
        pointers(&rejected(
            r#"{"type":"CheckUser","args":{"email":"a@b.fr"},"caller_id":"c","meta":{"k":"1","k":"2"}}"#
        )),
        ["/meta/k"]
    );
    let job: Value =
        serde_json::from_str(&with("meta", &json!({ "k": r#"{"verification_code":"123456"}"#, "n": "123456" })))
            .unwrap();
    assert_eq!(Value::Object(accepted(&job).meta.unwrap()), json!({ "k": "{}", "n": "123456" }));
}

#[test]
fn a_bad_trace_context_is_ignored() {
    for bad in ["", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let mut job: Value = serde_json::from_str(&with("traceparent", &json!(bad))).unwrap();
        job["tracestate"] = json!("a=1");
        let job = accepted(&job);
        assert_eq!((job.traceparent, job.tracestate), (None, None));
    }
    assert_eq!(pointers(&rejected(&with("traceparent", &json!(1)))), ["/traceparent"]);
    assert!(accepted(&serde_json::from_str(&with("tracestate", &json!(""))).unwrap()).tracestate.is_none());
}

#[test]
fn a_type_close_to_one_is_suggested() {
    let rejection = rejected(&with("type", &json!("check_user")));
    assert!(rejection.faults[0].detail.ends_with("did you mean CheckUser?"), "{rejection:?}");
}
