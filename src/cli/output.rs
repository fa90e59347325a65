//! stdout: data only, one line at a time. Nothing that a terminal would obey is written, except the program's own colours.

use crate::contract::{is_unprintable, printable_json};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// What begins a terminal's escape sequences.
const ESCAPE: char = '\u{1b}';

/// The program's own escape sequences, without `ESCAPE`: colours, and those that clear the screen or the line.
const OWN_ESCAPES: [&str; 9] = ["[0m", "[1m", "[2m", "[31m", "[32m", "[33m", "[2J", "[H", "[K"];

/// The reader of stdout has gone: the command ends quietly, as a filter should.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
pub struct StdoutClosed;

/// Prints a line for people and hands it on at once, so that a reader sees it as it happens. Characters that a terminal would
/// obey are replaced.
///
/// # Errors
/// [`StdoutClosed`] when the reader has gone: pass it on with `?`.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    write_line(&for_terminal(line))
}

/// Prints a value as one line of JSON. On a terminal, characters that it would obey are written as `\uXXXX`.
///
/// # Errors
/// As [`print_line`]; and where the value cannot be JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_string(value)?;
    if io::stdout().is_terminal() { write_line(&printable_json(&json)) } else { write_line(&json) }
}

/// Prints a value as JSON of several lines, for people. Characters that a terminal would obey are written as `\uXXXX`.
///
/// # Errors
/// As [`print_json`].
pub(super) fn print_pretty_json(before: &str, value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&format!("{before}{}", printable_json(&serde_json::to_string_pretty(value)?)))
}

/// Prints a message on stderr. stderr may be closed; that is no reason to stop.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", for_terminal(text));
}

fn write_line(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // One write where it can be: two processes' lines stay apart.
    let written = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => anyhow::Error::new(error).context("stdout cannot be written"),
    })
}

/// The text without anything that a terminal obeys, except line breaks and the program's own escape sequences. It is the last
/// guard: values from outside are made printable where they are put into a line, so that they cannot bring colours either.
pub(super) fn for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let is_own = || c == ESCAPE && OWN_ESCAPES.iter().any(|own| text[at + 1..].starts_with(own));
        out.push(if c == '\n' || !is_unprintable(c) || is_own() { c } else { '\u{fffd}' });
    }
    out
}

/// Writes JSON, one object a line, to stdout. On a terminal, characters that it would obey are written as `\uXXXX`.
#[derive(Debug)]
pub(super) struct JsonLines {
    is_terminal: bool,
    line: Vec<u8>,
}

impl JsonLines {
    pub(super) fn to_stdout() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), line: Vec::new() }
    }
}

impl Write for JsonLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return io::stdout().write(bytes);
        }
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = self.line.drain(..=end).collect();
            io::stdout().write_all(printable_json(&String::from_utf8_lossy(&lines)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    /// Lines that have not ended stay where they are: half a character cannot be judged.
    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::{Style, Tone};

    #[test]
    fn only_the_programs_own_escapes_reach_a_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}b\u{9b}2Jc\u{7f}\u{202e}d\u{1b}[8m\te";
        let shown = for_terminal(hostile);
        assert!(!shown.chars().any(is_unprintable), "{shown:?}");
        for tone in [Tone::Good, Tone::Odd, Tone::Bad, Tone::Faint, Tone::Strong] {
            let line = format!("{}\nnext", Style::coloured().paint(tone, "text"));
            assert_eq!(for_terminal(&line), line);
        }
    }
}
