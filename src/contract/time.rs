//! Moments as the contract writes them, and spans of time as it counts them.

use std::time::Duration;

const DAY_MS: u64 = 86_400_000;

/// The last time that RFC 3339 can write: 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;

/// A span of time in whole milliseconds, at most `u64::MAX`.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `ms` milliseconds since 1970 as RFC 3339 in UTC, with exactly milliseconds: `2026-01-31T09:05:07.042Z`.
///
/// A time after the year 9999, which RFC 3339 cannot write, becomes the last millisecond of that year.
pub fn format_ms(ms: u64) -> String {
    let ms = ms.min(LAST_MS);
    let (year, month, day) = civil(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    let mut out = String::with_capacity(24);
    push(&mut out, year, 4);
    out.push('-');
    push(&mut out, month, 2);
    out.push('-');
    push(&mut out, day, 2);
    out.push('T');
    push(&mut out, of_day / 3_600_000, 2);
    out.push(':');
    push(&mut out, of_day / 60_000 % 60, 2);
    out.push(':');
    push(&mut out, of_day / 1_000 % 60, 2);
    out.push('.');
    push(&mut out, of_day % 1_000, 3);
    out.push('Z');
    out
}

/// Converts days since 1970 into year, month and day of the proleptic Gregorian calendar. This is Howard Hinnant's
/// `civil_from_days` for days that are not negative.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

fn push(out: &mut String, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = u8::try_from(value / 10_u64.pow(place) % 10).unwrap_or_default();
        out.push(char::from(b'0' + digit));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_732_265_000_042, "2024-11-22T08:43:20.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_ms(ms), text);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(ms in 0..=253_402_207_200_000_u64) {
            let moment = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
            prop_assert_eq!(format_ms(ms), format!("{moment:.3}"));
        }

        #[test]
        fn never_panics(ms: u64) {
            prop_assert_eq!(format_ms(ms).len(), 24);
        }
    }
}
