//! Complete dead letters, personal data included, as NDJSON.

use super::{
    json::{as_json, entry_as_text},
    reveal::Reveal,
    scan::{scan, scope},
};
use crate::{
    contract::EntryId,
    dead_letters::{DeadLetter, DeadLetterView, Filter, masked_error, masked_job},
    operations::{Actor, Backend, Error},
    queue::dead_letters::ReadOrder,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};
use tokio::sync::mpsc;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 16;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The queue cannot be used.
    #[error(transparent)]
    Operation(#[from] Error),
    /// The output cannot be written.
    #[error("the dead letters cannot be written")]
    Write(#[source] io::Error),
}

/// Writes every dead letter that fits into `out`, the oldest first in each partition, one JSON object a line. Returns how many.
///
/// The actor is recorded in the audit stream before the first and after the last, because the lines are personal data.
///
/// # Errors
/// [`ExportError::Write`] from `out`, [`ExportError::Operation`].
pub async fn export(
    backend: &mut Backend<'_>,
    actor: &Actor,
    filter: &Filter,
    out: impl Write,
) -> Result<u64, ExportError> {
    let scope = scope(backend, filter).await?;
    let what = filter.recorded(scope.as_of_ms);
    backend.record(actor, "dead export", &what, 0).await?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut count = 0;
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let read = scan.for_each(filter, |view| match write_line(&mut out, view.letter) {
        Ok(()) => {
            count += 1;
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(error),
    });
    let written = match read.await {
        Ok(ControlFlow::Continue(())) => out.flush().map_err(ExportError::Write),
        Ok(ControlFlow::Break(error)) => Err(ExportError::Write(error)),
        Err(error) => Err(error.into()),
    };
    backend.record(actor, "dead export ended", &what, count).await?;
    written.map(|()| count)
}

/// Sends every dead letter that fits to `to`, the oldest first in each partition, as NDJSON in pieces of whole lines, each of
/// about 64 KiB. Returns how many. Waits while the channel is full, and ends early when its receiver is gone.
///
/// Masked lines hold no `state`. Where personal data is shown, the actor is recorded in the audit stream before the first and after
/// the last.
///
/// # Errors
/// [`Error::TooManyReveals`], [`Error::Redis`].
pub async fn export_to(
    backend: &mut Backend<'_>,
    actor: &Actor,
    filter: &Filter,
    reveal: &Reveal,
    to: &mpsc::Sender<Vec<u8>>,
) -> Result<u64, Error> {
    let scope = scope(backend, filter).await?;
    let what = reveal.record(backend, actor, "dead export", filter.recorded(scope.as_of_ms), 0).await?;
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let mut count = 0;
    let sent = loop {
        let page = match scan.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let mut lines = Vec::with_capacity(BUFFER_BYTES);
        for letter in page.iter().filter(|letter| filter.wants(&DeadLetterView::new(letter))) {
            let line = if reveal.is_revealed() { exported(letter) } else { masked(letter) };
            // What it is made of was JSON before.
            let Ok(()) = line.and_then(|line| serde_json::to_writer(&mut lines, &line)) else { continue };
            lines.push(b'\n');
            count += 1;
            if lines.len() >= BUFFER_BYTES && to.send(std::mem::take(&mut lines)).await.is_err() {
                break;
            }
        }
        if to.is_closed() || (!lines.is_empty() && to.send(lines).await.is_err()) {
            break Ok(());
        }
    };
    if reveal.is_revealed() {
        backend.record(actor, "dead export ended", &what, count).await?;
    }
    sent.map(|()| count)
}

fn write_line(out: &mut impl Write, letter: &DeadLetter) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &exported(letter)?)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Exported<'a> {
    id: &'a str,
    #[serde(serialize_with = "entry_as_text")]
    entry: EntryId,
    partition: u16,
    #[serde(rename = "type")]
    job_type: &'a str,
    job: Box<RawValue>,
    error: Box<RawValue>,
    at: &'a str,
    replayable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Box<RawValue>>,
}

fn masked(letter: &DeadLetter) -> serde_json::Result<Exported<'_>> {
    let job = serde_json::value::to_raw_value(&masked_job(&letter.job))?;
    let error = serde_json::value::to_raw_value(&masked_error(&letter.error))?;
    Ok(Exported { job, error, state: None, ..bare(letter) })
}

fn exported(letter: &DeadLetter) -> serde_json::Result<Exported<'_>> {
    let raw = |text: &str| match RawValue::from_string(text.to_owned()) {
        // JSON may contain line breaks, but each dead letter is one line.
        Ok(raw) if !text.contains('\n') => Ok(raw),
        _ => serde_json::value::to_raw_value(&as_json(text)),
    };
    let (job, error, state) = (raw(&letter.job)?, raw(&letter.error)?, Some(raw(&letter.state)?));
    Ok(Exported { job, error, state, ..bare(letter) })
}

/// What is not about a person.
fn bare(letter: &DeadLetter) -> Exported<'_> {
    Exported {
        id: &letter.id,
        entry: letter.entry,
        partition: letter.partition,
        job_type: &letter.job_type,
        job: Box::default(),
        error: Box::default(),
        at: &letter.at,
        replayable: letter.replayable,
        state: None,
    }
}
