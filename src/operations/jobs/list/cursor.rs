//! A place in a list of jobs, as text that a program keeps between two pages.

use crate::{
    contract::{EntryId, Lane},
    queue::{Source, list::DelayedPosition},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr};

/// A place in a list of jobs: the next page begins after it. Its text is opaque and holds no personal data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListCursor {
    pub(super) place: FoundPlace,
    pub(super) partition: u16,
    pub(super) after: Option<Position>,
}

/// Where jobs of one partition are. A list reads the places in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundPlace {
    Stream(Lane, Source),
    Delayed,
    Completions,
    DeadLetters,
}

impl FoundPlace {
    pub(super) const ALL: [Self; 7] = [
        Self::Stream(Lane::Interactive, Source::Due),
        Self::Stream(Lane::Interactive, Source::Jobs),
        Self::Stream(Lane::Bulk, Source::Due),
        Self::Stream(Lane::Bulk, Source::Jobs),
        Self::Delayed,
        Self::Completions,
        Self::DeadLetters,
    ];

    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|place| *place == self).unwrap_or_default()
    }
}

/// A position within a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Position {
    Entry(EntryId),
    Delayed(DelayedPosition),
}

impl Position {
    pub(super) const fn entry(self) -> Option<EntryId> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Delayed(_) => None,
        }
    }

    pub(super) const fn delayed(self) -> Option<DelayedPosition> {
        match self {
            Self::Delayed(position) => Some(position),
            Self::Entry(_) => None,
        }
    }
}

/// Marks the form of the text.
const FORM: &str = "c1.";

/// No cursor is longer, in bytes.
const MAX_BYTES: usize = 256;

/// No sorted set of Redis is larger.
const MAX_RANK: u64 = 1 << 53;

/// Redis has entries neither before nor after these, and refuses to be asked for them.
const FIRST: EntryId = EntryId { ms: 0, seq: 1 };
const LAST: EntryId = EntryId { ms: u64::MAX, seq: u64::MAX };

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, partition) = (self.place.index(), self.partition);
        let text = match self.after {
            None => format!("{place} {partition}"),
            Some(Position::Entry(entry)) => format!("{place} {partition} {entry}"),
            Some(Position::Delayed(DelayedPosition { score, origin, rank })) => {
                format!("{place} {partition} {score} {origin} {rank}")
            }
        };
        write!(f, "{FORM}{}", BASE64_URL_SAFE_NO_PAD.encode(text))
    }
}

impl FromStr for ListCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.strip_prefix(FORM).filter(|text| text.len() <= MAX_BYTES).and_then(|text| {
            let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let parts: Vec<_> = text.split(' ').collect();
            let place = *FoundPlace::ALL.get(parts.first()?.parse::<usize>().ok()?)?;
            let after = match (place, parts.get(2..)?) {
                (_, []) => None,
                (FoundPlace::Delayed, [score, origin, rank]) => Some(Position::Delayed(DelayedPosition {
                    score: score.parse().ok().filter(|score: &f64| score.is_finite())?,
                    origin: origin.parse().ok()?,
                    rank: rank.parse().ok().filter(|rank| *rank < MAX_RANK)?,
                })),
                (FoundPlace::Delayed, _) => return None,
                (_, [entry]) => {
                    Some(Position::Entry(entry.parse().ok().filter(|entry| (FIRST..LAST).contains(entry))?))
                }
                _ => return None,
            };
            Some(Self { place, partition: parts.get(1)?.parse().ok()?, after })
        });
        parsed.ok_or_else(|| "not a cursor of `jobs list`, which begins with c1.".to_owned())
    }
}

impl serde::Serialize for ListCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::Origin;

    #[test]
    fn a_cursor_survives_as_text() {
        let entry = EntryId { ms: 1_732_265_000_000, seq: 7 };
        let origin = Origin { lane: Lane::Bulk, partition: 3, entry };
        let delayed = DelayedPosition { score: 1_732_265_000_000.125, origin, rank: 500_000 };
        for cursor in [
            ListCursor { place: FoundPlace::Stream(Lane::Bulk, Source::Jobs), partition: 3, after: None },
            ListCursor { place: FoundPlace::Completions, partition: 0, after: Some(Position::Entry(entry)) },
            ListCursor { place: FoundPlace::Delayed, partition: 3, after: Some(Position::Delayed(delayed)) },
        ] {
            let text = cursor.to_string();
            assert!(text.starts_with("c1.") && text.len() < MAX_BYTES, "{text}");
            assert_eq!(text.parse::<ListCursor>().unwrap(), cursor);
        }
        let encoded = |text: &str| format!("c1.{}", BASE64_URL_SAFE_NO_PAD.encode(text));
        assert!(encoded("5 0 7-0").parse::<ListCursor>().is_ok());
        for wrong in [
            "5 0 0-0",
            "5 0 18446744073709551615-18446744073709551615",
            "4 0 7.5 bulk:0:7-0 18446744073709551615",
            "4 0 inf bulk:0:7-0 1",
            "5 65536 7-0",
            "5 0 7-0 8",
        ] {
            assert!(encoded(wrong).parse::<ListCursor>().is_err(), "Redis would refuse it: {wrong}");
        }
        for wrong in ["", "c1.", "c1.x", "c2.MCAw", "c1.OSAw", "c1.MCAwIHg", "c1.NCAwIDUtMQ"] {
            assert!(wrong.parse::<ListCursor>().is_err(), "{wrong}");
        }
    }
}
