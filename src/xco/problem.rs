//! Reads problem documents (RFC 7807). Bounded, because the upstream is not trusted with our memory or our logs.

use crate::contract::{JsonText, VerificationCode, redact_code};
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum size of a problem document that is passed on, in bytes of JSON.
pub(super) const MAX_PROBLEM_BYTES: usize = 16 * 1024;

/// Maximum length of a title in a message, in characters.
const MAX_TITLE_CHARS: usize = 200;

/// Members kept of a document larger than [`MAX_PROBLEM_BYTES`]. Each is cut to [`MAX_MEMBER_CHARS`].
const STANDARD: [&str; 6] = ["type", "title", "status", "detail", "instance", "error"];
const MAX_MEMBER_CHARS: usize = 1024;

/// The problem document in the body of an error answer. Any JSON object counts, because gateways omit the media type.
///
/// If the call carried a code, every copy of it is masked before the document is shortened.
pub(super) fn parse(body: &[u8], code: Option<&VerificationCode>) -> Option<JsonText> {
    let mut problem = JsonText::parse(body).ok().filter(JsonText::is_object)?;
    if let Some(code) = code {
        problem = redact_code(&problem, code.expose());
    }
    if problem.get().len() > MAX_PROBLEM_BYTES {
        problem = cut(&problem);
    }
    Some(problem)
}

fn cut(problem: &JsonText) -> JsonText {
    let members = problem.members();
    let kept: BTreeMap<&str, JsonText> = STANDARD
        .into_iter()
        .filter_map(|name| {
            let member = members.get(name)?;
            match member.value() {
                Value::String(text) => {
                    Some((name, JsonText::of(&text.chars().take(MAX_MEMBER_CHARS).collect::<String>())))
                }
                // A number can be as long as the whole document.
                Value::Number(_) if member.get().len() <= MAX_MEMBER_CHARS => Some((name, member.clone())),
                _ => None,
            }
        })
        .collect();
    JsonText::of(&kept)
}

/// The document's `title`, printable and bounded, for use in a message. `detail` is never used: it may quote the
/// customer.
pub(super) fn title(problem: Option<&Value>) -> Option<String> {
    let title = problem?.get("title")?.as_str()?;
    let title: String = title.chars().filter(|c| !crate::contract::is_unprintable(*c)).take(MAX_TITLE_CHARS).collect();
    let title = title.trim();
    (!title.is_empty()).then(|| title.to_owned())
}

/// The document's `type`, unchanged.
pub(super) fn type_of(problem: Option<&Value>) -> Option<&str> {
    problem?.get("type")?.as_str()
}

/// The machine-readable words of a document: the last segment of `type`, and `error`, in lower case.
pub(super) fn words(problem: Option<&Value>) -> String {
    let last =
        type_of(problem).map_or("", |uri| uri.trim_end_matches('/').rsplit(['/', ':', '#']).next().unwrap_or(""));
    let error = problem.and_then(|problem| problem.get("error")).and_then(Value::as_str).unwrap_or("");
    format!("{last} {error}").chars().take(512).collect::<String>().to_ascii_lowercase()
}

/// The `pointer` of each entry in `errors`.
pub(super) fn pointers(problem: Option<&Value>) -> impl Iterator<Item = &str> {
    problem
        .and_then(|problem| problem.get("errors"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|error| error.get("pointer")?.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use serde_json::json;

    #[test]
    fn any_json_object_is_a_problem_and_nothing_else() {
        assert_eq!(parse(br#"{"title":"t","x":[1]}"#, None), Some(json!({"title": "t", "x": [1]}).into()));
        for other in ["", "[]", "\"x\"", "<html>", "{", "null"] {
            assert_eq!(parse(other.as_bytes(), None), None, "{other}");
        }
    }

    #[test]
    fn a_long_document_is_cut_to_its_standard_members() {
        let long = json!({"type": "t", "status": 400, "detail": "é".repeat(20_000), "extra": "x"});
        let kept = parse(long.to_string().as_bytes(), None).unwrap();
        assert!(kept.get().len() <= MAX_PROBLEM_BYTES);
        let kept = kept.value();
        assert_eq!(kept.get("type"), Some(&json!("t")));
        assert_eq!(kept.get("status"), Some(&json!(400)));
        assert!(kept.get("extra").is_none());
    }

    #[test]
    fn white_space_does_not_count() {
        let padded = format!("{}{}", json!({"title": "t", "x": 1}), " ".repeat(MAX_PROBLEM_BYTES));
        assert_eq!(parse(padded.as_bytes(), None), Some(json!({"title": "t", "x": 1}).into()));
    }

    #[test]
    fn numbers_are_passed_on_as_they_are() {
        let exact = r#"{"title":"t","status":400.0,"trace":12345678901234567890123,"n":[1e400,-0,1.10]}"#;
        assert_eq!(parse(exact.as_bytes(), None).unwrap().get(), exact);
        let code = VerificationCode::from_checked("123456");
        let echo = r#"{"a":123456,"b":1234567,"c":[1e400,"is 123456"],"123456":1.10}"#;
        assert_eq!(
            parse(echo.as_bytes(), Some(&code)).unwrap().get(),
            r#"{"a":"***","b":1234567,"c":[1e400,"is ***"],"***":1.10}"#
        );
        let long = format!(r#"{{"status":4.0e2,"instance":{},"x":"{}"}}"#, "9".repeat(2_000), "x".repeat(20_000));
        assert_eq!(parse(long.as_bytes(), None).unwrap().get(), r#"{"status":4.0e2}"#);
    }

    #[test]
    fn a_title_is_printable_and_bounded() {
        assert_eq!(title(Some(&json!({"title": "a\u{1b}[1m\nb", "detail": "secret"}))).as_deref(), Some("a[1mb"));
        assert_eq!(title(Some(&json!({"title": "x".repeat(500)}))).unwrap().len(), 200);
        for none in [json!({}), json!({"title": 7}), json!({"title": " "})] {
            assert_eq!(title(Some(&none)), None);
        }
    }

    #[test]
    fn words_come_from_type_and_error() {
        let problem = json!({"type": "https://api.purse.eu/problems/Invalid-Token/", "error": "X", "title": "no"});
        assert_eq!(words(Some(&problem)), "invalid-token x");
        assert_eq!(words(Some(&json!({"type": "urn:problem:forbidden"}))), "forbidden ");
        assert_eq!(words(None), " ");
    }
}
