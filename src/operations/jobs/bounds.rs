//! How far a search goes.

/// How much is looked through for a job that the index of ids does not lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchBounds {
    /// Maximum number of jobs of each stream, and of delayed jobs.
    pub jobs: usize,
    /// Maximum number of completions, and of dead letters, the newest first.
    pub ended: usize,
}

impl SearchBounds {
    /// Nothing bounds the search. Its memory stays bounded.
    pub const NONE: Self = Self { jobs: usize::MAX, ended: usize::MAX };
}

impl Default for SearchBounds {
    fn default() -> Self {
        Self { jobs: 200_000, ended: 100_000 }
    }
}
