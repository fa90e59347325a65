//! Formats numbers and durations for people.

use std::time::Duration;

/// Formats a count: `1 dead letter`, `20 dead letters`.
pub(super) fn counted(count: u64) -> String {
    format!("{count} dead {}", if count == 1 { "letter" } else { "letters" })
}

/// Formats a duration, rounded up: `1 h 5 min`, `42 s`.
pub(super) fn spoken(time: Duration) -> String {
    let s = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        let spoken = [400, 125_000, 3_725_001].map(|ms| spoken(Duration::from_millis(ms)));
        assert_eq!(spoken, ["1 s", "2 min 5 s", "1 h 2 min"]);
        assert_eq!((counted(1).as_str(), counted(0).as_str()), ("1 dead letter", "0 dead letters"));
    }
}
