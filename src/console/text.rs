//! Figures and texts as pages show them.

use crate::contract::{is_unprintable, printable_json};
use serde_json::Value;
use std::fmt::Write;

/// `12,345`
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things: `1 job`, `2,290 jobs`.
pub(super) fn count_of(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// A rate a second: `0.4`, `36`, `12,000`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative, and far below 2^53.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { grouped(per_second.round() as u64) }
}

/// Text from outside: characters that are not visible, or that change the direction of text, become escapes such as `\u{202e}`.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON for people, in lines, with escapes for what is not visible.
pub(super) fn shown_json(value: &Value) -> String {
    // A JSON value can always be written.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    printable_json(&text).into_owned()
}

/// The time of day of an RFC 3339 time in UTC: `03:12:28`.
pub(super) fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_hostile_text() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count_of(1, "job", "jobs") + &count_of(2_290, "job", "jobs"), "1 job2,290 jobs");
        assert_eq!(shown("a\u{202e}b\u{1b}"), "a\\u{202e}b\\u{1b}");
        assert_eq!([0.44, 36.4, 500_000.0].map(rate), ["0.4", "36", "500,000"]);
        assert_eq!(clock("2026-01-31T03:12:28.001Z"), "03:12:28");
    }
}
