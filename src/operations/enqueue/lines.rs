//! Reads NDJSON line by line. It holds at most one line, cut at the length of a job.

use super::check::MAX_REQUEST_BYTES;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, blank lines included, as an editor counts.
    pub number: u64,
    /// `None`: the line is longer than a job may be.
    pub text: Option<Vec<u8>>,
}

/// Lines of an input, one after the other.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Reads lines of `input`.
    pub const fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line; `None` at the end of the input. It may be dropped while it waits only if no more lines are wanted.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut text = Vec::new();
            let mut too_long = false;
            let mut any = false;
            loop {
                let chunk = self.input.fill_buf().await?;
                if chunk.is_empty() {
                    break;
                }
                any = true;
                let end = chunk.iter().position(|byte| *byte == b'\n');
                let part = &chunk[..end.unwrap_or(chunk.len())];
                if text.len() + part.len() > MAX_REQUEST_BYTES {
                    too_long = true;
                }
                if !too_long {
                    text.extend_from_slice(part);
                }
                let used = end.map_or(chunk.len(), |end| end + 1);
                self.input.consume(used);
                if end.is_some() {
                    break;
                }
            }
            if !any {
                return Ok(None);
            }
            self.number += 1;
            // Windows editors write this mark before the first line.
            if self.number == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if too_long {
                return Ok(Some(Line { number: self.number, text: None }));
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Line { number: self.number, text: Some(text) }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn blank_lines_count_and_long_ones_do_not_stop_the_rest() {
        let long = "x".repeat(MAX_REQUEST_BYTES + 1);
        let input = format!("\u{feff}a\n\n  \r\n{long}\nb");
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(1000, input.as_bytes()));
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push((line.number, line.text.map(|text| String::from_utf8(text).unwrap())));
        }
        assert_eq!(read, [(1, Some("a".to_owned())), (4, None), (5, Some("b".to_owned()))]);
    }
}
