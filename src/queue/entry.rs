//! Stream entries in the form in which Redis returns them. They are not validated, because any producer can write to a
//! stream.

use super::Source;
use crate::contract::{EntryId, Lane};
use redis::Value;

/// One delivery of a stream entry.
#[derive(Debug, Clone)]
pub struct RawEntry {
    /// The lane of the stream.
    pub lane: Lane,
    /// Which of the lane's two streams the entry is in.
    pub source: Source,
    /// The id of the stream entry.
    pub id: EntryId,
    /// The field `job`. Empty if it is missing.
    pub job: Vec<u8>,
    /// The field `state`, for jobs that come back.
    pub state: Option<Vec<u8>>,
    /// The field `parent`, for children.
    pub parent: Option<String>,
    /// The field `generation`, for children. 0 otherwise.
    pub generation: u8,
    /// How many times the entry was delivered to workers that may have started it, including this time.
    pub deliveries: u32,
    /// Whether this delivery was taken over from another worker, which did not end it.
    pub rescued: bool,
}

/// Maximum length of a parent's id in bytes: a producer's longest id and the outcomes of four generations.
const MAX_PARENT_BYTES: usize = 256;

impl RawEntry {
    /// Returns the field `parent` if it can be an id. A producer could write this field too, and it goes into the
    /// completion.
    pub(super) fn bounded_parent(content: &[u8]) -> Option<String> {
        let fits = (1..=MAX_PARENT_BYTES).contains(&content.len());
        let is_id = fits && content.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(byte));
        is_id.then(|| String::from_utf8_lossy(content).into_owned())
    }
}

/// Collects the entries of an `XREADGROUP` list `[[id, [field, value, …]], …]`. Deleted entries (nil) are left out.
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

/// Parses the field `generation`. A producer could write this field too. An invalid value becomes the maximum, which
/// only forbids the job to have children.
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
