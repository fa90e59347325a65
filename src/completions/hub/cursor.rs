//! Where a feed begins, and the cursor that a reader keeps to continue there later.

use crate::contract::{EntryId, run_at_ms};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr, sync::Arc};

/// Marks the form of the text.
const FORM: &str = "c1.";
/// Maximum length of a cursor's text, in bytes. The longest valid one is shorter.
const MAX_BYTES: usize = 8 * 1024;
/// Maximum number of partitions of a queue.
const MAX_PARTITIONS: usize = 256;

/// A place in the completions of all partitions: every completion up to here is read. Its text is opaque, and holds no
/// personal data. A cursor is valid for as long as the queue has the same partitions or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedCursor(Arc<[EntryId]>);

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of completions, which begins with {FORM}")]
pub struct InvalidCursor;

impl FeedCursor {
    pub(super) fn new(after: &[EntryId]) -> Self {
        Self(after.into())
    }

    /// The last entry read, by partition.
    pub(super) fn after(&self) -> &[EntryId] {
        &self.0
    }
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Partitions end at similar times, so the difference to the previous one is short.
        let mut bytes = Vec::with_capacity(self.0.len() * 8);
        let mut previous = 0_u64;
        for entry in self.0.iter() {
            let difference = entry.ms.wrapping_sub(previous).cast_signed();
            // Small differences of either sign become small numbers.
            write_number(&mut bytes, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
            write_number(&mut bytes, entry.seq);
            previous = entry.ms;
        }
        write!(f, "{FORM}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for FeedCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix(FORM).filter(|text| text.len() <= MAX_BYTES).ok_or(InvalidCursor)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let mut rest = bytes.as_slice();
        let mut after = Vec::new();
        let mut previous = 0_u64;
        while !rest.is_empty() {
            let difference = read_number(&mut rest).ok_or(InvalidCursor)?;
            let seq = read_number(&mut rest).ok_or(InvalidCursor)?;
            let sign = 0_u64.wrapping_sub(difference & 1);
            previous = previous.wrapping_add((difference >> 1) ^ sign);
            after.push(EntryId { ms: previous, seq });
            if after.len() > MAX_PARTITIONS {
                return Err(InvalidCursor);
            }
        }
        if after.is_empty() { Err(InvalidCursor) } else { Ok(Self(after.into())) }
    }
}

/// Writes seven bits a byte, the lowest first. The high bit marks that more follow.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let low = u64::from(byte & 0x7f);
        if shift == 63 && low > 1 {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Where a feed begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedStart {
    /// At the oldest completion that is kept.
    Beginning,
    /// After the last completion that the hub has read.
    Now,
    /// After the completions that an earlier feed has read.
    After(FeedCursor),
    /// At the first completion written at this time or later, in milliseconds since 1970 by Redis's clock.
    Since {
        /// The time.
        ms: u64,
    },
}

/// The text is not a start of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be beginning, now, a cursor, or a time such as 2026-01-31T09:05:07Z")]
pub struct InvalidFeedStart;

impl FromStr for FeedStart {
    type Err = InvalidFeedStart;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "now" => Ok(Self::Now),
            _ if text.starts_with(FORM) => text.parse().map(Self::After).map_err(|_| InvalidFeedStart),
            // No time is longer.
            _ if text.len() <= 64 => run_at_ms(text).map(|ms| Self::Since { ms }).map_err(|_| InvalidFeedStart),
            _ => Err(InvalidFeedStart),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_start_is_read_from_text() {
        assert_eq!("beginning".parse(), Ok(FeedStart::Beginning));
        assert_eq!("now".parse(), Ok(FeedStart::Now));
        assert_eq!("1970-01-01T00:00:01.5Z".parse(), Ok(FeedStart::Since { ms: 1500 }));
        let cursor = FeedCursor::new(&[EntryId { ms: 1_795_374_676_077, seq: 0 }]);
        assert_eq!(cursor.to_string().parse(), Ok(FeedStart::After(cursor)));
        for wrong in ["", "later", "c1.", "c1.!", "c2.AAA", "2026-01-31", &"9".repeat(1 << 20)] {
            assert!(wrong.parse::<FeedStart>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_is_short_and_bounded() {
        let now = |number: u64| EntryId { ms: 1_795_374_676_077 + number * 37 % 5000, seq: number % 3 };
        let one = FeedCursor::new(&[now(1)]).to_string();
        assert!(one.len() <= 16, "{one}");
        let many: Vec<EntryId> = (0..256).map(now).collect();
        assert!(FeedCursor::new(&many).to_string().len() < 1200);
        let worst = [EntryId { ms: u64::MAX / 2, seq: u64::MAX }, EntryId { ms: 0, seq: u64::MAX }].repeat(128);
        assert_eq!(FeedCursor::new(&worst).to_string().parse(), Ok(FeedCursor::new(&worst)));
        let too_many = FeedCursor::new(&[now(0); 257]).to_string();
        assert_eq!(too_many.parse::<FeedCursor>(), Err(InvalidCursor));
    }

    proptest! {
        #[test]
        fn a_cursor_survives_as_text(entries in prop::collection::vec((any::<u64>(), any::<u64>()), 1..=256)) {
            let entries: Vec<EntryId> = entries.into_iter().map(|(ms, seq)| EntryId { ms, seq }).collect();
            let cursor = FeedCursor::new(&entries);
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in "(c1\\.)?[A-Za-z0-9_-]{0,200}") {
            let _ = text.parse::<FeedStart>();
        }
    }
}
