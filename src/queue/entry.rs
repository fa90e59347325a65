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
    /// How many times it was delivered, this time included; more than 1 only when taken over from a lost worker.
    pub deliveries: u32,
}

/// The entries of a `XREADGROUP` or `XAUTOCLAIM` list `[[id, [field, value, …]], …]`. Deleted entries (nil) are left out.
pub(super) fn entries(value: Value, lane: Lane, source: Source, into: &mut Vec<RawEntry>) {
    let Value::Array(list) = value else { return };
    for item in list {
        let Value::Array(mut pair) = item else { continue };
        let (Some(fields), Some(id)) = (pair.pop(), pair.pop()) else { continue };
        let Some(id) = text(&id).and_then(|id| id.parse().ok()) else { continue };
        let Value::Array(fields) = fields else { continue };
        let mut entry =
            RawEntry { lane, source, id, job: Vec::new(), state: None, parent: None, generation: 0, deliveries: 1 };
        let mut fields = fields.into_iter();
        while let (Some(name), Some(content)) = (fields.next(), fields.next()) {
            let (Value::BulkString(name), Value::BulkString(content)) = (name, content) else { continue };
            match name.as_slice() {
                b"job" => entry.job = content,
                b"state" => entry.state = Some(content),
                b"parent" => entry.parent = String::from_utf8(content).ok(),
                b"generation" => entry.generation = bounded_generation(&content),
                _ => {}
            }
        }
        into.push(entry);
    }
}

/// A producer could write this field too: it can only forbid itself children.
fn bounded_generation(content: &[u8]) -> u8 {
    std::str::from_utf8(content).ok().and_then(|text| text.parse().ok()).unwrap_or(u8::MAX)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
