//! Tests of the last two paragraphs of contract §2, sentence by sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{
    MAX_JOB_BYTES, ParseContext, parse_job,
    tests::{CONTEXT, accepted, pointers, rejected},
};
use crate::contract::{Args, ErrorKind, Job};
use serde_json::{Value, json};

/// Returns a valid job whose member `field` is the JSON text `value`.
fn with(field: &str, value: &str) -> String {
    format!(r#"{{"type":"CheckUser","id":"j","caller_id":"c","args":{{"email":"a@b.fr"}},"{field}":{value}}}"#)
}

fn read(text: &str) -> Job {
    parse_job(text.as_bytes(), CONTEXT).unwrap_or_else(|rejection| panic!("{text}: {rejection:?}"))
}

fn meta_of(text: &str) -> Value {
    Value::Object(read(&with("meta", text)).meta.unwrap())
}

fn create(user: &Value) -> Value {
    json!({ "type": "CreateUser", "args": { "customer_reference": "ref", "user": user } })
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    for (text, value) in [("60000", 60_000), ("60000.0", 60_000), ("6e4", 60_000), ("6.0E+4", 60_000), ("1.0", 1)] {
        assert_eq!(read(&with("ttl_ms", text)).ttl_ms, Some(value), "{text}");
    }
    assert_eq!(read(&with("ttl_ms", "2592000000.0")).ttl_ms, Some(2_592_000_000));
    assert_eq!(read(&with("max_attempts", "3.0")).max_attempts, Some(3));
    assert!(read(&with("v", "1.0")).id.is_some() && read(&with("v", "1e0")).id.is_some());
    for text in
        ["60000.5", "0.0", "-0.0", "-1.0", "1e-3", "2592000000.5", "2592000001.0", "1e300", "99999999999999999999"]
    {
        assert_eq!(pointers(&rejected(&with("ttl_ms", text))), ["/ttl_ms"], "{text}");
    }
    for text in ["3.5", "0.0", "101.0"] {
        assert_eq!(pointers(&rejected(&with("max_attempts", text))), ["/max_attempts"], "{text}");
    }
    // The child is enqueued with the whole number.
    let parent = with(
        "next",
        r#"{"absent":{"type":"CheckUser","args":{"email":"a@b.fr"},"v":1.0,"ttl_ms":6e4,"max_attempts":2.0}}"#,
    );
    let child: Value = serde_json::from_str(&read(&parent).next[0].job).unwrap();
    assert_eq!((&child["v"], &child["ttl_ms"], &child["max_attempts"]), (&json!(1), &json!(60_000), &json!(2)));
}

#[test]
fn an_empty_array_is_an_empty_object_where_one_is_wanted() {
    assert_eq!(meta_of("[]"), json!({}));
    assert!(read(&with("next", "[]")).next.is_empty());
    for (field, value) in [("meta", "[1]"), ("meta", "[[]]"), ("next", "[null]"), ("next", "[{}]"), ("meta", "\"\"")] {
        assert_eq!(pointers(&rejected(&with(field, value))), [format!("/{field}")], "{field} {value}");
    }
    // The same in children. A child with an empty `meta` keeps its own.
    let mut parent: Value = serde_json::from_str(&with("meta", r#"{"k":"v"}"#)).unwrap();
    parent["next"] =
        json!({ "absent": { "type": "CheckUser", "args": { "email": "a@b.fr" }, "meta": [], "next": [] } });
    let child: Value = serde_json::from_str(&accepted(&parent).next[0].job).unwrap();
    assert_eq!((&child["meta"], child.get("next")), (&json!({}), None));
    // An empty array as an address or as arguments counts as an empty object, so the required fields are missing.
    let job = accepted(&create(&json!({ "email": "a@b.fr", "addresses": [[], {}] })));
    assert!(matches!(&job.args, Args::CreateUser { user, .. } if user.addresses.len() == 2));
    assert_eq!(pointers(&rejected(&create(&json!([])).to_string())), ["/args/user/email"]);
    assert_eq!(pointers(&rejected(r#"{"type":"CheckUser","caller_id":"c","args":[]}"#)), ["/args"]);
    assert_eq!(pointers(&rejected(&with("next", r#"{"absent":[]}"#))), ["/next/absent/type", "/next/absent/args"]);
    assert_eq!(pointers(&rejected("[]")), [""], "a job itself is an object");
    assert_eq!(
        pointers(&rejected(&create(&json!({ "email": "a@b.fr", "addresses": {} })).to_string())),
        ["/args/user/addresses"]
    );
}

#[test]
fn numbers_and_booleans_in_meta_are_text_as_written() {
    let given = r#"{"cart":42,"vip":true,"new":false,"price":1.50,"big":123456789012345678901234567890,"low":-0.0,"exp":1E5,"empty":"","":"x"}"#;
    let wanted = json!({
        "cart": "42", "vip": "true", "new": "false", "price": "1.50", "big": "123456789012345678901234567890", "low": "-0.0", "exp": "1E5",
        "empty": "", "": "x"
    });
    assert_eq!(meta_of(given), wanted);
    for other in ["null", "[]", "{}", "[1]"] {
        assert_eq!(pointers(&rejected(&with("meta", &format!(r#"{{"k":{other}}}"#)))), ["/meta/k"], "{other}");
    }
    assert_eq!(pointers(&rejected(&with("meta", "{\"k\":1e999}"))), [""], "what is no JSON number is no JSON");
    // Children have the same `meta`, inherited or their own.
    let mut parent = with("meta", given);
    parent.truncate(parent.len() - 1);
    let child = r#"{"type":"CheckUser","args":{"email":"a@b.fr"}"#;
    let parent = format!(r#"{parent},"next":{{"absent":{child}}},"exists":{child},"meta":{{"own":2.0}}}}}}}}"#);
    let jobs: Vec<Value> = read(&parent).next.iter().map(|next| serde_json::from_str(&next.job).unwrap()).collect();
    assert_eq!((&jobs[0]["meta"], &jobs[1]["meta"]), (&wanted, &json!({ "own": "2.0" })));
    // The bound counts what is echoed: the text with its quotes.
    let digits = "1".repeat(2040);
    assert_eq!(meta_of(&format!(r#"{{"k":{}}}"#, &digits[..300]))["k"], digits[..300]);
    assert_eq!(pointers(&rejected(&with("meta", &format!(r#"{{"k":-0.{digits}}}"#)))), ["/meta"]);
    assert_eq!(pointers(&rejected(&with("meta", r#"{"verification_code":123456}"#))), ["/meta/verification_code"]);
}

#[test]
fn a_rejected_jobs_meta_is_echoed_as_text() {
    let rejection = rejected(&with("meta", r#"{"cart":1.50}"#).replace("a@b.fr", "nobody"));
    assert_eq!(Value::Object(rejection.meta.unwrap()), json!({ "cart": "1.50" }));
}

#[test]
fn numbers_elsewhere_are_no_text() {
    for field in
        ["id", "caller_id", "customer_reference", "merchant_id", "batch", "run_at", "traceparent", "tracestate"]
    {
        let text = with(field, "7").replacen(
            r#""id":"j","caller_id":"c","#,
            if field == "id" { r#""caller_id":"c","# } else { "" },
            1,
        );
        assert!(pointers(&rejected(&text)).contains(&format!("/{field}").as_str()), "{text}");
    }
    let verify =
        json!({ "type": "VerifyOtp", "caller_id": "c", "args": { "email": "a@b.fr", "verification_code": 123_456 } });
    assert_eq!(pointers(&rejected(&verify.to_string())), ["/args/verification_code"]);
    let user = json!({ "email": "a@b.fr", "first_name": 1, "addresses": [{ "postal_code": 75001 }] });
    assert_eq!(
        pointers(&rejected(&create(&user).to_string())),
        ["/args/user/addresses/0/postal_code", "/args/user/first_name"]
    );
    for value in ["1", "0", "\"true\""] {
        assert_eq!(pointers(&rejected(&with("reply", value))), ["/reply"], "{value}");
    }
    assert_eq!(pointers(&rejected(&with("v", "\"1\""))), ["/v"]);
}

#[test]
fn null_leaves_out_in_children_too() {
    let names = [
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
    ];
    let mut child = json!({ "type": "CheckUser", "args": { "email": "a@b.fr", "phone_number": null } });
    for name in names {
        child[name] = Value::Null;
    }
    let mut parent: Value = serde_json::from_str(&with("meta", r#"{"k":"v"}"#)).unwrap();
    parent["next"] = json!({ "absent": child, "exists": null });
    let job = accepted(&parent);
    let enqueued: Vec<Value> = job.next.iter().map(|next| serde_json::from_str(&next.job).unwrap()).collect();
    assert_eq!(
        enqueued,
        [json!({ "v": 1, "id": "j/absent", "type": "CheckUser", "caller_id": "c", "meta": { "k": "v" },
        "args": { "email": "a@b.fr", "phone_number": null } })]
    );
    let user = json!({ "email": "a@b.fr", "phone_number": null, "first_name": null, "last_name": null, "gender": null, "birthdate": null,
        "addresses": [{ "address_type": null, "street_address": null, "address_complement": null, "locality": null, "postal_code": null, "country": null }] });
    accepted(&create(&user));
}

#[test]
fn a_malformed_trace_context_is_ignored_in_children_too() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let child =
        json!({ "type": "CheckUser", "args": { "email": "a@b.fr" }, "traceparent": "00-zz", "tracestate": "\u{7}" });
    let mut job: Value = serde_json::from_str(&with("traceparent", &json!(parent).to_string())).unwrap();
    job["tracestate"] = json!("no pairs");
    job["next"] = json!({ "absent": child });
    let job = accepted(&job);
    assert_eq!((job.traceparent.as_deref(), job.tracestate.as_deref()), (Some(parent), None));
    let child: Value = serde_json::from_str(&job.next[0].job).unwrap();
    assert_eq!((child["traceparent"].as_str(), child.get("tracestate")), (Some(parent), None));
}

#[test]
fn another_version_is_unsupported_and_a_missing_one_is_1() {
    for (v, kind) in
        [("2", ErrorKind::UnsupportedVersion), ("1.5", ErrorKind::UnsupportedVersion), ("\"2\"", ErrorKind::InvalidJob)]
    {
        assert_eq!(rejected(&with("v", v)).kind, kind, "{v}");
    }
    assert!(parse_job(with("v", "null").as_bytes(), CONTEXT).is_ok());
}

#[test]
fn how_much_a_customer_has_is_for_xco_to_judge() {
    let street = "é".repeat(300);
    let address = json!({ "address_type": "billing", "street_address": street, "locality": street, "postal_code": street, "country": street });
    let user = json!({ "email": "a@b.fr", "first_name": "x".repeat(5_000), "last_name": "y".repeat(257), "addresses": vec![address; 11] });
    let job = accepted(&create(&user));
    let Args::CreateUser { user, .. } = &job.args else { panic!("a CreateUser") };
    assert_eq!(
        (user.addresses.len(), user.addresses[10].street_address.as_ref().unwrap().expose()),
        (11, street.as_str())
    );
    // The same for a child and a grandchild, as long as the whole job is within its bound.
    let mut parent: Value = serde_json::from_str(&with("meta", "{}")).unwrap();
    let many = create(&json!({ "email": "a@b.fr", "addresses": vec![json!({}); 5_000] }));
    parent["next"] = json!({ "absent": many });
    let parent = accepted(&parent);
    assert!(parse_job(parent.next[0].job.as_bytes(), ParseContext { generation: 1, ..CONTEXT }).is_ok());
    // This project bounds the size of the whole job, and checks its types, values and names.
    let text = create(&json!({ "email": "a@b.fr", "first_name": "x".repeat(MAX_JOB_BYTES) })).to_string();
    assert_eq!(pointers(&rejected(&text)), [""]);
    let user = json!({ "email": "a@b.fr", "gender": "x", "birthdate": "1990-02-30", "addresses": [{ "address_type": "home", "street_address": "" }] });
    assert_eq!(
        pointers(&rejected(&create(&user).to_string())),
        [
            "/args/user/addresses/0/address_type",
            "/args/user/addresses/0/street_address",
            "/args/user/birthdate",
            "/args/user/gender"
        ]
    );
}
