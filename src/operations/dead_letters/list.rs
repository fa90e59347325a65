//! Listing dead letters, the newest first.

use super::{
    json::entry_as_text,
    scan::{PartitionRange, Scope, scan, scope},
};
use crate::{
    contract::EntryId,
    dead_letters::{DeadLetterView, Filter, masked_message},
    operations::{Backend, Error},
    queue::dead_letters::{self, ReadOrder},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};
use std::{cmp::Reverse, fmt, ops::ControlFlow, str::FromStr};

/// Which dead letters are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Those that fit.
    pub filter: Filter,
    /// Maximum number.
    pub limit: usize,
    /// Begin after this one; `None`: with the newest.
    pub after: Option<ListCursor>,
}

/// A place in a list of dead letters. Its text is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// The entry of the last dead letter that was listed.
    pub entry: EntryId,
    /// The partition that has the dead letter.
    pub partition: u16,
}

/// Dead letters, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterList {
    /// At most as many as were asked for.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<DeadLetterSummary>,
    /// How many are older than these.
    #[serde(skip)]
    pub rest: Rest,
    /// Where the next list begins; `None`: there is nothing more.
    #[serde(rename = "cursor", skip_serializing_if = "Option::is_none")]
    pub next: Option<ListCursor>,
}

impl DeadLetterList {
    /// With personal data in the errors masked.
    #[must_use]
    pub fn masked(mut self) -> Self {
        for letter in &mut self.dead_letters {
            letter.error.message = letter.error.message.take().map(|message| masked_message(&message));
        }
        self
    }
}

/// How many dead letters fit beside those that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// None.
    Nothing,
    /// So many.
    Exactly(u64),
    /// There are some. They are not counted, because all would have to be read.
    Some,
}

/// One dead letter without personal data. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterSummary {
    /// When the job completed, in RFC 3339.
    pub at: String,
    /// The batch of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Its entry in the partition's stream.
    #[serde(serialize_with = "entry_as_text")]
    pub entry: EntryId,
    /// Why the job failed.
    pub error: ErrorSummary,
    /// The id of the job.
    pub id: String,
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

/// An error without the details of XCO's problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorSummary {
    /// The status of XCO's last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The value of `error.kind` as text.
    pub kind: Option<String>,
    /// One sentence for a person.
    pub message: Option<String>,
    /// The type of XCO's problem document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Lists dead letters. Reads each partition, newest first, until `limit` dead letters fit.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, request: &ListRequest) -> Result<DeadLetterList, Error> {
    let ListRequest { filter, limit, after } = request;
    let mut scope = scope(backend, filter).await?;
    if let Some(cursor) = after {
        scope.ranges = scope.ranges.into_iter().filter_map(|range| cursor.narrow(range)).collect();
    }
    let mut found = Vec::new();
    let mut more = false;
    for partition in scope.each_partition() {
        more |= newest_of(backend, &partition, filter, *limit, &mut found).await?;
    }
    // Of one entry in two partitions the lower partition is first: the sort is stable.
    found.sort_by_key(|summary: &DeadLetterSummary| Reverse(summary.entry));
    more |= found.len() > *limit;
    found.truncate(*limit);
    let rest = match more {
        false => Rest::Nothing,
        true if filter.is_empty() && after.is_none() => {
            Rest::Exactly(count(backend).await?.saturating_sub(found.len() as u64))
        }
        true => Rest::Some,
    };
    let last = found.last().map(|last| ListCursor { entry: last.entry, partition: last.partition });
    Ok(DeadLetterList { next: last.filter(|_| more), dead_letters: found, rest })
}

/// Adds the newest dead letters of one partition, at most `limit`. Whether it has more of them.
async fn newest_of(
    backend: &Backend<'_>,
    partition: &Scope,
    filter: &Filter,
    limit: usize,
    found: &mut Vec<DeadLetterSummary>,
) -> Result<bool, Error> {
    let before = found.len();
    let mut scan = scan(backend, partition, ReadOrder::NewestFirst);
    let ended = scan
        .for_each(filter, |view| {
            if found.len() - before == limit {
                return ControlFlow::Break(());
            }
            found.push(summary(view));
            ControlFlow::Continue(())
        })
        .await?;
    Ok(ended.is_break())
}

async fn count(backend: &mut Backend<'_>) -> Result<u64, Error> {
    let failed = backend.failed();
    let mut count = 0;
    for keys in backend.keys() {
        count += dead_letters::count_letters(&mut backend.link, &keys).await.map_err(&failed)?;
    }
    Ok(count)
}

fn summary(view: &DeadLetterView<'_>) -> DeadLetterSummary {
    let letter = view.letter;
    DeadLetterSummary {
        at: letter.at.clone(),
        batch: view.batch().map(Into::into),
        entry: letter.entry,
        error: ErrorSummary {
            http_status: view.http_status(),
            kind: view.kind().map(Into::into),
            message: view.message().map(Into::into),
            problem: view.problem().map(Into::into),
        },
        id: letter.id.clone(),
        partition: letter.partition,
        replay: view.replays(),
        replayable: letter.replayable,
        job_type: letter.job_type.clone(),
    }
}

/// Marks the form of a cursor's text.
const FORM: &str = "d1.";
/// No cursor is longer, in bytes.
const MAX_CURSOR_BYTES: usize = 80;

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{} {}", self.partition, self.entry);
        write!(f, "{FORM}{}", BASE64_URL_SAFE_NO_PAD.encode(text))
    }
}

impl FromStr for ListCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.strip_prefix(FORM).filter(|text| text.len() <= MAX_CURSOR_BYTES).and_then(|text| {
            let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let (partition, entry) = text.split_once(' ')?;
            Some(Self { entry: entry.parse().ok()?, partition: partition.parse().ok()? })
        });
        parsed.ok_or_else(|| "not a cursor of a list of dead letters, which begins with d1.".to_owned())
    }
}

impl Serialize for ListCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ListCursor {
    /// What of a range comes after it in a list: older entries, and the same entry in a higher partition.
    fn narrow(&self, range: PartitionRange) -> Option<PartitionRange> {
        let newest = if range.partition > self.partition { self.entry } else { self.entry.before()? };
        let last = range.last.min(newest);
        (range.first <= last).then_some(PartitionRange { last, ..range })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_goes_on_after_its_cursor_and_repeats_nothing() {
        let id = |ms, seq| EntryId { ms, seq };
        let range = |partition| PartitionRange { partition, first: id(3, 0), last: id(9, 0) };
        let cursor = ListCursor { entry: id(7, 0), partition: 1 };
        let last = |partition| cursor.narrow(range(partition)).unwrap().last;
        assert_eq!((last(0), last(1), last(2)), (id(6, u64::MAX), id(6, u64::MAX), id(7, 0)));
        assert_eq!(cursor.to_string().parse::<ListCursor>().unwrap(), cursor);
        for wrong in ["", "d1.", "c1.MSA3LTA", "d1.MSA3", &format!("d1.{}", "M".repeat(100))] {
            assert!(wrong.parse::<ListCursor>().is_err(), "{wrong}");
        }
        let oldest = ListCursor { entry: id(3, 0), partition: 1 };
        assert_eq!(oldest.narrow(range(1)), None);
        assert_eq!((id(0, 0).before(), id(4, 5).before()), (None, Some(id(4, 4))));
    }
}
