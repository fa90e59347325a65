//! Cells of files that people open in a spreadsheet.
//!
//! A spreadsheet takes a cell that begins with one of `= + - @` for a formula. Such a cell is written with an apostrophe before
//! it, and so is a cell that begins with apostrophes and one of these. [`restore`] removes it again.

use std::borrow::Cow;

/// Appends a cell to a line: harmless to a spreadsheet, and in quotes if it needs them.
pub(super) fn push(line: &mut Vec<u8>, cell: &[u8], delimiter: u8) {
    let cell = harmless(cell);
    let is_special = |byte: &u8| *byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    if !cell.iter().any(is_special) {
        line.extend_from_slice(&cell);
        return;
    }
    line.push(b'"');
    for byte in cell.iter() {
        if *byte == b'"' {
            line.push(b'"');
        }
        line.push(*byte);
    }
    line.push(b'"');
}

fn is_formula(cell: &[u8]) -> bool {
    let first = cell.iter().find(|byte| **byte != b'\'');
    matches!(first, Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r'))
}

fn harmless(cell: &[u8]) -> Cow<'_, [u8]> {
    if is_formula(cell) { Cow::Owned([b"'", cell].concat()) } else { Cow::Borrowed(cell) }
}

/// The cell as it was before [`push`].
pub(super) fn restore(cell: &mut Vec<u8>) {
    if cell.first() == Some(&b'\'') && is_formula(cell) {
        cell.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_harmless_in_a_spreadsheet_and_read_back_right() {
        for (cell, wanted) in [
            ("plain", "plain"),
            ("", ""),
            ("a;b", "\"a;b\""),
            ("a,b", "a,b"),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "'=1+1"),
            ("+33612345678", "'+33612345678"),
            ("@x", "'@x"),
            ("-\"1", "\"'-\"\"1\""),
            ("'=1", "''=1"),
            ("'t", "'t"),
            ("'", "'"),
        ] {
            let mut line = Vec::new();
            push(&mut line, cell.as_bytes(), b';');
            assert_eq!(line, wanted.as_bytes(), "{cell}");
            let mut back = harmless(cell.as_bytes()).into_owned();
            restore(&mut back);
            assert_eq!(back, cell.as_bytes(), "{cell}");
        }
    }
}
