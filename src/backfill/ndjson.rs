//! Reads NDJSON, line by line.

use super::{MAX_ROW_BYTES, window::Window};
use std::io::{self, Read};

/// The number and the text of a line. `None`: the line is longer than a row may be.
pub(super) type Line = (u64, Option<Vec<u8>>);

/// Reads lines.
pub(super) struct RowLines<R>(Window<R>);

impl<R: Read> RowLines<R> {
    pub(super) const fn new(input: R) -> Self {
        Self(Window::new(input))
    }

    /// The next line that is not blank, with its number.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let line = self.0.line;
            let ahead = self.0.ahead()?;
            if ahead.is_empty() {
                return Ok(None);
            }
            let bound = ahead.len().min(MAX_ROW_BYTES + 1);
            let (length, ended) = match ahead[..bound].iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(end) => (end, super::window::line_end(&ahead[end..])),
                None if ahead.len() <= MAX_ROW_BYTES => (ahead.len(), 0),
                None => {
                    self.0.skip_line()?;
                    return Ok(Some((line, None)));
                }
            };
            let text = ahead[..length].to_vec();
            self.0.advance(length + ended, u64::from(ended > 0));
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((line, Some(text))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blank_lines_count_and_long_ones_do_not_stop_the_rest() {
        let long = "x".repeat(MAX_ROW_BYTES + 1);
        let input = format!("a\n\n  \r\n{long}\nb\r\n{}", &long[1..]);
        let mut lines = RowLines::new(input.as_bytes());
        let mut read = Vec::new();
        while let Some((line, text)) = lines.next().unwrap() {
            read.push((line, text.map(|text| text.len())));
        }
        assert_eq!(read, [(1, Some(1)), (4, None), (5, Some(1)), (6, Some(MAX_ROW_BYTES))]);
    }
}
