//! Text from outside, made safe for a terminal.

use std::{borrow::Cow, fmt::Write};

/// Whether a terminal would obey the character instead of showing it: control characters (C0, DEL and C1), line and paragraph
/// separators, and the controls that change the direction of text.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every unprintable character replaced by `\u{fffd}`. For a single value: line breaks are replaced, too.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

/// JSON with every unprintable character but line breaks written as `\uXXXX`. The values stay the same.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c == '\n' || !is_unprintable(c);
    if json.chars().all(is_safe) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_safe(c) {
            out.push(c);
        } else {
            // All of them are in the basic plane, so each is one escape. Writing to a string cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\u{7f}\u{9b}31m\u{85}\u{202e}gpj\u{2066}\u{200f}\u{61c}\u{2028}é\u{200d}";

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let text = printable(HOSTILE);
        assert!(!text.chars().any(is_unprintable), "{text:?}");
        assert!(text.contains('é') && text.contains('\u{200d}') && text.starts_with("a\u{fffd}[2J"), "{text:?}");
        assert_eq!(printable("a\nb"), "a\u{fffd}b");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({"name": HOSTILE, "plain": "é"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let safe = printable_json(&json);
        assert!(!safe.replace('\n', "").chars().any(is_unprintable), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        assert!(matches!(printable_json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }
}
