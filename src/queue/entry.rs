//! Stream entries as they come from Redis, undecoded: anyone can write anything into a stream.

use super::Source;
use crate::contract::{EntryId, Lane};
use redis::Value;

/// One delivery of one entry.
#[derive(Debug, Clone)]
pub struct RawEntry {
    /// From which lane.
    pub lane: Lane,
    /// From which of its streams.
    pub source: Source,
    /// Its entry.
    pub id: EntryId,
    /// The field `job`; empty where there is none.
    pub job: Vec<u8>,
    /// The field `state`, on jobs that come back.
    pub state: Option<Vec<u8>>,
    /// The field `parent`, on children.
    pub parent: Option<String>,
    /// The field `generation`, on children.
    pub generation: u8,
    /// How many times it was delivered, this time included, to workers that may have begun it.
    pub deliveries: u32,
    /// It was pending for another delivery, which a worker did not end.
    pub rescued: bool,
}

/// The longest id of a parent: the longest of a producer's, and what four generations of outcomes put behind it.
const MAX_PARENT_BYTES: usize = 256;

impl RawEntry {
    /// The field `parent`, where it can be one: a producer could write this field too, and it goes into the completion.
    pub(super) fn bounded_parent(content: &[u8]) -> Option<String> {
        let fits = (1..=MAX_PARENT_BYTES).contains(&content.len());
        let is_id = fits && content.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(byte));
        is_id.then(|| String::from_utf8_lossy(content).into_owned())
    }
}

/// The entries of a `XREADGROUP` list `[[id, [field, value, …]], …]`. Deleted entries (nil) are left out.
pub(super) fn entries(value: Value, lane: Lane, source: Source, into: &mut Vec<RawEntry>) {
    let Value::Array(list) = value else { return };
    for item in list {
        let Value::Array(mut pair) = item else { continue };
        let (Some(fields), Some(id)) = (pair.pop(), pair.pop()) else { continue };
        let Some(id) = text(&id).and_then(|id| id.parse().ok()) else { continue };
        let Value::Array(fields) = fields else { continue };
        let mut entry = RawEntry {
            lane,
            source,
            id,
            job: Vec::new(),
            state: None,
            parent: None,
            generation: 0,
            deliveries: 1,
            rescued: false,
        };
        let mut fields = fields.into_iter();
        while let (Some(name), Some(content)) = (fields.next(), fields.next()) {
            let (Value::BulkString(name), Value::BulkString(content)) = (name, content) else { continue };
            match name.as_slice() {
                b"job" => entry.job = content,
                b"state" => entry.state = Some(content),
                b"parent" => entry.parent = RawEntry::bounded_parent(&content),
                b"generation" => entry.generation = bounded_generation(&content),
                _ => {}
            }
        }
        into.push(entry);
    }
}

/// A producer could write this field too: it can only forbid itself children.
pub(super) fn bounded_generation(content: &[u8]) -> u8 {
    std::str::from_utf8(content).ok().and_then(|text| text.parse().ok()).unwrap_or(u8::MAX)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_an_id_of_bounded_length_or_none() {
        let longest = "a".repeat(MAX_PARENT_BYTES);
        for (content, parent) in [
            ("signup-2/absent", Some("signup-2/absent")),
            (longest.as_str(), Some(longest.as_str())),
            ("", None),
            ("with space", None),
            ("\u{202e}", None),
        ] {
            assert_eq!(RawEntry::bounded_parent(content.as_bytes()).as_deref(), parent, "{content}");
        }
        assert_eq!(RawEntry::bounded_parent(&vec![b'a'; 5_000_000]), None);
    }
}
