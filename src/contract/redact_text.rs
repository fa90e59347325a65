//! Masking codes in text of which nothing is known: broken JSON, form data, a log line somebody enqueued.
//!
//! It rather masks too much: what is lost is a look at input that could not be used anyway.

/// What stands in the place of a code.
pub(super) const MASK: &str = "***";

/// Text with its `\u` escapes read and its control characters dropped, so that neither hides a name.
pub(super) struct Text(String);

impl Text {
    /// Whether it is worth a closer look: cheap, and never wrongly no.
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

    /// Whether the name `verification_code` stands in it, in any spelling.
    pub(super) fn names_a_code(&self) -> bool {
        find_name(self.0.as_bytes(), 0).is_some()
    }

    /// The text with the value after every `verification_code` masked, and every run of four digits or more. With `cut`,
    /// the text goes on, unseen: digits at its end may be the beginning of such a run.
    pub(super) fn mask(&self, cut: bool) -> String {
        let text = &self.0;
        let mut named = String::with_capacity(text.len());
        let mut from = 0;
        while let Some(name_end) = find_name(text.as_bytes(), from) {
            let (start, end) = value_after(text.as_bytes(), name_end);
            // Every bound lies beside an ASCII character or at the end, so on a character's boundary.
            named.push_str(text.get(from..start).unwrap_or_default());
            named.push_str(MASK);
            from = end;
        }
        named.push_str(text.get(from..).unwrap_or_default());
        mask_digits(&named, cut)
    }
}

/// Control characters other than white space: NULs of UTF-16 read as UTF-8, for one.
fn is_dropped(c: char) -> bool {
    c.is_control() && !c.is_ascii_whitespace()
}

/// `u0076`, which stood behind any number of backslashes, as the printable ASCII character it means; and what follows.
fn read_escape(text: &str) -> Option<(char, &str)> {
    let hex = text.strip_prefix('u')?;
    let code = hex.get(..4).and_then(|hex| u8::from_str_radix(hex, 16).ok())?;
    // A quote or a backslash stays escaped: it is part of a value, not its end.
    let plain = (code.is_ascii_graphic() || code == b' ') && code != b'"' && code != b'\\';
    plain.then(|| (char::from(code), &hex[4..]))
}

/// The end of the next `verification_code` in any case, with up to four bytes that are no letters or digits (or `%5F`)
/// between the two words.
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

/// Where the value of a name that ended at `from` begins and ends.
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

/// The end of a value whose opening quote stood behind so many backslashes: a quote behind more is part of the value.
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
