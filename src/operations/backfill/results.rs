//! The results of a backfill's rows as CSV, from what Redis keeps alone: four bytes a row, without the rows' references.

use super::lost::RESULT_PAGE_ROWS;
use crate::{
    backfill::RowResult,
    contract::ErrorKind,
    operations::{Backend, Error},
    queue::backfill,
};
use std::io::Write;
use tokio::sync::mpsc;

/// The header of the CSV.
const HEADER: &[u8] = b"row,outcome,error,attempts\n";

/// Sends the results of a backfill to `to`, as CSV in pieces of whole lines: `row,outcome,error,attempts`, one line for each row that
/// has ended, by the row's number. What was not collected yet by a run of the backfill, or by its report, is left out. Returns how
/// many rows that were. Waits while the channel is full, and ends early when its receiver is gone.
///
/// # Errors
/// [`Error::Redis`].
pub async fn results_to(backend: &mut Backend<'_>, batch: &str, to: &mpsc::Sender<Vec<u8>>) -> Result<u64, Error> {
    let (keys, failed) = (backend.keys(), backend.failed());
    let mut last = 0;
    for keys in &keys {
        last = last.max(backfill::checkpoint(&mut backend.link, keys, batch).await.map_err(&failed)?.row);
    }
    let (mut from, mut rows, mut piece) = (1, 0, HEADER.to_vec());
    loop {
        if to.send(std::mem::take(&mut piece)).await.is_err() || from > last {
            return Ok(rows);
        }
        let count = RESULT_PAGE_ROWS.min(last - from + 1);
        let results = backfill::results(&mut backend.link, &keys[0], batch, from, count).await.map_err(&failed)?;
        for (row, result) in (from..).zip(results.chunks(RowResult::BYTES)) {
            let RowResult { outcome, error, attempts } = RowResult::decode(result);
            if outcome.is_final() {
                rows += 1;
                let error = error.map_or("", ErrorKind::as_str);
                // Writing to memory cannot fail.
                let _ = writeln!(piece, "{row},{},{error},{attempts}", outcome.as_str());
            }
        }
        from += count;
    }
}
