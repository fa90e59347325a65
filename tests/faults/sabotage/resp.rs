//! Parses Redis commands as clients send them: arrays of bulk strings.

use std::ops::Range;

/// Maximum size of a command; this program's clients send less.
const MOST_BYTES: usize = 64 << 20;
const MOST_PARTS: usize = 200_000;

/// One command at the start of a buffer.
#[derive(Debug)]
pub(crate) struct Command {
    /// Length of the command in bytes.
    pub(crate) length: usize,
    /// Positions of its parts in the buffer: the name, then the arguments.
    pub(crate) parts: Vec<Range<usize>>,
}

/// The data is not a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Parses the command at the start of `buffer`; `None` if it is incomplete.
pub(crate) fn command(buffer: &[u8]) -> Result<Option<Command>, Malformed> {
    let Some((count, mut at)) = header(buffer, 0, b'*')? else { return Ok(None) };
    if count > MOST_PARTS {
        return Err(Malformed);
    }
    let mut parts = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let Some((length, from)) = header(buffer, at, b'$')? else { return Ok(None) };
        let until = from.checked_add(length).filter(|until| *until <= MOST_BYTES).ok_or(Malformed)?;
        at = until + 2;
        if buffer.len() < at {
            return Ok(None);
        }
        parts.push(from..until);
    }
    Ok(Some(Command { length: at, parts }))
}

/// Parses a number after its mark. Returns it with the start of the next line.
fn header(buffer: &[u8], at: usize, mark: u8) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(first) = buffer.get(at) else { return Ok(None) };
    if *first != mark {
        return Err(Malformed);
    }
    let line = &buffer[at + 1..];
    let Some(end) = line.iter().take(20).position(|byte| *byte == b'\r') else {
        return if line.len() < 20 { Ok(None) } else { Err(Malformed) };
    };
    let number = std::str::from_utf8(&line[..end]).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)?;
    // The line feed may be missing; then so is what follows it.
    Ok(Some((number, at + 1 + end + 2)))
}

/// A command in wire format.
pub(crate) fn packed<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend(format!("${}\r\n", part.len()).bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn commands_are_taken_apart_wherever_they_are_cut() {
    let parts: [&[u8]; 3] = [b"SET", b"k\r\n", b""];
    let mut bytes = packed(parts.into_iter());
    let length = bytes.len();
    for cut in 0..length {
        assert!(command(&bytes[..cut]).unwrap().is_none(), "{cut}");
    }
    bytes.extend(b"*1\r\n$4\r\nPING");
    let first = command(&bytes).unwrap().unwrap();
    assert_eq!(first.length, length);
    assert_eq!(first.parts.iter().map(|part| &bytes[part.clone()]).collect::<Vec<_>>(), parts);
    for malformed in ["PING\r\n", "*x\r\n", "*1\r\n:5\r\n", "*1\r\n$99999999999999\r\n", "*300000\r\n"] {
        assert_eq!(command(malformed.as_bytes()).unwrap_err(), Malformed, "{malformed}");
    }
}
