//! A small JSON tree that borrows from the input, keeps duplicate keys and limits nesting.
//!
//! `serde_json::Value` would silently keep only the last of two equal keys, copy every string, and allow the parser's
//! own, deeper nesting.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Number, value::RawValue};
use std::{borrow::Cow, fmt};

/// Maximum nesting of objects and arrays in a job. A valid job with four generations of children needs 12.
pub(super) const MAX_DEPTH: u8 = 32;

/// A key of an object and its value.
pub(super) type Member<'a> = (Cow<'a, str>, Node<'a>);

/// A JSON value. Strings borrow from the input unless they contain escapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    /// A number directly inside `meta`, in its original spelling: `1.50`, or an order number of 30 digits.
    Written(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// Members in the order of the document. A key may occur more than once.
    Object(Vec<Member<'a>>),
}

/// The reason why a text is not an acceptable JSON document.
#[derive(Debug)]
pub(super) enum JsonFault {
    /// The document nests deeper than allowed.
    TooDeep,
    /// The parser's message: fixed words and a position, never the input.
    Syntax(String),
}

impl<'a> Node<'a> {
    /// Parses exactly one JSON document of at most `max_depth` levels. `max_depth` must be below `serde_json`'s own
    /// limit of 127.
    pub(super) fn parse(text: &'a str, max_depth: u8) -> Result<Self, JsonFault> {
        let seed = Seed { levels: max_depth, within: Within::Job };
        seed.read(text).map_err(|error| {
            let said = error.to_string();
            if said.starts_with(TOO_DEEP) { JsonFault::TooDeep } else { JsonFault::Syntax(said) }
        })
    }

    /// Names the kind of value, for the detail of a fault.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) | Self::Written(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Returns the text if the value is a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Written(text) => {
                serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
            }
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(value)?;
                }
                seq.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key.as_ref(), value)?;
                }
                map.end()
            }
        }
    }
}

/// The start of the error message for a document that nests too deeply.
const TOO_DEEP: &str = "nested too deeply";

/// Where a value stands in a job. This decides how its numbers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Outside `meta`: numbers are read as numbers.
    Job,
    /// The value of the key `meta`: its numbers are text and keep their spelling.
    Meta,
    /// Inside an array or object within `meta`. Such a value is always a fault.
    Fault,
}

/// Reads a value that may have at most `levels` levels below it.
#[derive(Clone, Copy)]
struct Seed {
    levels: u8,
    within: Within,
}

impl Seed {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom(TOO_DEEP))?;
        Ok(Self { levels, ..self })
    }

    /// Reads a whole document, with nothing after it.
    fn read(self, text: &str) -> Result<Node<'_>, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_str(text);
        self.deserialize(&mut parser).and_then(|node| parser.end().map(|()| node))
    }

    /// Reads the value of a key inside `meta`.
    fn read_written<E: serde::de::Error>(self, text: &str) -> Result<Node<'_>, E> {
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Self { within: Within::Fault, ..self }.read(text).map_err(E::custom);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Node::Written(text)),
            _ => Err(E::custom("number out of range")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node<'de>, E> {
        Number::from_f64(value).map(Node::Number).ok_or_else(|| E::custom("no JSON number"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(Node::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node<'de>, A::Error> {
        let within = if self.within == Within::Meta { Within::Fault } else { self.within };
        let below = Self { within, ..self.deeper()? };
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Node::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node<'de>, A::Error> {
        let below = self.deeper::<A::Error>()?;
        // A job's outermost object has about eight members: allocate once for all of them.
        let mut members = Vec::with_capacity(if self.levels == MAX_DEPTH { 8 } else { 2 });
        while let Some(Key(key)) = access.next_key_seed(KeySeed)? {
            let value = match (self.within, key.as_ref()) {
                (Within::Meta, _) => below.read_written(access.next_value::<&'de RawValue>()?.get())?,
                (Within::Job, "meta") => access.next_value_seed(Self { within: Within::Meta, ..below })?,
                _ => access.next_value_seed(below)?,
            };
            members.push((key, value));
        }
        Ok(Node::Object(members))
    }
}

struct Key<'a>(Cow<'a, str>);

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(value.to_owned())))
    }
}

/// Returns the length in bytes of `text` as a compact JSON string, including the quotes.
pub(super) fn json_string_bytes(text: &str) -> usize {
    2 + text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn borrows_where_it_can_and_keeps_duplicates_in_order() {
        let node = Node::parse(r#"{"b":"x","a":"\u0041","b":[1,-1,1.5,true,null]}"#, MAX_DEPTH).unwrap();
        let Node::Object(members) = &node else { panic!("an object") };
        assert_eq!(members.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), ["b", "a", "b"]);
        assert!(matches!(members[0].1, Node::String(Cow::Borrowed("x"))));
        assert!(matches!(&members[1].1, Node::String(Cow::Owned(text)) if text == "A"));
        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"b":"x","a":"A","b":[1,-1,1.5,true,null]}"#);
    }

    #[test]
    fn numbers_in_meta_are_kept_as_written() {
        let text = r#"{"meta":{"a":1.50,"b":-0,"c":123456789012345678901234567890,"d":"x","e":[1.50],"f":{"meta":{"n":1.50}}},"n":1.50}"#;
        let node = Node::parse(text, MAX_DEPTH).unwrap();
        let Node::Object(members) = &node else { panic!("an object") };
        let Node::Object(meta) = &members[0].1 else { panic!("an object") };
        assert_eq!(meta[0].1, Node::Written("1.50"));
        assert!(matches!(meta[3].1, Node::String(Cow::Borrowed("x"))));
        let written = text
            .replace("[1.50]", "[1.5]")
            .replace(r#"{"n":1.50}"#, r#"{"n":1.5}"#)
            .replace(r#""n":1.50}"#, r#""n":1.5}"#);
        assert_eq!(serde_json::to_string(&node).unwrap(), written);
        // Invalid JSON is rejected inside `meta` too, and nesting counts there.
        for fault in ["1e999", "01", "1.", "-", r#""\ud800""#, "nul"] {
            let text = format!(r#"{{"meta":{{"a":{fault}}}}}"#);
            assert!(matches!(Node::parse(&text, MAX_DEPTH), Err(JsonFault::Syntax(_))), "{text}");
        }
        let nested = |depth: usize| format!(r#"{{"meta":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(Node::parse(&nested(30), MAX_DEPTH).is_ok());
        assert!(matches!(Node::parse(&nested(31), MAX_DEPTH), Err(JsonFault::TooDeep)));
        assert!(Node::parse(&nested(20_000), MAX_DEPTH).is_err());
    }

    #[test]
    fn nesting_is_bounded_exactly() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Node::parse(&nested(32), MAX_DEPTH).is_ok());
        assert!(matches!(Node::parse(&nested(33), MAX_DEPTH), Err(JsonFault::TooDeep)));
        assert!(Node::parse(&nested(100_000), MAX_DEPTH).is_err());
        assert!(Node::parse(&nested(100_000), 120).is_err());
        assert!(Node::parse(&nested(120), 120).is_ok());
    }

    #[test]
    fn what_is_no_json_is_a_syntax_fault() {
        for text in ["", "{", "nul", "{} x", "NaN", "[1e999]", r#""\ud800""#, "{a:1}", "\u{feff}{}", "{'a':1}", "[1,]"]
        {
            assert!(matches!(Node::parse(text, MAX_DEPTH), Err(JsonFault::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn string_lengths_are_those_of_serde_json() {
        for text in ["", "plain", "é€😀", "\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}"] {
            assert_eq!(json_string_bytes(text), serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }
}
