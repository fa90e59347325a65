//! One job's dead letters in full, personal data masked unless it is revealed.

use super::{
    json::{as_json, entry_as_text},
    reveal::Reveal,
    scan::{Scope, scan, scope},
};
use crate::{
    contract::{EntryId, format_ms},
    dead_letters::{DeadLetter, DeadLetterView, Filter, masked_error, masked_job},
    operations::{Actor, Backend, Error, MerchantScope, PastAttempt, attempts::past_attempts},
    queue::dead_letters::{self, Edit, ReadOrder},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::ControlFlow;

/// Maximum number of dead letters shown for one id.
const MAX_SHOWN: usize = 100;
/// Maximum number of edits of a partition that are searched for one id.
const MAX_EDITS: usize = 10_000;

/// Whose dead letters are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowRequest<'a> {
    /// The job's id, or the entry of a dead letter.
    pub id: &'a str,
    /// The merchants to whom the user is restricted: dead letters of others are unknown to them.
    pub merchants: &'a MerchantScope,
    /// Whether personal data is shown.
    pub reveal: Reveal,
}

/// What there is about one id.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShowReport {
    /// Its dead letters, the newest first in each partition: at most 100.
    pub dead_letters: Vec<DeadLetterDetails>,
    /// Edits that operators made before they replayed it.
    pub edits: Vec<EditDetails>,
}

/// A dead letter with its job. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterDetails {
    /// When the job completed, in RFC 3339.
    pub at: String,
    /// Its entry in the partition's stream.
    #[serde(serialize_with = "entry_as_text")]
    pub entry: EntryId,
    /// The error; without revealing, its problem document is masked.
    pub error: Value,
    /// The latest attempts, the oldest first; at most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastAttempt>,
    /// The id of the job.
    pub id: String,
    /// The job; without revealing, everything about a person is masked.
    pub job: Value,
    /// The job whose `next` this was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The partition it is in.
    pub partition: u16,
    /// How often the job was replayed.
    pub replay: u32,
    /// Whether the job can be replayed without an edit.
    pub replayable: bool,
    /// The job type.
    #[serde(rename = "type")]
    pub job_type: String,
}

/// An edit of a job. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EditDetails {
    /// Who edited it.
    pub by: String,
    /// When, RFC 3339.
    pub edited_at: String,
    /// The job after the edit; masked as that of a dead letter.
    pub job: Value,
    /// The id of the dead letter.
    pub letter: String,
    /// The job before the edit; masked as that of a dead letter.
    pub original: Value,
}

/// Finds the dead letters and the edits of a job. Where personal data is shown, the actor is recorded in the audit stream before.
///
/// # Errors
/// [`Error::UnknownDeadLetter`], [`Error::TooManyReveals`], [`Error::Redis`].
pub async fn show(backend: &mut Backend<'_>, actor: &Actor, request: &ShowRequest<'_>) -> Result<ShowReport, Error> {
    let ShowRequest { id, merchants, reveal } = request;
    let found = find(backend, id, merchants).await?;
    let edits = find_edits(backend, id, merchants).await?;
    if found.is_empty() && edits.is_empty() {
        return Err(Error::UnknownDeadLetter);
    }
    let count = (found.len() + edits.len()) as u64;
    reveal.record(backend, actor, "dead show", json!({"id": id}), count).await?;
    let reveal = reveal.is_revealed();
    let job = |text: &str| if reveal { as_json(text) } else { masked_job(text) };
    let error = |text: &str| if reveal { as_json(text) } else { masked_error(text) };
    let details = |letter: DeadLetter| {
        let view = DeadLetterView::new(&letter);
        let state = view.state();
        DeadLetterDetails {
            history: past_attempts(state.as_ref()),
            error: error(&letter.error),
            job: job(&letter.job),
            parent_id: state.and_then(|state| state.parent_id),
            replay: view.replays(),
            at: letter.at.clone(),
            entry: letter.entry,
            id: letter.id.clone(),
            partition: letter.partition,
            replayable: letter.replayable,
            job_type: letter.job_type.clone(),
        }
    };
    let edit_details = |edit: Edit| EditDetails {
        by: edit.who,
        edited_at: format_ms(edit.entry.ms),
        job: job(&edit.job),
        letter: edit.letter,
        original: job(&edit.original),
    };
    Ok(ShowReport {
        dead_letters: found.into_iter().map(details).collect(),
        edits: edits.into_iter().map(edit_details).collect(),
    })
}

async fn find(backend: &mut Backend<'_>, id: &str, merchants: &MerchantScope) -> Result<Vec<DeadLetter>, Error> {
    let filter = Filter { merchants: merchants.clone(), ..Filter::default() };
    let (filter, scope) = if let Ok(entry) = id.parse::<EntryId>() {
        (filter, Scope::of_entry(entry, backend.redis().partitions))
    } else {
        let filter = Filter { id: vec![id.to_owned()], ..filter };
        let scope = scope(backend, &filter).await?;
        (filter, scope)
    };
    let mut found = Vec::new();
    let mut scan = scan(backend, &scope, ReadOrder::NewestFirst);
    let _ = scan
        .for_each(&filter, |view| {
            found.push(view.letter.clone());
            if found.len() == MAX_SHOWN { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
    Ok(found)
}

async fn find_edits(backend: &mut Backend<'_>, id: &str, merchants: &MerchantScope) -> Result<Vec<Edit>, Error> {
    let is_theirs = |edit: &Edit| merchants.covers_tree(&edit.job) && merchants.covers_tree(&edit.original);
    let failed = backend.failed();
    let mut found = Vec::new();
    for keys in backend.keys() {
        let edits = dead_letters::edits(&mut backend.link, &keys, MAX_EDITS).await.map_err(&failed)?;
        let of_it = |edit: &Edit| (edit.letter == id || has_id(&edit.job, id)) && is_theirs(edit);
        found.extend(edits.into_iter().filter(of_it));
    }
    Ok(found)
}

fn has_id(job: &str, id: &str) -> bool {
    serde_json::from_str::<Value>(job).is_ok_and(|job| job["id"] == id)
}
