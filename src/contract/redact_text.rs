//! Masks codes in text of unknown form: broken JSON, form data, a log line that was enqueued by mistake.
//!
//! In case of doubt it masks. Too much masking does little harm, because such input could not be used anyway.

/// The text that replaces a code.
pub(super) const MASK: &str = "***";

/// The form of a text without its content: each letter becomes `x`, and each digit `0`.
pub fn shape(text: &str) -> String {
    let masked = |c: char| match c {
        c if c.is_numeric() => '0',
        c if c.is_alphabetic() => 'x',
        c => c,
    };
    text.chars().map(masked).collect()
}

/// Text with `\u` escapes decoded and control characters removed, so that neither can hide the name of a code.
pub(super) struct Text(String);

impl Text {
    /// Whether the text needs a closer look. This is a cheap test that never returns a wrong `false`.
    pub(super) fn may_name_a_code(text: &str) -> bool {
        find_name(text.as_bytes(), 0).is_some() || text.contains("\\u") || text.chars().any(is_dropped)
    }

    pub(super) fn new(text: &str) -> Self {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            let unescaped = escape.trim_start_matches('\\');
            out.extend(before.chars().filter(|c| !is_dropped(*c)));
            rest = if let Some((read, after)) = read_escape(unescaped) {
                out.push(read);
                after
            } else {
                out.push_str(&escape[..escape.len() - unescaped.len()]);
                unescaped
            };
        }
        out.extend(rest.chars().filter(|c| !is_dropped(*c)));
        Self(out)
    }

    /// Whether the text contains the name `verification_code` in any spelling.
    pub(super) fn names_a_code(&self) -> bool {
        find_name(self.0.as_bytes(), 0).is_some()
    }

    /// Masks the value after every `verification_code`, and every run of four or more digits. With `cut`, the text is
    /// only the beginning of the input, so digits at its end are masked too: they may be the start of a longer run.
    pub(super) fn mask(&self, cut: bool) -> String {
        let text = &self.0;
        let mut named = String::with_capacity(text.len());
        let mut from = 0;
        while let Some(name_end) = find_name(text.as_bytes(), from) {
            let (start, end) = value_after(text.as_bytes(), name_end);
            // Every bound is next to an ASCII character or at the end, so it is a character boundary.
            named.push_str(text.get(from..start).unwrap_or_default());
            named.push_str(MASK);
            from = end;
        }
        named.push_str(text.get(from..).unwrap_or_default());
        mask_digits(&named, cut)
    }
}

/// Whether a character is a control character other than white space, such as the NULs in UTF-16 that is read as UTF-8.
fn is_dropped(c: char) -> bool {
    c.is_control() && !c.is_ascii_whitespace()
}

/// Decodes an escape such as `u0076`, whose backslashes were already removed, if it is a printable ASCII character.
/// Returns that character and the remaining text.
fn read_escape(text: &str) -> Option<(char, &str)> {
    let hex = text.strip_prefix('u')?;
    let code = hex.get(..4).and_then(|hex| u8::from_str_radix(hex, 16).ok())?;
    // A quote or a backslash stays escaped because it is part of a value and does not end it.
    let plain = (code.is_ascii_graphic() || code == b' ') && code != b'"' && code != b'\\';
    plain.then(|| (char::from(code), &hex[4..]))
}

/// Returns the end of the next `verification_code`, in any case. Between the two words there may be `%5F` and up to
/// four bytes that are not letters or digits.
fn find_name(bytes: &[u8], from: usize) -> Option<usize> {
    const FIRST: &[u8] = b"verification";
    const LAST: &[u8] = b"code";
    let starts =
        |at: usize, word: &[u8]| bytes.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    (from..bytes.len()).filter(|at| starts(*at, FIRST)).find_map(|at| {
        let mut at = at + FIRST.len();
        if starts(at, b"%5f") {
            at += 3;
        }
        let gap = bytes[at..].iter().take(5).take_while(|byte| !byte.is_ascii_alphanumeric()).count();
        (gap < 5 && starts(at + gap, LAST)).then_some(at + gap + LAST.len())
    })
}

/// Returns the start and the end of the value that follows a name ending at `from`.
fn value_after(bytes: &[u8], from: usize) -> (usize, usize) {
    let mut at = from;
    let mut assigned = false;
    let mut backslashes = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' if assigned => return (at + 1, quoted_end(bytes, at + 1, *byte, backslashes)),
            b'[' | b'{' => return (at, bytes.len()),
            b':' | b'=' | b'>' | b',' | b'(' => assigned = true,
            b'"' | b'\'' | b'\\' => {}
            b'%' if bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => at += 2,
            byte if byte.is_ascii_whitespace() => {}
            _ => break,
        }
        backslashes = if *byte == b'\\' { backslashes + 1 } else { 0 };
        at += 1;
    }
    let length = bytes[at..].iter().take_while(|byte| !b",}]&;<\n\r".contains(byte)).count();
    (at, at + length)
}

/// Returns the end of a quoted value whose opening quote follows this number of backslashes. A quote after more
/// backslashes is part of the value.
fn quoted_end(bytes: &[u8], start: usize, quote: u8, backslashes: usize) -> usize {
    let mut run = 0;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        if *byte == quote && run <= backslashes {
            return at - run;
        }
        run = if *byte == b'\\' { run + 1 } else { 0 };
    }
    bytes.len()
}

fn mask_digits(text: &str, cut: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let other = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, from_digit) = rest.split_at(other);
        let length = from_digit.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = from_digit.split_at(length);
        out.push_str(before);
        out.push_str(if length >= 4 || (cut && after.is_empty() && length > 0) { MASK } else { digits });
        rest = after;
    }
    out
}

/// `sha256:` and the first twelve hexadecimal digits of the hash of a text: it shows whether two texts are the same, and not which.
pub fn fingerprint(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(6).fold("sha256:".to_owned(), |shown, byte| format!("{shown}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_however_they_are_written() {
        for (text, masked) in [
            (r#"{"verification_code":"12ab","type":"x""#, r#"{"verification_code":"***","type":"x""#),
            (r#"{"verification_code" : "","type":"x""#, r#"{"verification_code" : "***","type":"x""#),
            (r#"{"verification_code":12,"type":"x""#, r#"{"verification_code":***,"type":"x""#),
            (r#"{\"verification_code\":\"1\\\"2ab\",\"type\""#, r#"{\"verification_code\":\"***\",\"type\""#),
            (r#"{"verification_code":"1\"2ab","type""#, r#"{"verification_code":"***","type""#),
            (r#"{"verification_code":["1a","2b"],"type":"x""#, r#"{"verification_code":***"#),
            ("verification_code='1a 2b' ok", "verification_code='***' ok"),
            ("'verification_code' => '1a'", "'verification_code' => '***'"),
            ("Verification-Code: 1a 2b\nHost: x", "Verification-Code: ***\nHost: x"),
            ("verificationCode=1a&b=2", "verificationCode=***&b=2"),
            ("%22verification%5Fcode%22%3A%221a2b%22", "%22verification%5Fcode%22%3A%22***"),
            ("<verification_code>1a</verification_code>", "<verification_code>***</verification_code>***"),
            ("verification_code", "verification_code***"),
            (r#""\u0076erification_code":"1a""#, r#""verification_code":"***""#),
            (r#""\\\\u0076erification_code":"1a""#, r#""verification_code":"***""#),
            ("call 0612 or 612", "call *** or 612"),
            ("verification_code: é1a, é", "verification_code: ***, é"),
        ] {
            assert_eq!(Text::new(text).mask(false), masked, "{text}");
        }
        assert_eq!(Text::new("ab 12").mask(true), "ab ***");
        assert_eq!(Text::new("ab 12 ").mask(true), "ab 12 ");
    }

    #[test]
    fn other_names_are_let_be() {
        for text in
            ["verification", "code", "postal_code", "verification of the code", "verification-----code", "C:\\users"]
        {
            assert!(!Text::new(text).names_a_code(), "{text}");
        }
        assert!(!Text::may_name_a_code("verification of the address"));
    }
}
