//! How a long operation reports that it goes on.

/// Receives the progress of a long operation. A method that is not implemented ignores the report.
///
/// The calls are made from the operation's own task: a method that blocks delays the operation.
pub trait Progress: Send + Sync {
    /// The operation has `total` steps.
    fn set_total(&self, total: u64) {
        let _ = total;
    }

    /// `steps` more steps are done.
    fn advance(&self, steps: u64) {
        let _ = steps;
    }

    /// Something that a person may want to read: one line, without personal data.
    fn note(&self, line: &str) {
        let _ = line;
    }
}

/// Ignores every report.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
