//! Durations (`500ms`, `10s`, `2m`, `1h`, `7d`) and rates (`10/s`, `3/m`, `100/h`).

use std::time::Duration;

/// A rate, kept as the time between two calls so that limiter arithmetic stays in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds between calls; at least 1.
    pub interval_us: u64,
}

impl Rate {
    /// Calls a second.
    pub fn per_second(self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let interval = self.interval_us as f64;
        1_000_000.0 / interval
    }

    /// How many calls one second holds at this rate, at least 1: the burst of a bucket that names none.
    pub fn one_second_burst(self) -> u32 {
        let interval_us = self.interval_us.max(1);
        // The interval of `7/s` is rounded up, so the number of calls is rounded to the nearest.
        u32::try_from((1_000_000 + interval_us / 2) / interval_us).unwrap_or(u32::MAX).max(1)
    }
}

/// The longest duration that configuration may name: ten years of 365 days, so that sums of several never overflow.
const LONGEST_MS: u64 = 3650 * 86_400_000;

/// Units of duration, the largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `500ms`, `10s`, `2m`, `1h` or `7d`: a whole number and a unit, nothing between or around them.
///
/// The error says what would be right, and does not quote `text`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "a duration is a whole number and a unit: 500ms, 10s, 2m, 1h, 7d";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(WANTED.to_owned());
    }
    let Some((_, unit_ms)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        return Err(WANTED.to_owned());
    };
    // Digits alone fail to parse only by being too many.
    let total_ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).filter(|ms| *ms <= LONGEST_MS);
    total_ms.map(Duration::from_millis).ok_or_else(|| "a duration of at most 3650d".to_owned())
}

/// The duration as [`parse_duration`] reads it, in the largest unit that needs no fraction; below a millisecond is
/// dropped.
pub fn format_duration(duration: Duration) -> String {
    let total_ms = duration.as_millis();
    UNITS
        .into_iter()
        .find(|(_, unit_ms)| total_ms > 0 && total_ms.is_multiple_of(u128::from(*unit_ms)))
        .map_or_else(|| "0s".to_owned(), |(unit, unit_ms)| format!("{}{unit}", total_ms / u128::from(unit_ms)))
}

/// Reads `10/s`, `3/m` or `100/h`: a whole number of calls, at least 1, at most a million a second.
///
/// The time between calls is rounded up to whole microseconds, so the rate kept is never above the one written. The
/// error says what would be right, and does not quote `text`.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    const WANTED: &str = "a rate is a whole number of calls per second, minute or hour: 10/s, 3/m, 100/h";
    let (number, unit) = text.split_once('/').ok_or(WANTED)?;
    let unit_us = match unit {
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000_u64,
        _ => return Err(WANTED.to_owned()),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WANTED.to_owned());
    }
    match number.parse::<u64>() {
        Ok(0) => Err("a rate of at least 1: to stop calls altogether, pause the queue".to_owned()),
        Ok(calls) if calls <= unit_us => Ok(Rate { interval_us: unit_us.div_ceil(calls) }),
        _ => Err("a rate of at most 1000000/s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms), "{text}");
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
        for (text, us) in [("10/s", 100_000), ("3/m", 20_000_000), ("100/h", 36_000_000), ("1000000/s", 1)] {
            assert_eq!(parse_rate(text).unwrap().interval_us, us, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "10", "s", "1.5s", "-1s", "+1s", " 1s", "1 s", "1S", "1w", "99999999999999999999s", "3651d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["", "/", "10", "/s", "0/s", "1/d", "1.5/s", "-1/s", "+1/s", "1000001/s", "1/s/s", "1/ s"] {
            assert!(parse_rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rate_is_never_rounded_above_what_was_written() {
        // 3/s: 333,334 µs, not 333,333, which would be four calls in 999,999 µs.
        assert_eq!(parse_rate("3/s").unwrap().interval_us, 333_334);
        assert_eq!(parse_rate("3/m").unwrap().one_second_burst(), 1);
        assert_eq!(parse_rate("50/s").unwrap().one_second_burst(), 50);
        assert_eq!(parse_rate("7/s").unwrap().one_second_burst(), 7);
    }

    proptest! {
        #[test]
        fn durations_round_trip(ms in 0..=LONGEST_MS) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn rates_keep_their_number(calls in 1..=100_000_u64, unit in prop::sample::select(vec![('s', 1e6), ('m', 6e7), ('h', 3.6e9)])) {
            let rate = parse_rate(&format!("{calls}/{}", unit.0)).unwrap();
            #[allow(clippy::cast_precision_loss)]
            let written_per_second = calls as f64 * 1e6 / unit.1;
            let kept = rate.per_second();
            prop_assert!(kept <= written_per_second * (1.0 + 1e-12) && kept > written_per_second * 0.9, "{} {}", kept, written_per_second);
        }

        #[test]
        fn never_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
            let _ = parse_rate(&text);
        }
    }
}
