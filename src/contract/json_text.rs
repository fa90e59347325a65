//! JSON from another system that is passed on. It is kept as text, so that its numbers do not change.
//!
//! `serde_json::Value` reads a number as `u64`, `i64` or `f64`: `12345678901234567890123` becomes another number,
//! `1.10` becomes `1.1`, and `1e400` makes the whole document unreadable.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue, value::to_raw_value};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Maximum nesting of a document that is passed on. A completion adds two levels, and common readers stop at 127.
const MAX_DEPTH: usize = 100;

/// A JSON document in its original spelling. Numbers, order and duplicate keys are kept; insignificant white space is
/// removed.
///
/// The text is one line of valid UTF-8, at most 100 levels deep, and every string in it is readable: an escaped
/// unpaired surrogate, which many readers refuse, is replaced by U+FFFD.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(#[serde(deserialize_with = "read")] Box<RawValue>);

impl JsonText {
    /// Reads one document.
    ///
    /// # Errors
    ///
    /// Describes the fault, but never quotes the document.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "no UTF-8")?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| "no JSON")?;
        Self::normal(raw)
    }

    fn normal(raw: &RawValue) -> Result<Self, &'static str> {
        if depth(raw.get()) > MAX_DEPTH {
            return Err("JSON that is nested too deeply");
        }
        let text = rewrite(raw.get(), |token| match token {
            JsonToken::Text(text) => readable(text),
            JsonToken::Number(_) => None,
        });
        RawValue::from_string(text).map(Self).map_err(|_| "no JSON")
    }

    /// Serialises `value`. A value that has no JSON form becomes `null`.
    pub fn of(value: &impl Serialize) -> Self {
        Self(to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// The document's text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Parses the document for inspection. Do not pass the result on: its numbers are only as exact as `f64`, and a
    /// number beyond that range is `null`.
    pub fn value(&self) -> Value {
        look_into(self.get()).unwrap_or_default()
    }

    /// Whether the document is an object.
    pub fn is_object(&self) -> bool {
        self.get().starts_with('{')
    }

    /// Returns the members of an object. If a key occurs twice, the last one counts. Empty for any other document.
    pub fn members(&self) -> BTreeMap<String, Self> {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(self.get()).unwrap_or_default();
        members.into_iter().map(|(name, raw)| (name, Self(raw))).collect()
    }

    /// Returns a copy with strings, keys and numbers replaced where a function returns a replacement.
    pub(super) fn replace(
        &self,
        mut of_text: impl FnMut(&str) -> Option<String>,
        mut of_number: impl FnMut(&str) -> Option<String>,
    ) -> Self {
        let quote = |text: String| Value::String(text).to_string();
        let text = rewrite(self.get(), |token| match token {
            JsonToken::Text(text) => {
                of_text(&serde_json::from_str::<Cow<'_, str>>(text).unwrap_or_default()).map(quote)
            }
            JsonToken::Number(text) => of_number(text).map(quote),
        });
        RawValue::from_string(text).map_or_else(|_| Self::of(&()), Self)
    }
}

/// Shows the length only, because the document may contain a customer's profile.
impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.get().len())
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self::of(&value)
    }
}

/// Parses JSON for inspection. Unlike `serde_json`, it reads a number beyond the range of `f64` as `null` instead of
/// failing.
pub fn look_into(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok().or_else(|| {
        let valid: &RawValue = serde_json::from_str(json).ok()?;
        let text = rewrite(valid.get(), |token| match token {
            JsonToken::Number(text) if serde_json::from_str::<f64>(text).is_err() => Some("null".to_owned()),
            _ => None,
        });
        serde_json::from_str(&text).ok()
    })
}

fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    JsonText::normal(&raw).map(|json| json.0).map_err(serde::de::Error::custom)
}

/// A part of a JSON text that can be replaced.
enum JsonToken<'a> {
    /// A string, including its quotes and escapes.
    Text(&'a str),
    /// A number in its original spelling.
    Number(&'a str),
}

/// Returns the maximum nesting of a valid JSON text.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    parts(json, |part| match part.as_bytes().first() {
        Some(b'{' | b'[') => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        Some(b'}' | b']') => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest
}

/// Removes white space from a valid JSON text and replaces strings and numbers where `replacement` returns text.
fn rewrite(json: &str, mut replacement: impl FnMut(JsonToken<'_>) -> Option<String>) -> String {
    let mut out = String::with_capacity(json.len());
    parts(json, |part| {
        let new = match part.as_bytes().first() {
            Some(b'"') => replacement(JsonToken::Text(part)),
            Some(b'-' | b'0'..=b'9') => replacement(JsonToken::Number(part)),
            _ => None,
        };
        out.push_str(new.as_deref().unwrap_or(part));
    });
    out
}

/// Splits a valid JSON text into strings, numbers, words and punctuation.
fn parts<'a>(json: &'a str, mut each: impl FnMut(&'a str)) {
    let bytes = json.as_bytes();
    let mut start = 0;
    while let Some(first) = bytes.get(start) {
        let rest = &bytes[start..];
        let length = match first {
            b' ' | b'\t' | b'\r' | b'\n' => {
                start += 1;
                continue;
            }
            b'"' => string_length(rest),
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
            _ => rest.iter().position(|byte| b" \t\r\n{}[]:,\"".contains(byte)).unwrap_or(rest.len()),
        };
        let end = start + length;
        each(json.get(start..end).unwrap_or_default());
        start = end;
    }
}

/// Returns the length of the string at the start of `bytes`, including its quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Replaces each unpaired surrogate of a string. Returns `None` if there is none.
fn readable(text: &str) -> Option<String> {
    if !text.contains("\\u") || serde_json::from_str::<Cow<'_, str>>(text).is_ok() {
        return None;
    }
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let length = match (c, unit(at)) {
            ('\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            ('\\', Some(0xd800..=0xdfff)) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            ('\\', Some(_)) => 6,
            ('\\', None) => 2,
            _ => c.len_utf8(),
        };
        out.push_str(text.get(at..at + length).unwrap_or_default());
        at += length;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn kept(text: &str) -> String {
        JsonText::parse(text.as_bytes()).unwrap().get().to_owned()
    }

    #[test]
    fn numbers_order_and_duplicates_stay_and_white_space_goes() {
        for text in [
            r#"{"xco_id":12345678901234567890123}"#,
            "[1e400,-1E-400,-0,-0.0,1.10,0.1e+2,18446744073709551616,9007199254740993]",
            r#"{"b":1,"a":2,"b":3}"#,
            r#"{"a":" [1, 2] \" \\","b":[true,false,null]}"#,
            "17",
        ] {
            assert_eq!(kept(text), text);
        }
        assert_eq!(kept("{ \"a\" :\r\n\t[ 1 , -2.50 ] }\n"), r#"{"a":[1,-2.50]}"#);
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        for wrong in ["", "{", "{}x", "01", "[1,]", "\u{feff}{}", "NaN", "{\"a\":1 \"b\":2}"] {
            assert!(JsonText::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(JsonText::parse(b"\"\xff\""), Err("no UTF-8"));
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(JsonText::parse(nested(100).as_bytes()).is_ok());
        assert!(JsonText::parse(nested(101).as_bytes()).is_err());
        assert!(JsonText::parse(nested(1_000_000).as_bytes()).is_err());
        assert!(serde_json::from_str::<JsonText>(&nested(101)).is_err());
        assert_eq!(kept(&format!("\"{}\"", "[".repeat(500))).len(), 502);
    }

    #[test]
    fn half_a_surrogate_pair_is_made_readable() {
        assert_eq!(kept(r#"["\ud83d\ude00","\u00e9"]"#), r#"["\ud83d\ude00","\u00e9"]"#);
        assert_eq!(kept(r#"["\ud800","a\ude00\\ud800\ud83d\ude00"]"#), r#"["\ufffd","a\ufffd\\ud800\ud83d\ude00"]"#);
    }

    #[test]
    fn a_number_beyond_all_bounds_hides_nothing_else() {
        let json = JsonText::parse(br#"{"huge":1e400,"title":"1e400","n":[2]}"#).unwrap();
        assert_eq!(json.value(), json!({"huge": null, "title": "1e400", "n": [2]}));
        assert_eq!(json.members().get("huge").map(JsonText::get), Some("1e400"));
    }

    #[test]
    fn stored_and_read_again_it_is_the_same_and_one_line() {
        let json: JsonText = serde_json::from_str("{\"a\":\n1.10}").unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), r#"{"a":1.10}"#);
        assert_eq!(format!("{json:?}"), "JsonText(10 bytes)");
    }

    proptest! {
        #[test]
        fn any_document_keeps_its_meaning(words in proptest::collection::vec(".{0,12}", 0..6), n in any::<f64>(), i in any::<i64>()) {
            let value = json!({"words": words, "n": n, "i": i, "deep": [{"words": words}]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let json = JsonText::parse(pretty.as_bytes()).unwrap();
            prop_assert_eq!(json.get(), value.to_string());
            prop_assert_eq!(json.value(), serde_json::from_str::<Value>(&pretty).unwrap());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}:,\"\\\\u0-9dDeE+. -]{0,48}") {
            let _ = JsonText::parse(&bytes);
            if let Ok(json) = JsonText::parse(text.as_bytes()) {
                prop_assert!(!json.get().contains('\n'));
                json.value();
            }
        }
    }
}
