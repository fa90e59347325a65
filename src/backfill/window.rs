//! A sliding window over a file. It holds at least one whole record, and not much more.

use crate::contract::MAX_JOB_BYTES;
use std::io::{self, Read};

/// Maximum length of a row in bytes: no job is larger.
pub const MAX_ROW_BYTES: usize = MAX_JOB_BYTES;

/// Bytes that are read ahead.
const READ_BYTES: usize = 256 * 1024;

/// The bytes that are read and not yet used.
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    /// The line of the next byte, counted from 1.
    pub(super) line: u64,
}

impl<R: Read> Window<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), at: 0, ended: false, line: 1 }
    }

    /// The next bytes: more than a record may have, or the rest of the file.
    pub(super) fn ahead(&mut self) -> io::Result<&[u8]> {
        // Two bytes more than a record: a line end may be two bytes.
        if self.buffer.len() - self.at < MAX_ROW_BYTES + 2 && !self.ended {
            self.buffer.drain(..self.at);
            self.at = 0;
            let mut filled = self.buffer.len();
            self.buffer.resize(READ_BYTES, 0);
            while filled < self.buffer.len() {
                match self.input.read(&mut self.buffer[filled..]) {
                    Ok(0) => {
                        self.ended = true;
                        break;
                    }
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.buffer.truncate(filled);
                        return Err(error);
                    }
                }
            }
            self.buffer.truncate(filled);
        }
        Ok(&self.buffer[self.at..])
    }

    /// Skips `bytes` bytes, in which `lines` lines end.
    pub(super) const fn advance(&mut self, bytes: usize, lines: u64) {
        self.at += bytes;
        self.line += lines;
    }

    /// Skips the rest of this line, of any length.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let ahead = self.ahead()?;
            if ahead.is_empty() {
                return Ok(());
            }
            match ahead.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                // The second byte of this line end may not be read yet.
                Some(end) if end > 0 && end + 1 == ahead.len() => self.advance(end, 0),
                Some(end) => {
                    let used = end + line_end(&ahead[end..]);
                    self.advance(used, 1);
                    return Ok(());
                }
                None => {
                    let used = ahead.len();
                    self.advance(used, 0);
                }
            }
        }
    }
}

/// Length of a line end at the start of `bytes`: `\n`, `\r\n`, or `\r` alone; else 0.
pub(super) fn line_end(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}
