//! Removes codes from everything that is stored: dead letters and problem documents.

use super::{
    JsonText,
    json::{Member, Node},
    redact_text::{MASK, Text},
};
use serde_json::Number;
use std::borrow::Cow;

/// Maximum number of bytes kept of input that is not JSON.
const MAX_TEXT_BYTES: usize = 4096;

/// Maximum size of input that a dead letter keeps as JSON. It covers every valid job and some that are too large.
const MAX_JSON_BYTES: usize = 2 * super::MAX_JOB_BYTES;

/// Maximum nesting for a dead letter. It is deeper than a job may nest, so that a job rejected for its depth stays
/// JSON. `serde_json` itself stops at 127.
const MAX_LETTER_DEPTH: u8 = 120;

/// Maximum number of times that a string may contain JSON that again contains JSON in a string. Deeper strings are
/// treated as plain text.
const MAX_LAYERS: u8 = 4;

/// Returns the `job` field of a dead letter: the job's JSON with every `verification_code` removed. Input that is not
/// JSON, or is too large to be a job, is cut to its first 4 KiB, and its codes are masked.
///
/// Keys that resemble a code's key (`verificationCode`, `otp`, `code`) are removed too: no valid job has such a key, so
/// nothing replayable is lost, and a code under a misspelt key is still a code. They are kept in `meta`, where the
/// producer chooses the keys. A string that contains a `verification_code`, such as a job encoded twice, is masked in
/// the same way.
///
/// Never panics. The result is at most a few times [`MAX_JOB_BYTES`](super::MAX_JOB_BYTES), for input of any length.
pub fn dead_letter_job(bytes: &[u8]) -> String {
    if bytes.len() <= MAX_JSON_BYTES
        && let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(mut node) = Node::parse(text, MAX_LETTER_DEPTH)
    {
        strip(&mut node, Within::Job, MAX_LAYERS);
        if let Ok(json) = serde_json::to_string(&node) {
            return json;
        }
    }
    // Masking comes before cutting, so that a cut never leaves a part of a code visible.
    let cut = bytes.len() > MAX_TEXT_BYTES;
    let text = String::from_utf8_lossy(bytes.get(..MAX_TEXT_BYTES).unwrap_or(bytes));
    let mut masked = Text::new(&text).mask(cut);
    let end = (0..=MAX_TEXT_BYTES.min(masked.len())).rev().find(|end| masked.is_char_boundary(*end));
    masked.truncate(end.unwrap_or(0));
    masked
}

/// Masks the value of each `verification_code` inside a string. Returns `None` if the string contains none.
pub(super) fn mask_embedded(text: &str) -> Option<String> {
    mask_layers(text, MAX_LAYERS)
}

fn mask_layers(text: &str, layers: u8) -> Option<String> {
    if !Text::may_name_a_code(text) {
        return None;
    }
    let json = text.trim_start().starts_with(['{', '[', '"']);
    if let Some(below) = layers.checked_sub(1).filter(|_| json)
        && let Ok(mut node) = Node::parse(text, MAX_LETTER_DEPTH)
    {
        return if strip(&mut node, Within::Job, below) { serde_json::to_string(&node).ok() } else { None };
    }
    let text = Text::new(text);
    text.names_a_code().then(|| text.mask(false))
}

/// Which object the current keys belong to.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    /// A job, whose keys the contract defines.
    Job,
    /// `meta`, whose keys the producer chooses.
    Meta,
}

/// Removes codes. Returns whether anything changed.
fn strip(node: &mut Node<'_>, within: Within, layers: u8) -> bool {
    match node {
        Node::Object(members) => {
            let before = members.len();
            members.retain(|(key, _)| !names_a_code(key, within));
            let mut changed = before != members.len();
            for member in members {
                changed |= strip_member(member, within, layers);
            }
            changed
        }
        Node::Array(nodes) => {
            let mut changed = false;
            for node in nodes {
                changed |= strip(node, within, layers);
            }
            changed
        }
        Node::String(text) => replace(text, layers),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Written(_) => false,
    }
}

fn strip_member((key, value): &mut Member<'_>, within: Within, layers: u8) -> bool {
    let within = if key == "meta" { Within::Meta } else { within };
    let changed = replace(key, layers);
    strip(value, within, layers) || changed
}

fn replace(text: &mut Cow<'_, str>, layers: u8) -> bool {
    let masked = mask_layers(text, layers);
    let changed = masked.is_some();
    if let Some(masked) = masked {
        *text = Cow::Owned(masked);
    }
    changed
}

/// Whether a key is `verification_code` or, where the contract defines the keys, resembles it so closely that it must
/// mean a code.
fn names_a_code(key: &str, within: Within) -> bool {
    if key == "verification_code" {
        return true;
    }
    if within == Within::Meta || key.len() > 48 {
        return false;
    }
    let name: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    matches!(name.as_str(), "code" | "otp" | "otpcode" | "onetimecode" | "onetimepassword" | "passcode" | "pin")
        || strsim::osa_distance(&name, "verificationcode") <= 4
}

/// Masks every occurrence of `code` in the strings and keys of a JSON document, and every number equal to it. XCO's
/// problem documents may echo a code.
///
/// An empty code masks nothing.
#[must_use]
pub fn redact_code(json: &JsonText, code: &str) -> JsonText {
    if code.is_empty() {
        return json.clone();
    }
    // The mask shares no character with the code, so it cannot form a new code with its neighbours.
    let mask = if code.contains('*') { "…" } else { MASK };
    // A number has no leading zeros.
    let bare = code.trim_start_matches('0');
    let is_code = |text: &str| text == code || (text == bare && !bare.is_empty()) || (text == "0" && bare.is_empty());
    json.replace(
        |text| text.contains(code).then(|| text.replace(code, mask)),
        |number| {
            let read =
                serde_json::from_str::<Number>(number).map_or_else(|_| number.to_owned(), |read| read.to_string());
            (is_code(number) || is_code(&read)).then(|| mask.to_owned())
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn json_loses_its_codes_and_nothing_else() {
        for (job, letter) in [
            (
                r#"{"type":"VerifyOtp","args":{"email":"a@b.fr","verification_code":"123456"}}"#,
                r#"{"type":"VerifyOtp","args":{"email":"a@b.fr"}}"#,
            ),
            (r#"{"\u0076erification_code":"123456","a":1}"#, r#"{"a":1}"#),
            (r#"{"verification_code":{"a":[123456]},"verification_code":"x","b":"123456"}"#, r#"{"b":"123456"}"#),
            (r#"[[{"verification_code":1}]]"#, "[[{}]]"),
            (
                r#"{"args":{"verificationCode":"1","code":"2","OTP":"3","verification_cod":"4","postal_code":"75001"}}"#,
                r#"{"args":{"postal_code":"75001"}}"#,
            ),
            (r#"{"meta":{"code":"SUMMER","pin":"board"}}"#, r#"{"meta":{"code":"SUMMER","pin":"board"}}"#),
            (r#"{"meta":{"verification_code":"1"}}"#, r#"{"meta":{}}"#),
            (r#"{"next":{"otp_sent":{"args":{"verification_code":"1"}}}}"#, r#"{"next":{"otp_sent":{"args":{}}}}"#),
            (r#"{"a":"{\"verification_code\":\"123456\",\"b\":1}"}"#, r#"{"a":"{\"b\":1}"}"#),
            (r#""{\"verification_code\":\"123456\",\"b\":1}""#, r#""{\"b\":1}""#),
            (
                r#"{"meta":{"note":"verification_code=12ab, thanks"}}"#,
                r#"{"meta":{"note":"verification_code=***, thanks"}}"#,
            ),
            (r#"{"meta":{"path":"C:\\users","n":"123456"}}"#, r#"{"meta":{"path":"C:\\users","n":"123456"}}"#),
            ("17", "17"),
        ] {
            assert_eq!(dead_letter_job(job.as_bytes()), letter, "{job}");
        }
    }

    #[test]
    fn json_in_strings_in_json_is_followed() {
        let mut job = json!({ "verification_code": "s3cr3t", "kept": "yes" }).to_string();
        for layer in 0..10 {
            job = json!({ "inner": job }).to_string();
            let letter = dead_letter_job(job.as_bytes());
            assert!(!letter.contains("s3cr3t"), "{layer}: {letter}");
        }
    }

    #[test]
    fn what_is_too_deep_for_a_job_stays_json_and_what_is_deeper_is_masked() {
        for depth in [40, 100, 200, 1000] {
            let job =
                format!("{}{}{}", r#"{"a":"#.repeat(depth), r#"{"verification_code":"s3cr3t"}"#, "}".repeat(depth));
            let letter = dead_letter_job(job.as_bytes());
            assert!(!letter.contains("s3cr3t"));
            assert_eq!(letter.contains(":{}}") && !letter.contains("***"), depth < 120, "{depth}");
        }
    }

    #[test]
    fn no_input_takes_long_or_overflows_the_stack() {
        let mut layered = r#"{"verification_code":"s3cr3t"}"#.to_owned();
        for _ in 0..7 {
            layered = format!("{}{}{}", "[".repeat(110), serde_json::to_string(&layered).unwrap(), "]".repeat(110));
        }
        assert!(!dead_letter_job(layered.as_bytes()).contains("s3cr3t"));
        for unit in
            ["\\\\", "\\u0022", "verification_code", "verification_code:\\\"", "%22", "verification", "1", "\u{0}"]
        {
            let text = unit.repeat(MAX_JSON_BYTES / unit.len() / 4);
            dead_letter_job(text.as_bytes());
            dead_letter_job(json!([text, format!("\\u{text}")]).to_string().as_bytes());
        }
    }

    #[test]
    fn what_is_no_json_is_cut_and_masked() {
        let utf16: Vec<u8> = "verification_code:123456".bytes().flat_map(|byte| [byte, 0]).collect();
        let cases: [&[u8]; 7] = [
            br#"{"verification_code":"123456""#,
            br#"{"verification_code": "s3cr3t-123456"#,
            b"\xff\xfe verification_code=123456",
            br#"{"\u0076erification_code":"\u0031\u00323456","#,
            &utf16,
            b"type=VerifyOtp&verification%5Fcode=123456&a=b",
            b"<VerificationCode>123456</VerificationCode>",
        ];
        for case in cases {
            let letter = dead_letter_job(case);
            assert!(!letter.contains("123456") && !letter.contains("s3cr3t") && !letter.contains("34"), "{letter}");
            assert!(letter.contains("***"), "{letter}");
        }
        let mut large = vec![b'x'; 300_000];
        assert_eq!(dead_letter_job(&large).len(), 4096);
        let code = br#""verification_code":"123456","#;
        large[4000..4000 + code.len()].copy_from_slice(code);
        assert!(!dead_letter_job(&large).contains("123456"));
        assert_eq!(dead_letter_job(&vec![0xff; 9000]).len(), 4095);
    }

    #[test]
    fn no_cut_shows_part_of_a_code() {
        for before in 4060..4100 {
            let text = format!("{}\"verification_code\":\"987654321\" and 987654", "x".repeat(before - 30));
            let letter = dead_letter_job(text.as_bytes());
            assert!(!letter.contains('9') && !letter.contains('6'), "{before}");
            let text = format!("{}987654{}", " ".repeat(before), "y".repeat(100));
            assert!(!dead_letter_job(text.as_bytes()).contains('9'), "{before}");
        }
    }

    #[test]
    fn oversized_json_is_bounded() {
        let job = json!({ "args": { "verification_code": "123456" }, "meta": "x".repeat(1 << 20) }).to_string();
        let letter = dead_letter_job(job.as_bytes());
        assert!(letter.len() <= MAX_TEXT_BYTES && !letter.contains("123456"));
    }

    #[test]
    fn a_known_code_is_masked_in_strings_keys_and_numbers() {
        let value = json!({ "detail": "code 042042 is wrong, 042042!", "042042": [42042, 42042.5, "x"], "n": { "s": ["042042"] }, "ok": 1 });
        assert_eq!(
            redact_code(&value.into(), "042042").value(),
            json!({ "detail": "code *** is wrong, ***!", "***": ["***", 42042.5, "x"], "n": { "s": ["***"] }, "ok": 1 })
        );
        assert_eq!(redact_code(&json!("nothing").into(), "").value(), json!("nothing"));
        assert_eq!(redact_code(&json!("1*1**").into(), "1*").value(), json!("……*"));
    }
}
