//! The text of a file, without gzip (recognised by its magic bytes), encoding and byte order mark.

use encoding_rs::{CoderResult, Decoder};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const BUFFER_BYTES: usize = 64 * 1024;

/// The encoding of a file's text, by the names that the Web uses: `utf-8`, `latin1` (on the Web, that is windows-1252),
/// `iso-8859-15`, `utf-16le`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = encoding_rs::Encoding::for_label(text.as_bytes());
        found.map(Self).ok_or_else(|| "unknown: utf-8, latin1, windows-1252, iso-8859-15, utf-16le, …".to_owned())
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self(encoding_rs::UTF_8)
    }
}

/// SHA-256 of the files' bytes and lengths, in the order of the files.
///
/// # Errors
/// The index of the file that cannot be read, and the reason.
pub fn digest<P: AsRef<Path>>(files: &[P]) -> Result<Sha256, (usize, io::Error)> {
    let mut hash = Sha256::new();
    for (index, path) in files.iter().enumerate() {
        let bytes = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
        hash.update(bytes.map_err(|error| (index, error))?.to_le_bytes());
    }
    Ok(hash)
}

/// Opens a file and decodes it to UTF-8. UTF-8 itself is not checked here: each row is checked later. `read` counts the bytes
/// of the file.
pub(super) fn open(path: &Path, encoding: Encoding, read: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    unwrap(Counted { input: file, read }, encoding)
}

fn unwrap(input: impl Read + Send + 'static, Encoding(encoding): Encoding) -> io::Result<Box<dyn Read + Send>> {
    let (magic, input) = peek(input, 2)?;
    let input: Box<dyn Read + Send> =
        if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(BufReader::new(input))) } else { Box::new(input) };
    let (start, mut input) = peek(input, 3)?;
    match encoding_rs::Encoding::for_bom(&start) {
        Some((marked, length)) if marked == encoding_rs::UTF_8 && encoding == encoding_rs::UTF_8 => {
            io::copy(&mut input.by_ref().take(length as u64), &mut io::sink())?;
            Ok(Box::new(input))
        }
        // The mark decides, whatever the flag says. The decoder removes it.
        Some((marked, _)) => Ok(Box::new(Transcoded::new(input, marked))),
        None if encoding == encoding_rs::UTF_8 => Ok(Box::new(input)),
        None => Ok(Box::new(Transcoded::new(input, encoding))),
    }
}

/// The first bytes, and all bytes from the start again.
type Peeked<R> = (Vec<u8>, io::Chain<Cursor<Vec<u8>>, R>);

/// The first `length` bytes (fewer if there are fewer), and all bytes from the start again.
fn peek<R: Read>(mut input: R, length: u64) -> io::Result<Peeked<R>> {
    let mut start = Vec::new();
    input.by_ref().take(length).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(input)))
}

struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Decodes another encoding to UTF-8. Bytes that it cannot decode become U+FFFD.
struct Transcoded<R> {
    input: BufReader<R>,
    decoder: Decoder,
    text: Vec<u8>,
    at: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> Transcoded<R> {
    fn new(input: R, encoding: &'static encoding_rs::Encoding) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        let decoder = encoding.new_decoder_with_bom_removal();
        Self { input, decoder, text: vec![0; BUFFER_BYTES], at: 0, end: 0, ended: false }
    }
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.end {
            if self.ended {
                return Ok(0);
            }
            let bytes = self.input.fill_buf()?;
            let last = bytes.is_empty();
            let (result, used, written, _) = self.decoder.decode_to_utf8(bytes, &mut self.text, last);
            self.input.consume(used);
            (self.at, self.end) = (0, written);
            self.ended = last && result == CoderResult::InputEmpty;
        }
        let length = into.len().min(self.end - self.at);
        into[..length].copy_from_slice(&self.text[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn read(bytes: &[u8], encoding: &str) -> Vec<u8> {
        let mut text = Vec::new();
        let input = unwrap(Cursor::new(bytes.to_vec()), encoding.parse().unwrap()).unwrap();
        { input }.read_to_end(&mut text).unwrap();
        text
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn encodings_and_marks() {
        assert_eq!(read("é€".as_bytes(), "utf-8"), "é€".as_bytes());
        assert_eq!(read("\u{feff}é".as_bytes(), "utf-8"), "é".as_bytes());
        assert_eq!(read("\u{feff}é".as_bytes(), "latin1"), "é".as_bytes());
        assert_eq!(read(b"caf\xe9 \x80", "latin1"), "café €".as_bytes());
        assert_eq!(read(b"\xa4", "iso-8859-15"), "€".as_bytes());
        assert_eq!(read(b"\xff\xfea\0\xe9\0", "utf-8"), "aé".as_bytes());
        assert_eq!(read(b"caf\xe9", "utf-8"), b"caf\xe9");
        assert_eq!(read(b"", "utf-8"), b"");
        assert!("klingon".parse::<Encoding>().is_err());
    }

    #[test]
    fn much_text_in_another_encoding_is_read_whole() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| if n % 7 == 0 { 0xe9 } else { b'a' }).collect();
        let text = String::from_utf8(read(&gzip(&bytes), "latin1")).unwrap();
        assert_eq!(text.chars().count(), bytes.len());
    }

    #[test]
    fn gzip_in_several_members_and_with_a_mark() {
        let bytes = [gzip("\u{feff}é".as_bytes()), gzip(b"b")].concat();
        assert_eq!(read(&bytes, "utf-8"), "éb".as_bytes());
        let mut cut = unwrap(Cursor::new(bytes[..20].to_vec()), Encoding::default());
        let failed = cut.as_mut().map_or(true, |input| input.read_to_end(&mut Vec::new()).is_err());
        assert!(failed);
    }
}
