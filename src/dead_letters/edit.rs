//! Changes a job before it is replayed.

use crate::contract::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, str::FromStr};

/// An assignment `POINTER=VALUE`. It has no `Debug`, because the value may be personal data.
#[derive(Clone, Serialize, Deserialize)]
pub struct Assignment {
    pointer: String,
    text: String,
}

impl Assignment {
    /// Sets the member at a JSON Pointer to a value. A number becomes text where text was before.
    ///
    /// # Errors
    /// `pointer` is not a JSON Pointer to a member.
    pub fn new(pointer: &str, value: &Value) -> Result<Self, String> {
        Ok(Self { pointer: parse_pointer(pointer)?, text: value.to_string() })
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pointer, value) =
            text.split_once('=').ok_or("expected POINTER=VALUE, such as /args/email=ada@example.com")?;
        Ok(Self { pointer: parse_pointer(pointer)?, text: value.to_owned() })
    }
}

/// Checks a JSON Pointer (RFC 6901) to a member of the job.
pub fn parse_pointer(text: &str) -> Result<String, String> {
    let is_one = text.len() > 1 && text.starts_with('/');
    if is_one { Ok(text.to_owned()) } else { Err("a JSON Pointer begins with a slash, such as /args/email".to_owned()) }
}

/// The changes to apply to every replayed job.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Members to set.
    pub set: Vec<Assignment>,
    /// JSON Pointers of members to remove.
    pub unset: Vec<String>,
    /// The complete new text of the job, from an editor.
    pub whole: Option<String>,
}

impl Changes {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty() && self.whole.is_none()
    }

    /// The JSON Pointers of the changed members, for the audit stream.
    pub fn pointers(&self) -> Vec<&str> {
        let set = self.set.iter().map(|assignment| assignment.pointer.as_str());
        set.chain(self.unset.iter().map(String::as_str)).collect()
    }

    /// Applies the changes to a job. The error is a fault with the JSON Pointer of the member.
    pub fn apply<'j>(&self, job: &'j str) -> Result<Cow<'j, str>, Fault> {
        if self.is_empty() {
            return Ok(Cow::Borrowed(job));
        }
        if let Some(whole) = &self.whole {
            return Ok(Cow::Owned(whole.clone()));
        }
        let fault = |pointer: &str, detail: &str| Fault { pointer: pointer.to_owned(), detail: detail.to_owned() };
        let mut job: Value =
            serde_json::from_str(job).map_err(|_| fault("", "is not JSON: only an editor can change it"))?;
        for Assignment { pointer, text } in &self.set {
            let (parent, name) = parent_of(&mut job, pointer)
                .ok_or_else(|| fault(pointer, "cannot be set: there is nothing it could be in"))?;
            match parent {
                Value::Object(members) => {
                    let value = value_of(text, members.get(&name));
                    members.insert(name, value);
                }
                Value::Array(values) => {
                    let place = name.parse().ok().and_then(|index: usize| values.get_mut(index));
                    let place = place.ok_or_else(|| fault(pointer, "cannot be set: the array is shorter"))?;
                    *place = value_of(text, Some(place));
                }
                _ => return Err(fault(pointer, "cannot be set: what it would be in is no object")),
            }
        }
        for pointer in &self.unset {
            if let Some((Value::Object(members), name)) = parent_of(&mut job, pointer) {
                members.remove(&name);
            }
        }
        Ok(Cow::Owned(job.to_string()))
    }
}

/// Returns the value that contains the pointer's target, and the pointer's last segment.
fn parent_of<'v>(job: &'v mut Value, pointer: &str) -> Option<(&'v mut Value, String)> {
    let (parent, name) = pointer.rsplit_once('/')?;
    Some((job.pointer_mut(parent)?, name.replace("~1", "/").replace("~0", "~")))
}

/// Reads the text as JSON, else as a string. A number stays a string where a string was before, such as a postal code.
fn value_of(text: &str, before: Option<&Value>) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(_)) if before.is_some_and(Value::is_string) => text.into(),
        Ok(value) => value,
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn apply(job: &str, set: &[&str], unset: &[&str]) -> Result<String, String> {
        let changes = Changes {
            set: set.iter().map(|text| text.parse().ok().unwrap()).collect(),
            unset: unset.iter().map(|text| parse_pointer(text).unwrap()).collect(),
            whole: None,
        };
        changes.apply(job).map(Cow::into_owned).map_err(|fault| fault.pointer)
    }

    #[test]
    fn values_are_json_or_text_and_land_where_the_pointer_says() {
        let job = r#"{"args":{"email":"a","zip":"75001","list":[{"x":1}]},"ttl_ms":5}"#;
        let done = apply(job, &["/args/email=b@c.example", "/args/zip=01234", "/ttl_ms=7", "/args/list/0/x=null"], &[]);
        assert_eq!(done.unwrap(), r#"{"args":{"email":"b@c.example","list":[{"x":null}],"zip":"01234"},"ttl_ms":7}"#);
        assert_eq!(apply(r#"{"a":"5"}"#, &["/a=6"], &[]).unwrap(), r#"{"a":"6"}"#);
        assert_eq!(
            apply(r#"{"a":"5","b":1}"#, &["/c=a=b", "/d~1e={}"], &["/a", "/x/y"]).unwrap(),
            r#"{"b":1,"c":"a=b","d/e":{}}"#
        );
        assert_eq!(apply(job, &["/nowhere/email=x"], &[]).unwrap_err(), "/nowhere/email");
        assert_eq!(apply(job, &["/ttl_ms/x=x"], &[]).unwrap_err(), "/ttl_ms/x");
        assert_eq!(apply("no job", &["/a=x"], &[]).unwrap_err(), "");
        assert!("args/email=x".parse::<Assignment>().is_err() && "/args/email".parse::<Assignment>().is_err());
    }
}
