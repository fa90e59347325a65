//! JSON of dead letters.

use crate::contract::{EntryId, look_into};
use serde::{Deserialize, Deserializer, Serializer, de};
use serde_json::Value;

/// JSON as it is; a text that is none becomes a JSON string.
pub(super) fn as_json(text: &str) -> Value {
    look_into(text).unwrap_or_else(|| text.into())
}

/// For `serialize_with`: `1732265000000-0`
pub(super) fn entry_as_text<S: Serializer>(entry: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(entry)
}

/// For `deserialize_with`: the inverse of [`entry_as_text`].
pub(super) fn entry_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EntryId, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}
