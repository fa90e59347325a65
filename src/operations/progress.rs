//! How a long operation reports what it does.

/// Receives the progress of an operation. Each method does nothing unless a face implements it.
pub trait Progress: Send + Sync {
    /// The work consists of `total` steps, as far as known now.
    fn set_total(&self, _total: u64) {}

    /// `steps` more are done.
    fn advance(&self, _steps: u64) {}

    /// Something that a person should know. It holds no personal data.
    fn note(&self, _text: &str) {}
}

/// Reports to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
