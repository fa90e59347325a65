//! The customers of a backfill, as fingerprints: eight bytes for each row, at eight times its number, in partition 0.
//!
//! A row's fingerprint is written before its job is enqueued. With the row's result it says whom the backfill created. Redis forgets the
//! fingerprints together with the results.

use super::LIFE_S;
use crate::queue::{Keys, Link};
use redis::{RedisResult, cmd, pipe};

/// Bytes of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 8;
/// Stands in place of a fingerprint that was erased.
pub const ERASED: u64 = u64::MAX;
/// A string of Redis has at most 512 MiB. Later rows have no fingerprint.
const LAST_ROW: u64 = (512 << 20) / FINGERPRINT_BYTES as u64 - 1;

/// The salt of a backfill's fingerprints. `None`: it has none, or is not known.
pub async fn salt(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<Option<String>> {
    link.query(cmd("HGET").arg(first.backfill(batch)).arg("salt")).await
}

/// Sets the salt of a backfill's fingerprints, unless it has one. Returns the one that it has.
pub async fn set_salt(link: &mut Link, first: &Keys, batch: &str, salt: &str) -> RedisResult<String> {
    let key = first.backfill(batch);
    let mut set = pipe();
    set.cmd("HSETNX").arg(&key).arg("salt").arg(salt).ignore();
    set.cmd("HGET").arg(&key).arg("salt");
    let (salt,): (String,) = link.pipeline(&set).await?;
    Ok(salt)
}

/// Records the fingerprints of rows: number and fingerprint, by number. Idempotent. One round trip, O(rows).
pub async fn record(link: &mut Link, first: &Keys, batch: &str, rows: &[(u64, u64)]) -> RedisResult<()> {
    let key = first.backfill_customers(batch);
    let mut set = pipe();
    // Rows that follow each other are written at once.
    for run in rows.chunk_by(|(row, _), (next, _)| row.checked_add(1) == Some(*next)) {
        let Some((from, _)) = run.first().filter(|_| run.last().is_some_and(|(row, _)| *row <= LAST_ROW)) else {
            continue;
        };
        let bytes: Vec<u8> = run.iter().flat_map(|(_, fingerprint)| fingerprint.to_le_bytes()).collect();
        set.cmd("SETRANGE").arg(&key).arg(from * FINGERPRINT_BYTES as u64).arg(bytes).ignore();
    }
    set.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    link.pipeline(&set).await
}

/// The fingerprints of `count` rows from row `from` on; 0 for a row without one, and fewer if no later row has one.
pub async fn fingerprints(link: &mut Link, first: &Keys, batch: &str, from: u64, count: u64) -> RedisResult<Vec<u64>> {
    let width = FINGERPRINT_BYTES as u64;
    let mut get = cmd("GETRANGE");
    get.arg(first.backfill_customers(batch)).arg(from * width).arg((from + count) * width - 1);
    let bytes: Vec<u8> = link.query(&get).await?;
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(bytes.chunks(FINGERPRINT_BYTES).map(number).collect())
}
