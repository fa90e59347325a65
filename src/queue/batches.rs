//! Counters of batches (`{NS:P}:batch:<name>`). Workers count a job when they first admit it, and when it ends.

use super::{Keys, Link};
use crate::contract::Status;
use redis::{RedisResult, cmd};
use std::collections::BTreeMap;

/// The field that counts admitted jobs.
const ACCEPTED: &str = "accepted";

/// Number of keys that one step of [`names`] looks at.
const SCAN_STEP: usize = 1_000;

/// Longest name of a batch that is listed, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

/// The counters of a batch in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Jobs that workers have admitted for the first time.
    pub accepted: u64,
    /// Jobs that have ended, by status.
    pub ended: BTreeMap<&'static str, u64>,
}

/// Reads the counters of a batch in one partition. `None` if there are none.
pub async fn counts(link: &mut Link, keys: &Keys, batch: &str) -> RedisResult<Option<BatchCounts>> {
    let fields = Status::ALL.map(Status::as_str);
    let mut get = cmd("HMGET");
    get.arg(keys.batch(batch)).arg(ACCEPTED).arg(&fields);
    let mut values: Vec<Option<String>> = match link.query(&get).await {
        Ok(values) => values,
        // Something else is stored there.
        Err(error) if error.code() == Some("WRONGTYPE") => return Ok(None),
        Err(error) => return Err(error),
    };
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    // A replay takes from a counter, so one may be below zero for a moment.
    let number = |value: Option<String>| value.and_then(|value| value.parse().ok()).unwrap_or(0);
    let ended = values.split_off(1).into_iter().map(number);
    let ended = fields.into_iter().zip(ended).filter(|(_, count)| *count > 0).collect();
    Ok(Some(BatchCounts { accepted: values.pop().map_or(0, number), ended }))
}

/// One step through the names of the batches that have counters, in no order. Returns the cursor for the next step ("0" at the end).
/// A name may come more than once. Looks at about a thousand keys of the whole Redis. A cluster cannot be searched this way.
pub async fn names(link: &mut Link, namespace: &str, cursor: &str) -> RedisResult<(String, Vec<String>)> {
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(format!("{{{namespace}:*}}:batch:*")).arg("COUNT").arg(SCAN_STEP);
    let (next, found): (String, Vec<Vec<u8>>) = link.query(scan.arg("TYPE").arg("hash")).await?;
    let name = |key: Vec<u8>| {
        let key = String::from_utf8(key).ok()?;
        let (_, name) = key.split_once("}:batch:")?;
        (name.len() <= MAX_NAME_BYTES).then(|| name.to_owned())
    };
    Ok((next, found.into_iter().filter_map(name).collect()))
}
