//! Gzip as it is found, and files that are no text.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// Length of the longest signature.
pub(super) const SIGNATURE_BYTES: usize = 8;

const SIGNATURES: [(&[u8], &str); 9] = [
    (b"PK\x03\x04", "is a workbook or another ZIP archive: save the sheet as CSV (UTF-8), or unpack the archive"),
    (b"PK\x05\x06", "is an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook: save the sheet as CSV (UTF-8)"),
    (b"%PDF-", "is a PDF: the rows are wanted as CSV or NDJSON"),
    (b"PAR1", "is a Parquet file: the rows are wanted as CSV or NDJSON"),
    (b"SQLite f", "is an SQLite database: the rows are wanted as CSV or NDJSON"),
    (b"\x28\xb5\x2f\xfd", "is compressed with Zstandard: `zstd -dc FILE | xco-worker backfill -` reads it"),
    (b"\xfd7zXZ\0", "is compressed with xz: `xz -dc FILE | xco-worker backfill -` reads it"),
    (b"BZh", "is compressed with bzip2: `bzip2 -dc FILE | xco-worker backfill -` reads it"),
];

/// What a file is that is no text, with what to do about it; `start` is its beginning.
pub(super) fn no_text(start: &[u8]) -> Option<&'static str> {
    // A header may begin with these letters; then more of them follow.
    let is_text = start.len() > 3 && start.starts_with(b"BZh") && !start[3].is_ascii_digit();
    SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature) && !is_text).map(|(_, what)| *what)
}

/// Whether a file begins as gzip does.
pub(super) fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// The encoding of a text in UTF-16 without a byte order mark: every second byte of the ASCII characters that it begins with is
/// zero. No text in another encoding has zeros.
pub(super) fn utf16(start: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let pairs: Vec<&[u8]> = start.chunks_exact(2).collect();
    let count = |zero: usize| pairs.iter().filter(|pair| pair[zero] == 0 && pair[1 - zero] != 0).count();
    // Some characters of a header may be beyond ASCII.
    let is_most = |count: usize| count > 1 && count * 4 >= pairs.len() * 3;
    match (is_most(count(1)), is_most(count(0))) {
        (true, _) => Some(encoding_rs::UTF_16LE),
        (_, true) => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

/// Decompresses gzip data in any number of members. Zeros behind the last member are ignored: tapes and block copies add them.
pub(super) struct Gunzip<R>(State<R>);

enum State<R> {
    Member(Box<GzDecoder<BufReader<R>>>),
    Ended,
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self(State::Member(Box::new(GzDecoder::new(BufReader::new(input)))))
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let State::Member(member) = &mut self.0 {
            let read = member.read(into).map_err(explained)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let State::Member(member) = std::mem::replace(&mut self.0, State::Ended) else { break };
            self.0 = next_member(member.into_inner())?;
        }
        Ok(0)
    }
}

fn next_member<R: Read>(mut input: BufReader<R>) -> io::Result<State<R>> {
    loop {
        let ahead = input.fill_buf()?;
        let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
        match ahead.get(zeros) {
            None if zeros == 0 => return Ok(State::Ended),
            None => input.consume(zeros),
            Some(0x1f) => {
                input.consume(zeros);
                return Ok(State::Member(Box::new(GzDecoder::new(input))));
            }
            Some(_) => return Err(invalid("something else stands behind its gzip data")),
        }
    }
}

fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid("its gzip data ends early: the file is not complete"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => invalid("its gzip data is damaged"),
        _ => error,
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    pub(in crate::backfill) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        Gunzip::new(bytes).read_to_string(&mut text).map_err(|error| error.to_string()).map(|_| text)
    }

    #[test]
    fn members_and_padding_are_read_and_damage_is_named() {
        let (a, b, zeros) = (gzip(b"a"), gzip(b"b"), vec![0; 100_000]);
        assert_eq!(gunzip(&[a.clone(), b.clone()].concat()), Ok("ab".to_owned()));
        assert_eq!(gunzip(&[a.clone(), zeros.clone()].concat()), Ok("a".to_owned()));
        assert_eq!(gunzip(&[a.clone(), zeros, b].concat()), Ok("ab".to_owned()));
        assert!(gunzip(&a[..a.len() - 3]).unwrap_err().contains("not complete"));
        assert!(gunzip(&a[..5]).unwrap_err().contains("not complete"));
        let mut damaged = gzip(&[b'a'; 1000]);
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        assert!(gunzip(&damaged).unwrap_err().contains("damaged"));
        assert!(gunzip(&[a, b"text".to_vec()].concat()).unwrap_err().contains("something else"));
    }

    #[test]
    fn files_that_are_no_text_are_recognised() {
        assert!(no_text(b"PK\x03\x04\x14\0").unwrap().contains("workbook"));
        assert!(no_text(b"BZh91AY").unwrap().contains("bzip2"));
        for text in [&b"PK;email"[..], b"BZh;email", b"", b"email"] {
            assert_eq!(no_text(text), None);
        }
    }

    #[test]
    fn utf16_without_a_mark_is_recognised() {
        let le: Vec<u8> = "n° client".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "n° client".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(utf16(&le), Some(encoding_rs::UTF_16LE));
        assert_eq!(utf16(&be), Some(encoding_rs::UTF_16BE));
        for text in ["", "a", "a\0", "email,customer_reference"] {
            assert_eq!(utf16(text.as_bytes()), None, "{text:?}");
        }
    }
}
