//! Identifiers. Each has its own type, and its length is checked when it is made.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// One of the two queues of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// For jobs that a person is waiting for.
    Interactive,
    /// For jobs without a waiting person: backfills and replays.
    Bulk,
}

impl Lane {
    /// Both lanes, the more urgent one first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// The lane's name in keys, ids and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no lane: interactive or bulk"))
    }
}

/// A Redis stream entry id, `<milliseconds>-<sequence>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Redis's clock when the entry was added, in milliseconds since 1970, unless the producer chose the id.
    pub ms: u64,
    /// Distinguishes entries of the same millisecond.
    pub seq: u64,
}

impl EntryId {
    /// Returns the greatest id below this one; `None` below the first.
    #[must_use]
    pub const fn before(self) -> Option<Self> {
        match (self.ms, self.seq) {
            (0, 0) => None,
            (ms, 0) => Some(Self { ms: ms - 1, seq: u64::MAX }),
            (ms, seq) => Some(Self { ms, seq: seq - 1 }),
        }
    }

    /// Returns the smallest id above this one; `None` above the last.
    #[must_use]
    pub const fn after(self) -> Option<Self> {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => None,
            (ms, u64::MAX) => Some(Self { ms: ms + 1, seq: 0 }),
            (ms, seq) => Some(Self { ms, seq: seq + 1 }),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('-')
            .and_then(|(ms, seq)| Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? }))
            .ok_or_else(|| format!("{text:?} is not a stream entry id"))
    }
}

/// The lane, partition and stream entry where a job was first enqueued.
///
/// The origin identifies the job for its whole life, also after it was delayed and promoted. It is the job's default
/// id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The lane where the job was enqueued.
    pub lane: Lane,
    /// The partition where the job was enqueued.
    pub partition: u16,
    /// The job's first stream entry.
    pub entry: EntryId,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.lane, self.partition, self.entry)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(lane), Some(partition), Some(entry)) => Ok(Self {
                lane: lane.parse()?,
                partition: partition.parse().map_err(|_| format!("{text:?} has no partition"))?,
                entry: entry.parse()?,
            }),
            _ => Err(format!("{text:?} is not an origin")),
        }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps text that is known to be within this identifier's bounds.
            pub(crate) fn from_checked(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// A job's identifier: 1–128 of `A-Z a-z 0-9 . _ : / -` (a child's derived id may be longer).
    JobId
}
text_id! {
    /// The caller whose rate limit a call uses: a browser's IP address or session id. It may be personal data, so
    /// `Debug` redacts it.
    CallerId
}
text_id! {
    /// The merchant's own identifier of a customer. `Debug` redacts it.
    CustomerReference
}
text_id! {
    /// A merchant's UUID at Purse.
    MerchantId
}

impl From<&CustomerReference> for CallerId {
    /// A job that names no caller uses its customer reference as the caller. Both have the same bounds.
    fn from(reference: &CustomerReference) -> Self {
        Self(Arc::clone(&reference.0))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({})", self.0)
    }
}

impl fmt::Debug for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerchantId({})", self.0)
    }
}

impl fmt::Debug for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerId(…)")
    }
}

impl fmt::Debug for CustomerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerReference(…)")
    }
}
