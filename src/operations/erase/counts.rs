//! What was found, by kind.

use serde::Serialize;

/// Maximum number of jobs that one run cancels.
pub const MOST_JOBS: usize = 1_000;

/// What Redis holds about a customer, by kind. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EraseCounts {
    /// Jobs in a lane that no worker has read.
    pub waiting: u64,
    /// Delayed jobs.
    pub delayed: u64,
    /// Jobs that a worker has. They end by themselves.
    pub in_flight: u64,
    /// Completions.
    pub completions: u64,
    /// Replies to these completions that nobody has read.
    pub replies: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Records of jobs that an operator edited.
    pub edits: u64,
    /// Plans and runs of replays and discards whose filter or edit names the customer.
    pub replays: u64,
    /// Fingerprints that backfills keep. They are found by reference and email together.
    pub fingerprints: u64,
    /// Rules that name the customer. Whoever resumes the pause removes it.
    pub rules: u64,
}

impl EraseCounts {
    /// How many there are of all kinds.
    pub const fn total(&self) -> u64 {
        let Self { waiting, delayed, in_flight, completions, replies, dead_letters, edits, .. } = self;
        let Self { replays, fingerprints, rules, .. } = self;
        *waiting
            + *delayed
            + *in_flight
            + *completions
            + *replies
            + *dead_letters
            + *edits
            + *replays
            + *fingerprints
            + *rules
    }
}
