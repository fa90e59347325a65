//! Decodes the entries of a completion stream, and filters them.

use crate::contract::{EntryId, JobType, MerchantScope, Status, look_into};
use redis::Value;

/// One completion, read from its stream.
#[derive(Clone, PartialEq)]
pub struct Completed {
    /// Partition of the stream.
    pub partition: u16,
    /// Id of the entry in that partition's stream. Pass it to [`Start`](super::Start) to continue after it.
    pub entry_id: EntryId,
    /// Id of the job.
    pub id: String,
    /// Type of the job. `None` for a rejected job that named no known type.
    pub job_type: Option<JobType>,
    /// How the job ended.
    pub status: Status,
    /// The event, as the contract describes it (§3).
    pub event: serde_json::Value,
}

/// Leaves out the event, which may hold a customer's profile.
impl std::fmt::Debug for Completed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completed")
            .field("partition", &self.partition)
            .field("entry_id", &self.entry_id)
            .field("id", &self.id)
            .field("job_type", &self.job_type)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Which completions a reader wants. A completion must match every field that is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Id of the job.
    pub id: Option<String>,
    /// Types of the jobs. Empty: all types.
    pub job_types: Vec<JobType>,
    /// How the job ended.
    pub status: Option<Status>,
    /// Batch of the job.
    pub batch: Option<String>,
    /// `caller_id` of the job.
    pub caller_id: Option<String>,
    /// Merchants of the jobs.
    pub merchants: MerchantScope,
}

/// Leaves out the caller, which may be personal data.
impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter")
            .field("id", &self.id)
            .field("job_types", &self.job_types)
            .field("status", &self.status)
            .field("batch", &self.batch)
            .field("merchants", &self.merchants)
            .finish_non_exhaustive()
    }
}

impl Filter {
    /// Whether `completed` matches.
    pub fn wants(&self, completed: &Completed) -> bool {
        self.id.as_ref().is_none_or(|id| *id == completed.id)
            && (self.job_types.is_empty() || completed.job_type.is_some_and(|found| self.job_types.contains(&found)))
            && self.status.is_none_or(|status| completed.status == status)
            && self.batch.as_ref().is_none_or(|batch| completed.event["batch"] == batch.as_str())
            && self.caller_id.as_ref().is_none_or(|caller| completed.event["caller_id"] == caller.as_str())
            && self.merchants.covers(&completed.event)
    }
}

/// One entry of a stream: its id and its completion. `None` if the entry is not a completion, because any program can
/// write to a stream.
pub(super) type Entry = (EntryId, Option<Completed>);

/// The streams of an `XREAD` or `XREADGROUP` reply, each with its key, in the order of the reply.
pub(super) fn streams(reply: Value) -> Vec<(String, Value)> {
    let pairs: Vec<(Value, Value)> = match reply {
        Value::Array(streams) => streams
            .into_iter()
            .filter_map(|stream| match stream {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).ok().map(|[name, list]| (name, list)),
                _ => None,
            })
            .collect(),
        Value::Map(streams) => streams,
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(name, list)| Some((text(&name)?.to_owned(), list))).collect()
}

/// The entries in a list `[[id, [field, value, …]], …]`. A deleted entry has nil instead of fields.
pub(super) fn entries(list: Value, partition: u16) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter()
        .filter_map(|item| {
            let Value::Array(pair) = item else { return None };
            let [id, fields] = <[Value; 2]>::try_from(pair).ok()?;
            let entry_id: EntryId = text(&id)?.parse().ok()?;
            Some((entry_id, completed(partition, entry_id, &fields)))
        })
        .collect()
}

fn completed(partition: u16, entry_id: EntryId, fields: &Value) -> Option<Completed> {
    let Value::Array(fields) = fields else { return None };
    let field =
        |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).and_then(|pair| text(&pair[1]));
    Some(Completed {
        partition,
        entry_id,
        id: field("id")?.to_owned(),
        job_type: JobType::from_name(field("type")?),
        status: Status::from_name(field("status")?)?,
        // Parsed leniently: XCO's part of it may hold numbers too large for an `f64`.
        event: look_into(field("event")?).filter(serde_json::Value::is_object)?,
    })
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::MerchantId;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![bulk(id), Value::Array(fields.iter().map(|text| bulk(text)).collect())])
    }

    const EVENT: &str = r#"{"id":"a","batch":"b","caller_id":"c"}"#;

    #[test]
    fn entries_are_decoded_and_what_is_no_completion_is_told_apart() {
        let good = ["id", "a", "type", "CheckUser", "status", "succeeded", "event", EVENT];
        let untyped = ["id", "a", "type", "", "status", "rejected", "event", EVENT, "more", "1"];
        let list = Value::Array(vec![
            entry("1-0", &good),
            entry("2-0", &untyped),
            entry("3-0", &["id", "a"]),
            entry("4-0", &["id", "a", "type", "x", "status", "done", "event", EVENT]),
            entry("5-0", &["id", "a", "type", "x", "status", "failed", "event", "[]"]),
            Value::Array(vec![bulk("6-0"), Value::Nil]),
            Value::Int(7),
        ]);
        let reply = Value::Array(vec![Value::Array(vec![bulk("{xco:3}:completions"), list])]);
        let mut streams = streams(reply);
        let (name, list) = streams.pop().unwrap();
        assert_eq!(name, "{xco:3}:completions");
        let read = entries(list, 3);
        assert_eq!(read.iter().map(|(id, _)| id.ms).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        let first = read[0].1.as_ref().unwrap();
        assert_eq!((first.partition, first.id.as_str(), first.status), (3, "a", Status::Succeeded));
        assert_eq!(first.job_type, Some(JobType::CheckUser));
        assert_eq!(read[1].1.as_ref().unwrap().job_type, None);
        assert!(read[2..].iter().all(|(_, completed)| completed.is_none()));
    }

    #[test]
    fn a_filter_wants_what_fits_all_that_is_set() {
        let completed = Completed {
            partition: 0,
            entry_id: EntryId { ms: 1, seq: 0 },
            id: "a".to_owned(),
            job_type: None,
            status: Status::Rejected,
            event: serde_json::from_str(EVENT).unwrap(),
        };
        let fitting = Filter {
            id: Some("a".to_owned()),
            status: Some(Status::Rejected),
            batch: Some("b".to_owned()),
            caller_id: Some("c".to_owned()),
            merchants: MerchantScope::only([&MerchantId::from_checked("m")], Some(&MerchantId::from_checked("m"))),
            ..Filter::default()
        };
        assert!(Filter::default().wants(&completed));
        assert!(fitting.wants(&completed));
        for other in [
            Filter { id: Some("b".to_owned()), ..fitting.clone() },
            Filter { job_types: vec![JobType::CheckUser], ..fitting.clone() },
            Filter { status: Some(Status::Failed), ..fitting.clone() },
            Filter { batch: Some("c".to_owned()), ..fitting.clone() },
            Filter { caller_id: Some("b".to_owned()), ..fitting.clone() },
            Filter { merchants: MerchantScope::only([&MerchantId::from_checked("n")], None), ..fitting.clone() },
        ] {
            assert!(!other.wants(&completed), "{other:?}");
        }
    }
}
