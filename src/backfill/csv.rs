//! Reads CSV, record by record.
//!
//! It does not use a library. The known libraries are lenient with quotes: a quote that is never closed swallows the rows after
//! it, up to the next quote or the end of the file. Here no row can hide another. A faulty record costs the line that it begins
//! in, and reading continues with the next line. No record in memory is longer than a row may be.

use super::{
    MAX_ROW_BYTES,
    window::{Window, line_end},
};
use std::io::{self, Read};

/// A record, or a line that is no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The line that it begins in, as an editor counts.
    pub(super) line: u64,
    pub(super) cells: Result<Vec<Vec<u8>>, Flaw>,
    /// The text of a line that is no record.
    pub(super) text: Vec<u8>,
}

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Stray,
    NeverClosed,
    TooLong,
    Width,
}

impl Flaw {
    /// The reason, as it stands in `FILE.rejected.csv`.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Stray => "text stands behind a closing quote (a quote within quotes is written twice)",
            Self::NeverClosed => "a quote is opened and not closed within 65536 bytes",
            Self::TooLong => "is longer than 65536 bytes",
            Self::Width => "has a quote that closes lines below, where the cells are not as many as the header's",
        }
    }
}

/// Reads records.
pub(super) struct Records<R> {
    window: Window<R>,
    delimiter: u8,
    width: Option<usize>,
}

impl<R: Read> Records<R> {
    /// Without a `delimiter`, the first line decides: the one it has most of.
    pub(super) fn new(input: R, delimiter: Option<u8>) -> io::Result<Self> {
        let mut window = Window::new(input);
        let delimiter = match delimiter {
            Some(delimiter) => delimiter,
            None => detect(window.ahead()?),
        };
        Ok(Self { window, delimiter, width: None })
    }

    /// The byte between cells.
    pub(super) const fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// From here on, a record of several lines must have `width` cells. With another number, a quote was probably not closed.
    pub(super) const fn expect_width(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// The next record. Lines without text in any cell are skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let line = self.window.line;
            let delimiter = self.delimiter;
            let ahead = self.window.ahead()?;
            if ahead.is_empty() {
                return Ok(None);
            }
            let blank = line_end(ahead);
            if blank > 0 {
                self.window.advance(blank, 1);
                continue;
            }
            let wrong = |split: &Split| split.lines > 1 && self.width.is_some_and(|width| split.cells.len() != width);
            match split(ahead, delimiter).and_then(|split| if wrong(&split) { Err(Flaw::Width) } else { Ok(split) }) {
                Ok(Split { cells, bytes, lines }) => {
                    self.window.advance(bytes, lines);
                    if cells.iter().any(|cell| !cell.iter().all(u8::is_ascii_whitespace)) {
                        return Ok(Some(Record { line, cells: Ok(cells), text: Vec::new() }));
                    }
                }
                Err(flaw) => {
                    let end = ahead.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(ahead.len());
                    let text = ahead[..end.min(MAX_ROW_BYTES)].to_vec();
                    self.window.skip_line()?;
                    return Ok(Some(Record { line, cells: Err(flaw), text }));
                }
            }
        }
    }
}

/// The one of `,`, `;`, tab and `|` that the first line has most of outside of quotes; of equals, the first.
fn detect(bytes: &[u8]) -> u8 {
    const KNOWN: [u8; 4] = *b",;\t|";
    let mut counts = [0_usize; 4];
    let mut quoted = false;
    let text = bytes.iter().skip_while(|byte| byte.is_ascii_whitespace());
    for byte in text.take_while(|byte| !matches!(byte, b'\n' | b'\r')) {
        quoted ^= *byte == b'"';
        if let Some(known) = KNOWN.iter().position(|known| known == byte).filter(|_| !quoted) {
            counts[known] += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    counts.iter().position(|count| *count == most).map_or(b',', |known| KNOWN[known])
}

#[derive(Debug, PartialEq, Eq)]
struct Split {
    cells: Vec<Vec<u8>>,
    /// Length, with the end of the last line.
    bytes: usize,
    /// Number of line ends.
    lines: u64,
}

/// Parses the first record of `text`, which is longer than a record may be, or the rest of the file.
fn split(text: &[u8], delimiter: u8) -> Result<Split, Flaw> {
    let bound = text.len().min(MAX_ROW_BYTES);
    let mut cells = Vec::new();
    let (mut at, mut lines) = (0, 0);
    loop {
        let cell = if text[..bound].get(at) == Some(&b'"') {
            let (cell, used, ends) = quoted_cell(&text[at..bound])?;
            at += used;
            lines += ends;
            cell
        } else {
            let ends = |byte: &u8| *byte == delimiter || matches!(byte, b'\n' | b'\r');
            let length = text[at..bound].iter().position(ends).unwrap_or(bound - at);
            at += length;
            text[at - length..at].to_vec()
        };
        cells.push(cell);
        match text.get(at) {
            None => return Ok(Split { cells, bytes: at, lines }),
            Some(b'\n' | b'\r') => {
                return Ok(Split { cells, bytes: at + line_end(&text[at..]), lines: lines + 1 });
            }
            Some(_) if at == bound => return Err(Flaw::TooLong),
            Some(byte) if *byte == delimiter => at += 1,
            Some(_) => return Err(Flaw::Stray),
        }
    }
}

/// Parses a cell that begins with a quote: its text, its length in bytes, the number of line ends in it.
fn quoted_cell(text: &[u8]) -> Result<(Vec<u8>, usize, u64), Flaw> {
    let mut cell = Vec::new();
    let mut at = 1;
    loop {
        let Some(length) = text[at..].iter().position(|byte| *byte == b'"') else {
            return Err(Flaw::NeverClosed);
        };
        cell.extend_from_slice(&text[at..at + length]);
        at += length + 1;
        if text.get(at) != Some(&b'"') {
            break;
        }
        cell.push(b'"');
        at += 1;
    }
    // Some programs write a blank after the quote.
    at += text[at..].iter().take_while(|byte| **byte == b' ').count();
    let ends = (0..cell.len()).filter(|index| match cell[*index] {
        b'\n' => true,
        b'\r' => cell.get(index + 1) != Some(&b'\n'),
        _ => false,
    });
    let ends = ends.count() as u64;
    Ok((cell, at, ends))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Line = (u64, Result<Vec<String>, Flaw>);

    fn read(text: &[u8], delimiter: Option<u8>) -> Vec<Line> {
        let mut records = Records::new(text, delimiter).unwrap();
        let mut read = Vec::new();
        while let Some(Record { line, cells, .. }) = records.next().unwrap() {
            let text = |cell: Vec<u8>| String::from_utf8(cell).unwrap();
            read.push((line, cells.map(|cells| cells.into_iter().map(text).collect())));
        }
        read
    }

    fn good(line: u64, cells: &[&str]) -> Line {
        (line, Ok(cells.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        let text = "a,b\r\n\r\n1,\"x\r\ny\nz\"\n\n  \n;,\n,,\n2,\r3,c";
        let wanted = [
            good(1, &["a", "b"]),
            good(3, &["1", "x\r\ny\nz"]),
            good(8, &[";", ""]),
            good(10, &["2", ""]),
            good(11, &["3", "c"]),
        ];
        assert_eq!(read(text.as_bytes(), None), wanted);
    }

    #[test]
    fn quotes_are_taken_off_and_doubled_ones_halved() {
        let text = "\"a \"\"b\"\"\",\"\",\"c\" ,d \"e\"\n\"f\"";
        assert_eq!(read(text.as_bytes(), None), [good(1, &["a \"b\"", "", "c", "d \"e\""]), good(2, &["f"])]);
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_line_only() {
        let text = "1,\"Jean,a\n2,Paul,\"b\"\n3,x\n4,\"y\n5,z\n";
        let read = read(text.as_bytes(), Some(b','));
        assert_eq!(read[0], (1, Err(Flaw::Stray)));
        assert_eq!(read[1..3], [good(2, &["2", "Paul", "b"]), good(3, &["3", "x"])]);
        assert_eq!(read[3..], [(4, Err(Flaw::NeverClosed)), good(5, &["5", "z"])]);
    }

    #[test]
    fn a_quote_that_another_row_closes_hides_no_row() {
        let text = b"1,\"Jean,a\n2,\",y\",b\n3,\"p\nq\",r\n";
        let mut records = Records::new(&text[..], Some(b',')).unwrap();
        records.expect_width(3);
        let mut lines = Vec::new();
        while let Some(record) = records.next().unwrap() {
            lines.push((record.line, record.cells.is_ok()));
        }
        assert_eq!(lines, [(1, false), (2, true), (3, true)]);
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let long = "x".repeat(MAX_ROW_BYTES);
        let very = "y".repeat(1_000_000);
        let text =
            format!("1,{long}\r\n2,{very}\n\"{very}\n3\n{}\n{}z\n4\n", &long[..MAX_ROW_BYTES], &long[..MAX_ROW_BYTES]);
        let read = read(text.as_bytes(), Some(b','));
        let flaws: Vec<_> = read.iter().filter(|(_, cells)| cells.is_err()).map(|(line, _)| *line).collect();
        assert_eq!(flaws, [1, 2, 3, 6]);
        assert_eq!(read.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn delimiters_are_found() {
        for (header, wanted) in [
            ("a;b,c;d\n,,,,", b';'),
            ("a\tb", b'\t'),
            ("a|b", b'|'),
            ("a", b','),
            ("\"a;b;c\",d", b','),
            ("\n\na;b", b';'),
        ] {
            assert_eq!(detect(header.as_bytes()), wanted, "{header}");
        }
    }
}
