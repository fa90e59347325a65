//! The members of a job's JSON object, each as it was written.

use crate::contract::Lane;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt::{self, Write};

/// The members of an object in their order. A repeated key stands as often as it was written: the parser must see that.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// `None` where the text is no JSON object.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The lane that the object names, or what would be right.
    pub(super) fn lane(&self) -> Result<Option<Lane>, String> {
        let mut lanes = self.0.iter().filter(|(key, _)| key == "lane");
        let (Some((_, lane)), rest) = (lanes.next(), lanes.next()) else { return Ok(None) };
        if rest.is_some() {
            return Err("stands more than once".to_owned());
        }
        let lane: String = serde_json::from_str(lane.get()).unwrap_or_default();
        lane.parse().map(Some).map_err(|_| "must be interactive or bulk".to_owned())
    }

    /// Whether the object has a member of that name that is not `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == name && value.get() != "null")
    }

    /// The job's text: the object without its lane. The members in `added` come first, instead of those that are `null`.
    pub(super) fn to_job(&self, added: &[(&str, &str)]) -> String {
        let mut json = String::from("{");
        let mut add = |key: &str, value: &str| {
            let comma = if json.len() > 1 { "," } else { "" };
            // Writing to a String cannot fail, and every text can be JSON.
            let key = serde_json::to_string(key).unwrap_or_default();
            let _ = write!(json, "{comma}{key}:{value}");
        };
        for (key, value) in added {
            add(key, &serde_json::to_string(value).unwrap_or_default());
        }
        let is_added = |key: &str| added.iter().any(|(name, _)| *name == key);
        for (key, value) in self.0.iter().filter(|(key, _)| key != "lane" && !is_added(key)) {
            add(key, value.get());
        }
        json.push('}');
        json
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}
