//! Reads `Retry-After` (RFC 9110 §10.2.3), in seconds or as a date, as a delay from now. Pure.

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use std::time::Duration;

/// Maximum delay: one day. A longer one is cut to it.
pub(super) const MAX: Duration = Duration::from_secs(24 * 3600);

/// The delay that `value` asks for, or `None` if it is malformed.
///
/// A date is compared with the answer's own `Date`, so that a wrong clock on either side does no harm, or with `now` if
/// the answer has none. A date in the past means no delay.
pub(super) fn parse(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too long to parse is more than a day.
        return Some(value.parse().map_or(MAX, Duration::from_secs).min(MAX));
    }
    let until = http_date(value)?;
    let from = date.and_then(http_date).unwrap_or(now);
    let seconds = until.as_second().saturating_sub(from.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX))
}

/// Parses all three forms that a recipient must accept (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`, and the
/// obsolete `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. Also accepts the first form with another
/// zone than GMT, as in mail.
fn http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    match httpdate::parse_http_date(text) {
        Ok(time) => Timestamp::try_from(time).ok(),
        Err(_) => DateTimeParser::new().parse_timestamp(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_form() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let seconds = |n| Some(Duration::from_secs(n));
        for (value, date, delay) in [
            ("0", None, seconds(0)),
            ("7", None, seconds(7)),
            (" 7 ", None, seconds(7)),
            ("86401", None, Some(MAX)),
            ("99999999999999999999999999", None, Some(MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, seconds(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("Sun, 06 Nov 1994 08:49:17 GMT"), seconds(20)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("nonsense"), seconds(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", None, seconds(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, seconds(7)),
            ("Sun Nov  6 08:49:37 1994", None, seconds(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some("Sun Nov  6 08:49:17 1994"), seconds(20)),
            ("Sun Nov  6 08:49:37 1994", Some("Sunday, 06-Nov-94 08:49:17 GMT"), seconds(20)),
            ("Sun, 06 Nov 1994 10:49:37 +0200", None, seconds(7)),
            ("Saturday, 06-Nov-93 08:49:37 GMT", None, seconds(0)),
            ("Sun Nov 31 08:49:37 1994", None, None),
            ("Sun Nov  6 08:49:37 1994 CET", None, None),
            ("Sunday, 06-Nov-94 08:49:37", None, None),
            ("Tue, 06 Nov 2096 08:49:37 GMT", None, Some(MAX)),
            ("", None, None),
            ("-1", None, None),
            ("1.5", None, None),
            ("soon", None, None),
            ("1994-11-06T08:49:37Z", None, None),
        ] {
            assert_eq!(parse(value, date, now), delay, "{value:?}");
        }
    }
}
