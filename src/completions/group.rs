//! Commands of a consumer group besides reading.

use super::{
    decode,
    options::{Membership, ZERO},
};
use crate::{
    contract::{EntryId, millis},
    queue::{Keys, Link, is_transient},
};
use parking_lot::{Mutex, MutexGuard};
use redis::{RedisResult, Value, cmd};
use std::collections::{BTreeSet, HashMap};

/// Entries that a reader has handed to its caller and that are not acknowledged yet. They must not be handed out again.
#[derive(Debug, Default)]
pub(super) struct Handed(Mutex<BTreeSet<(u16, EntryId)>>);

impl Handed {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u16, EntryId)>> {
        self.0.lock()
    }

    /// Records an entry. Returns false if it was recorded before.
    pub(super) fn note(&self, partition: u16, entry: EntryId) -> bool {
        self.lock().insert((partition, entry))
    }

    pub(super) fn forget(&self, partition: u16, entries: &[EntryId]) {
        let mut handed = self.lock();
        for entry in entries {
            handed.remove(&(partition, *entry));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

/// Creates the group if it does not exist. O(1).
pub(super) async fn ensure(link: &mut Link, keys: &Keys, group: &str, after: EntryId) -> RedisResult<()> {
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(&keys.completions).arg(group).arg(after.to_string()).arg("MKSTREAM");
    match link.query::<Value>(&command).await {
        Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
        _ => Ok(()),
    }
}

/// The last entry delivered to a group, and, if Redis knows it, the number of entries delivered or skipped. `None` if
/// there is no such group. The cost grows with the number of groups.
pub(super) async fn place(link: &mut Link, keys: &Keys, group: &str) -> RedisResult<Option<(EntryId, Option<u64>)>> {
    let groups: Vec<HashMap<String, Value>> = link.query(cmd("XINFO").arg("GROUPS").arg(&keys.completions)).await?;
    let ours = groups.into_iter().find(|found| found.get("name").and_then(decode::text) == Some(group));
    Ok(ours.and_then(|found| {
        let last = found.get("last-delivered-id").and_then(decode::text)?.parse().ok()?;
        let read = match found.get("entries-read") {
            Some(Value::Int(read)) => u64::try_from(*read).ok(),
            _ => None,
        };
        Some((last, read))
    }))
}

/// Acknowledges entries with `XACK`. Repeats it once after a lost connection; acknowledging twice is harmless.
pub(super) async fn acknowledge(link: &mut Link, keys: &Keys, group: &str, entries: &[EntryId]) -> RedisResult<()> {
    for chunk in entries.chunks(1000) {
        let mut command = cmd("XACK");
        command.arg(&keys.completions).arg(group);
        for entry in chunk {
            command.arg(entry.to_string());
        }
        match link.query::<u64>(&command).await {
            Err(error) if is_transient(&error) => link.query::<u64>(&command).await?,
            result => result?,
        };
    }
    Ok(())
}

/// Sets the idle time of this reader's pending entries to `claim_after`, so that another reader takes them over at
/// once.
pub(super) async fn hand_back(link: &mut Link, keys: &Keys, member: &Membership) -> RedisResult<()> {
    let idle_ms = millis(member.claim_after);
    let mut from = "-".to_owned();
    loop {
        let mut command = cmd("XPENDING");
        command.arg(&keys.completions).arg(&member.group).arg(&from).arg("+").arg(1000).arg(&member.consumer);
        let rows: Vec<(String, Value, Value, Value)> = link.query(&command).await?;
        let Some((last, ..)) = rows.last() else { return Ok(()) };
        from = format!("({last}");
        let mut command = cmd("XCLAIM");
        command.arg(&keys.completions).arg(&member.group).arg(&member.consumer).arg(0);
        for (entry, ..) in &rows {
            command.arg(entry);
        }
        command.arg("IDLE").arg(idle_ms).arg("JUSTID");
        link.query::<Value>(&command).await?;
    }
}

/// Claims up to `count` entries that another reader was given at least `claim_after` ago and has not acknowledged. Also
/// returns the cursor for the next call.
pub(super) async fn claim(
    link: &mut Link,
    keys: &Keys,
    member: &Membership,
    cursor: EntryId,
    count: usize,
) -> RedisResult<(EntryId, Vec<decode::Entry>)> {
    let idle_ms = millis(member.claim_after);
    let mut command = cmd("XAUTOCLAIM");
    command.arg(&keys.completions).arg(&member.group).arg(&member.consumer).arg(idle_ms).arg(cursor.to_string());
    command.arg("COUNT").arg(count);
    let Value::Array(parts) = link.query(&command).await? else { return Ok((ZERO, Vec::new())) };
    let mut parts = parts.into_iter();
    let next = parts.next().as_ref().and_then(decode::text).and_then(|id| id.parse().ok());
    let list = parts.next().unwrap_or(Value::Nil);
    Ok((next.unwrap_or(ZERO), decode::entries(list, keys.partition)))
}
