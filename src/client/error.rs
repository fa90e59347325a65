//! Errors of the client.

use crate::{
    completions::HubError,
    operations::{Error, enqueue::InvalidJob},
};

/// Why the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A worker would reject the job. It was not enqueued.
    #[error("{}", faults(.0))]
    Invalid(#[from] InvalidJob),
    /// Redis cannot be used, or too many requests wait. See [`Error::remedy`].
    #[error(transparent)]
    Queue(#[from] Error),
}

impl From<HubError> for ClientError {
    fn from(error: HubError) -> Self {
        Self::Queue(error.into())
    }
}

/// Every fault on a line of its own.
fn faults(invalid: &InvalidJob) -> String {
    let faults = invalid.faults();
    let lines = faults.iter().map(|fault| format!("\n{} {}", fault.pointer, fault.detail));
    std::iter::once("the job is not valid:".to_owned()).chain(lines).collect()
}
