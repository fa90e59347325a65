//! Exit codes, and the messages on stderr of a command that failed.

use super::StdoutClosed;
use crate::operations;
use std::{fmt, process::ExitCode};

/// The exit codes (contract §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
}

impl Exit {
    /// Exit code 1, as a number, for `std::process::exit`.
    pub(super) const CODE_FAILED: i32 = 1;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Wrong usage that is found after parsing: flags that contradict each other or are missing, or a configuration without a value
/// that the command needs. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// A remedy that is attached to an error and printed below it.
#[derive(Debug)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attaches a [`Hint`] to the error of a `Result`.
pub trait HintExt<T> {
    /// Adds a remedy to the error: `connect().await.hint("is Redis running? try `xco-worker doctor`")`.
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> HintExt<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Hint(text.into())))
    }
}

/// Returns the exit code for `result`, and the message for stderr.
///
/// A closed stdout (`… | head`) is not a failure.
pub fn conclude(result: anyhow::Result<Exit>) -> (Exit, Option<String>) {
    let error = match result {
        Ok(exit) => return (exit, None),
        Err(error) => error,
    };
    if error.downcast_ref::<StdoutClosed>().is_some() {
        return (Exit::Done, None);
    }
    let exit = if error.downcast_ref::<UsageError>().is_some() { Exit::Usage } else { Exit::Failed };
    let remedy = || error.downcast_ref::<operations::Error>()?.remedy().map(str::to_owned);
    let hint = error.downcast_ref::<Hint>().map(|hint| hint.0.clone()).or_else(remedy);
    let mut causes = error.chain().map(ToString::to_string).collect::<Vec<_>>();
    // The hint is one of the layers, but not a cause.
    causes.retain(|cause| Some(cause) != hint.as_ref());
    causes.dedup();
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    (exit, Some(format!("error: {}{hint}", causes.join(": "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn errors_carry_their_causes_and_their_hint() {
        let failed: Result<Exit, _> = Err(std::io::Error::other("refused"));
        let result = failed.context("Redis cannot be reached").hint("is it running?").context("enqueueing");
        let (exit, said) = conclude(result);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(said.as_deref(), Some("error: enqueueing: Redis cannot be reached: refused\nhint: is it running?"));
    }

    #[test]
    fn wrong_usage_and_a_closed_pipe() {
        let (exit, said) = conclude(Err(UsageError("--a needs --b".to_owned()).into()));
        assert_eq!((exit, said.as_deref()), (Exit::Usage, Some("error: --a needs --b")));
        let (exit, said) = conclude(Err(anyhow::Error::new(StdoutClosed).context("printing")));
        assert_eq!((exit, said), (Exit::Done, None));
    }
}
