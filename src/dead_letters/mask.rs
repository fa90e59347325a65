//! Masks a job for display: the form of each value stays visible, the person does not.

use crate::contract::{fingerprint, look_into, shape};
use serde_json::Value;

/// Members that describe the job and not a customer.
const OPEN: [&str; 11] = [
    "type",
    "id",
    "v",
    "batch",
    "merchant_id",
    "run_at",
    "ttl_ms",
    "max_attempts",
    "reply",
    "traceparent",
    "tracestate",
];

/// Replaces the letters and digits of all personal values in a job's JSON. A fault in an email stays visible, but not
/// its owner. Text that is not JSON is masked completely.
pub fn masked_job(job: &str) -> Value {
    match serde_json::from_str(job) {
        Ok(mut job) => {
            mask_job(&mut job);
            job
        }
        Err(_) => shape(job).into(),
    }
}

fn mask_job(job: &mut Value) {
    let Value::Object(members) = job else { return mask(job) };
    for (name, value) in members {
        match value {
            Value::Object(children) if name == "next" => children.values_mut().for_each(mask_job),
            value if OPEN.contains(&name.as_str()) && is_plain(value) => {}
            value => mask(value),
        }
    }
}

/// Whether a value may be shown. In a rejected job, any member may contain anything.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/-=,".contains(&byte)),
        value => !value.is_object() && !value.is_array(),
    }
}

/// The beginning of a message that ends with a title of XCO's.
const FROM_XCO: &str = "XCO answered ";

/// Masks what a message has from XCO, and every word that has the form of an address or of a number: both may be about the customer.
/// How often calls failed, and how, stays visible.
pub fn masked_message(message: &str) -> String {
    let foreign = message.strip_prefix(FROM_XCO).and_then(|rest| rest.split_once(": "));
    if let Some((before, title)) = foreign {
        return format!("{FROM_XCO}{before}: {}", shape(title));
    }
    let is_personal = |word: &str| word.contains('@') || word.chars().filter(char::is_ascii_digit).count() >= 4;
    let words = message.split(' ').map(|word| if is_personal(word) { shape(word) } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

/// Masks the message and the problem document of an error, because they may quote the customer.
pub fn masked_error(error: &str) -> Value {
    let Some(mut error) = look_into(error) else { return shape(error).into() };
    if let Some(problem) = error.get_mut("problem").and_then(Value::as_object_mut) {
        for (name, value) in problem {
            if !matches!(name.as_str(), "type" | "status") {
                mask(value);
            }
        }
    }
    if let Some(Value::String(message)) = error.get_mut("message") {
        *message = masked_message(message);
    }
    error
}

/// Masks what is about a customer in a completion's event: the user, the caller, the reference, `meta`, and the problem document.
/// Callers and references become fingerprints, which still show whether two completions are about the same one.
pub fn masked_completion(event: &Value) -> Value {
    let mut event = event.clone();
    let members = |value: &mut Value| value.as_object_mut().map(std::mem::take);
    if let Some(mut shown) = members(&mut event) {
        for (name, value) in &mut shown {
            match (name.as_str(), &mut *value) {
                ("caller_id" | "customer_reference", Value::String(text)) => *text = fingerprint(text),
                ("meta", value) => mask(value),
                ("result", Value::Object(result)) => {
                    for (name, value) in result {
                        match (name.as_str(), &mut *value) {
                            ("customer_reference", Value::String(text)) => *text = fingerprint(text),
                            ("user", value) => mask(value),
                            _ => {}
                        }
                    }
                }
                ("error", value) => *value = masked_error(&value.to_string()),
                _ => {}
            }
        }
        event = shown.into();
    }
    event
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = shape(text),
        Value::Number(number) => *value = shape(&number.to_string()).into(),
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(members) => members.values_mut().for_each(mask),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_completion_keeps_how_the_job_ended() {
        let event = json!({"id": "a", "status": "succeeded", "caller_id": "192.0.2.7", "customer_reference": "c-1", "meta": {"k": "Ada"},
            "result": {"customer_reference": "c-1", "user": {"email": "ada@example.com"}, "token_count": 2},
            "error": {"kind": "validation", "problem": {"detail": "Ada"}}, "timings_ms": {"total": 7}});
        let masked = masked_completion(&event);
        let text = masked.to_string();
        assert!(
            !text.contains("ada") && !text.contains("Ada") && !text.contains("192.0") && !text.contains("c-1"),
            "{text}"
        );
        assert_eq!((&masked["timings_ms"]["total"], &masked["result"]["token_count"]), (&json!(7), &json!(2)));
        assert_eq!(masked["customer_reference"], masked["result"]["customer_reference"]);
        assert_eq!(masked_completion(&json!("x")), json!("x"));
    }

    #[test]
    fn a_message_keeps_our_words_and_loses_those_of_others() {
        for (message, masked) in [
            (
                "XCO answered 400 to the user's creation: ada@example.com is known",
                "XCO answered 400 to the user's creation: xxx@xxxxxxx.xxx xx xxxxx",
            ),
            ("XCO answered 503 to the user check", "XCO answered 503 to the user check"),
            ("the job is not valid", "the job is not valid"),
            ("no user ada@example.com or +33612345678 here", "no user xxx@xxxxxxx.xxx or +00000000000 here"),
        ] {
            assert_eq!(masked_message(message), masked);
        }
    }

    #[test]
    fn the_shape_stays_and_the_person_goes() {
        let job = r#"{"type":"CreateUser","id":"a-1","caller_id":"192.0.2.7","args":{"user":{"email":"Ada.B@ex ample","n":17}},
            "meta":{"id":"shop"},"batch":"ada@b","next":{"created":{"type":"CheckUser","args":{"email":"é@b.c"}}}}"#;
        assert_eq!(
            masked_job(job),
            json!({"type": "CreateUser", "id": "a-1", "caller_id": "000.0.0.0",
                "args": {"user": {"email": "xxx.x@xx xxxxx", "n": "00"}}, "meta": {"id": "xxxx"}, "batch": "xxx@x",
                "next": {"created": {"type": "CheckUser", "args": {"email": "x@x.x"}}}})
        );
        assert_eq!(masked_job("Ada, 7"), json!("xxx, 0"));
        let error = r#"{"kind":"validation","message":"m","problem":{"type":"urn:x","detail":"Ada","title":"t"}}"#;
        assert_eq!(
            masked_error(error),
            json!({"kind": "validation", "message": "m", "problem": {"type": "urn:x", "detail": "xxx", "title": "x"}})
        );
    }
}
