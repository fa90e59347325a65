//! stdout: data only, one line at a time.

use serde::Serialize;
use std::io::{self, Write};

/// Whoever read stdout has gone: the command ends quietly, as a filter should.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
pub struct StdoutClosed;

/// Prints a line of data and hands it on at once, so that whoever follows sees it as it happens.
///
/// # Errors
/// [`StdoutClosed`] when the reader has gone: pass it on with `?`.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // One write where it can be: two processes' lines stay apart.
    let written = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => anyhow::Error::new(error).context("stdout cannot be written"),
    })
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// As [`print_line`]; and where the value cannot be JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Says something on stderr. It may be closed; that is no reason to stop.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
