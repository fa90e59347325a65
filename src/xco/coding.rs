//! Decodes a body: removes its content codings and its byte order mark. Pure.
//!
//! The HTTP client does not do this well enough: it knows one spelling of each coding, but names of codings are
//! case-insensitive and `x-gzip` means `gzip` (RFC 9110 §8.4.1). A body left compressed by mistake makes a call that
//! took effect look as if it had failed.

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use std::io::Read;

/// Value of `Accept-Encoding`. `deflate` is decoded but not requested, because servers disagree on its format.
pub(super) const ACCEPTED: &str = "gzip";

/// Maximum number of codings on one body. Real answers have one.
const MAX_CODINGS: usize = 4;

/// Maximum number of characters of an unknown coding's name that appear in a message.
const MAX_NAME_CHARS: usize = 20;

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// Longer than the limit, compressed or decompressed.
    TooLong,
    /// The body ended early, or does not have the format that its header announces.
    Broken,
    /// Compressed in a way that was not requested. Holds the coding's name, shortened.
    Coding(String),
}

/// Decodes `body`: decompresses it to at most `max_bytes` and removes a UTF-8 byte order mark (RFC 8259 §8.1 lets
/// readers ignore one).
pub(super) fn plain(headers: &HeaderMap, body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, BodyFault> {
    let mut body = unpacked(headers, body, max_bytes)?;
    if body.starts_with(b"\xef\xbb\xbf") {
        body.drain(..3);
    }
    Ok(body)
}

fn unpacked(headers: &HeaderMap, mut body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, BodyFault> {
    // An answer without a body (a 204) may still carry the header.
    if body.is_empty() {
        return Ok(body);
    }
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let list = value.to_str().map_err(|_| BodyFault::Coding("something unreadable".to_owned()))?;
        codings.extend(list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()));
    }
    codings.retain(|name| name != "identity");
    if codings.len() > MAX_CODINGS {
        return Err(BodyFault::Coding(format!("{} codings at once", codings.len())));
    }
    // The header lists the codings in the order in which they were applied.
    for name in codings.iter().rev() {
        body = match name.as_str() {
            "gzip" | "x-gzip" => bounded(MultiGzDecoder::new(body.as_slice()), max_bytes)?,
            // RFC 9110 means zlib's format. Some servers send the bare deflate stream.
            "deflate" if is_zlib(&body) => bounded(ZlibDecoder::new(body.as_slice()), max_bytes)?,
            "deflate" => bounded(DeflateDecoder::new(body.as_slice()), max_bytes)?,
            other => return Err(BodyFault::Coding(printable(other))),
        };
    }
    Ok(body)
}

fn bounded(unpacking: impl Read, max_bytes: usize) -> Result<Vec<u8>, BodyFault> {
    let mut unpacked = Vec::new();
    let one_more = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    unpacking.take(one_more).read_to_end(&mut unpacked).map_err(|_| BodyFault::Broken)?;
    if unpacked.len() > max_bytes { Err(BodyFault::TooLong) } else { Ok(unpacked) }
}

/// Whether the body has a zlib header. RFC 1950 §2.2: the method is 8, and the first two bytes are a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(*body, [first, second, ..] if first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31))
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use reqwest::header::HeaderValue;
    use std::io::Write;

    const TEXT: &[u8] = br#"{"exists":true}"#;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(codings: &[&str], body: &[u8]) -> Result<Vec<u8>, BodyFault> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap());
        }
        plain(&headers, body.to_vec(), 1000)
    }

    #[test]
    fn gzip_by_any_of_its_names() {
        for name in ["gzip", "GZIP", "x-gzip", "X-GZip", " gzip ", "identity, gzip", "gzip,identity", ", gzip"] {
            assert_eq!(read(&[name], &gzip(TEXT)).as_deref(), Ok(TEXT), "{name}");
        }
        let both = [gzip(b"{\"exists\""), gzip(b":true}")].concat();
        assert_eq!(read(&["gzip"], &both).as_deref(), Ok(TEXT));
        for names in [&[] as &[&str], &["identity"], &[""]] {
            assert_eq!(read(names, TEXT).as_deref(), Ok(TEXT), "{names:?}");
        }
        assert_eq!(read(&["gzip"], b"").as_deref(), Ok(b"".as_slice()));
    }

    #[test]
    fn several_codings_come_off_in_reverse() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(TEXT).unwrap();
        let bare = bare.finish().unwrap();
        for deflated in [&zlib, &bare] {
            assert_eq!(read(&["Deflate"], deflated).as_deref(), Ok(TEXT));
            assert_eq!(read(&["deflate, GZIP"], &gzip(deflated)).as_deref(), Ok(TEXT));
            assert_eq!(read(&["deflate", "x-gzip"], &gzip(deflated)).as_deref(), Ok(TEXT));
        }
        assert_eq!(
            read(&["gzip, gzip, gzip, gzip, gzip"], TEXT),
            Err(BodyFault::Coding("5 codings at once".to_owned()))
        );
    }

    #[test]
    fn other_codings_are_named() {
        for (name, said) in [("br", "br"), ("gzip, ZSTD", "zstd"), ("<b>\t\"x\"", "bx"), ("no", "no")] {
            assert_eq!(read(&[name], TEXT), Err(BodyFault::Coding(said.to_owned())), "{name}");
        }
        assert_eq!(read(&[&"y".repeat(900)], TEXT), Err(BodyFault::Coding("y".repeat(20))));
    }

    #[test]
    fn what_is_unpacked_is_bounded() {
        assert_eq!(read(&["gzip"], &gzip(&[b' '; 1000])).map(|body| body.len()), Ok(1000));
        assert_eq!(read(&["gzip"], &gzip(&[b' '; 1001])), Err(BodyFault::TooLong));
        assert_eq!(read(&["gzip, gzip"], &gzip(&gzip(&vec![b' '; 50_000_000]))), Err(BodyFault::TooLong));
        assert_eq!(read(&["gzip"], TEXT), Err(BodyFault::Broken));
        let packed = gzip(TEXT);
        assert_eq!(read(&["gzip"], &packed[..packed.len() - 9]), Err(BodyFault::Broken));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let marked = [b"\xef\xbb\xbf", TEXT].concat();
        assert_eq!(read(&[], &marked).as_deref(), Ok(TEXT));
        assert_eq!(read(&["gzip"], &gzip(&marked)).as_deref(), Ok(TEXT));
        assert_eq!(read(&[], b"\xef\xbb").as_deref(), Ok(b"\xef\xbb".as_slice()));
    }
}
