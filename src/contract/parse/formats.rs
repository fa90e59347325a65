//! The valid text of each field. Each rule returns an error that describes the valid form and never repeats the text.

use crate::contract::{
    AddressType, CallerId, CustomerReference, Email, Gender, JobId, MerchantId, PersonalText, PhoneNumber,
    VerificationCode,
};
use email_address::{EmailAddress, Options};
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

pub(super) type Checked<T> = Result<T, &'static str>;

/// Checks a job's id against the maximum length of its generation.
pub(super) fn job_id(text: &str, max_bytes: usize) -> Checked<JobId> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    if text.len() > max_bytes || !text.bytes().all(allowed) {
        return Err("must be 1 to 128 of `A-Z a-z 0-9 . _ : / -`");
    }
    Ok(JobId::from_checked(text))
}

/// Checks a caller id: any text of at most 256 bytes.
pub(super) fn caller_id(text: &str) -> Checked<CallerId> {
    if text.len() > 256 { Err("must be 1 to 256 bytes") } else { Ok(CallerId::from_checked(text)) }
}

/// Checks the merchant's own identifier of a customer. It must be short enough to serve as a caller id and safe as one
/// path segment. `.` and `..` are refused: URLs resolve them, encoded or not, so the call would go to another resource.
pub(super) fn customer_reference(text: &str) -> Checked<CustomerReference> {
    if text.len() > 256 || text.chars().any(char::is_control) || matches!(text, "." | "..") {
        return Err("must be 1 to 256 bytes without control characters, and neither `.` nor `..`");
    }
    Ok(CustomerReference::from_checked(text))
}

/// Checks the name of a batch.
pub(super) fn batch(text: &str) -> Checked<&str> {
    if text.len() > 128 || text.chars().any(char::is_control) {
        return Err("must be 1 to 128 bytes without control characters");
    }
    Ok(text)
}

/// Accepts only the hyphenated form, which XCO uses in paths and bodies.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

const UUID: &str = "must be a UUID such as 01234567-89ab-cdef-0123-456789abcdef";

pub(super) fn merchant_id(text: &str) -> Checked<MerchantId> {
    if is_uuid(text) { Ok(MerchantId::from_checked(text)) } else { Err(UUID) }
}

pub(super) fn challenge_id(text: &str) -> Checked<String> {
    if is_uuid(text) { Ok(text.to_owned()) } else { Err(UUID) }
}

/// Checks an email address and returns it in normal form C (RFC 6532 §3.1), because a Mac writes an accent as a
/// separate character. It must be a bare address: no display name, no `[literal]` domain, and at least two domain
/// labels.
pub(super) fn email(text: &str) -> Checked<Email> {
    const OPTIONS: Options = Options { minimum_sub_domains: 2, allow_domain_literal: false, allow_display_text: false };
    // 254 bytes is the longest address in an SMTP path (RFC 5321). White space is legal only in quotes, and no real
    // address has it.
    let text: &str = &normal(text);
    let plausible = text.len() <= 254 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if plausible && EmailAddress::parse_with_options(text, OPTIONS).is_ok() {
        Ok(Email::from_checked(text))
    } else {
        Err("must be an email address such as name@example.com")
    }
}

/// Returns the text in normal form C.
fn normal(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Checks an E.164 number: at most 15 digits, and the first is not 0. No numbering plan has fewer than 7 digits with
/// its country code.
pub(super) fn phone_number(text: &str) -> Checked<PhoneNumber> {
    let valid = text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if valid {
        Ok(PhoneNumber::from_checked(text))
    } else {
        Err("must be a phone number in E.164 form: `+`, country code and number, 7 to 15 digits and nothing else")
    }
}

pub(super) fn verification_code(text: &str) -> Checked<VerificationCode> {
    if text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be 1 to 32 visible ASCII characters");
    }
    Ok(VerificationCode::from_checked(text))
}

/// Accepts any text as a name or a part of an address.
#[allow(clippy::unnecessary_wraps, reason = "a rule like the others")]
pub(super) fn personal(text: &str) -> Checked<PersonalText> {
    Ok(PersonalText::from_checked(text))
}

pub(super) fn gender(text: &str) -> Checked<Gender> {
    match text {
        "male" => Ok(Gender::Male),
        "female" => Ok(Gender::Female),
        "other" => Ok(Gender::Other),
        _ => Err("must be one of male, female, other"),
    }
}

pub(super) fn address_type(text: &str) -> Checked<AddressType> {
    match text {
        "billing" => Ok(AddressType::Billing),
        "delivery" => Ok(AddressType::Delivery),
        _ => Err("must be one of billing, delivery"),
    }
}

/// Checks a calendar date, `YYYY-MM-DD`.
pub(super) fn birthdate(text: &str) -> Checked<PersonalText> {
    let date = match text.as_bytes() {
        [y @ .., b'-', m1, m2, b'-', d1, d2] if y.len() == 4 => number(y)
            .filter(|year| *year > 0)
            .zip(number(&[*m1, *m2]).zip(number(&[*d1, *d2])))
            .and_then(|(year, (month, day))| {
                jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
            }),
        _ => None,
    };
    if date.is_some() { Ok(PersonalText::from_checked(text)) } else { Err("must be a date, YYYY-MM-DD") }
}

fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0_i16, |value, digit| {
        digit.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(i16::from(digit - b'0')))?
    })
}

/// Parses RFC 3339 into milliseconds since 1970, rounded up so that a job never starts early. A time before 1970
/// becomes 0.
///
/// Accepts every time that RFC 3339 can write, from the year 0000 to the last second of 9999, with any offset. The
/// score of a sorted set holds each of them exactly.
pub(super) fn run_at_ms(text: &str) -> Checked<u64> {
    parse_rfc3339(text).ok_or(
        "must be a moment in RFC 3339 form, such as 2026-01-31T09:00:00Z: a date of the years 0000 to 9999, `T`, a time, \
         and `Z` or an offset such as +01:00",
    )
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    const DATE_AND_TIME: &[u8] = b"0000-00-00T00:00:00";
    const MINUTE_S: i64 = 60;
    let (clock, rest) = text.as_bytes().split_at_checked(DATE_AND_TIME.len())?;
    if !has_shape(DATE_AND_TIME, clock) {
        return None;
    }
    let field = |from: usize, to: usize| number(clock.get(from..to)?);
    let small = |from: usize| i8::try_from(field(from, from + 2)?).ok();
    let date = jiff::civil::Date::new(field(0, 4)?, small(5)?, small(8)?).ok()?;
    let (hour, minute, second) = (small(11)?, small(14)?, small(17)?);
    let midnight = date.duration_since(jiff::civil::date(1970, 1, 1)).as_secs();
    let (fraction, zone) = match rest.strip_prefix(b".") {
        Some(rest) => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        None => (b"0".as_slice(), rest),
    };
    if fraction.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = midnight + i64::from(hour) * 60 * MINUTE_S + i64::from(minute) * MINUTE_S + i64::from(second);
    let at = local - offset_s(zone)?;
    // A leap second ends a UTC day. It has no number of its own, so it counts as the following second.
    if second == 60 && at.rem_euclid(24 * 60 * MINUTE_S) != 0 {
        return None;
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |byte| u64::from(byte - b'0'));
    let below = fraction.iter().skip(3).any(|byte| *byte != b'0');
    let millis = digit(0) * 100 + digit(1) * 10 + digit(2) + u64::from(below);
    Some(u64::try_from(at).map_or(0, |at| at * 1000 + millis))
}

/// Parses `Z` or an offset such as `+01:00` into seconds. An offset is less than a day.
fn offset_s(zone: &[u8]) -> Option<i64> {
    if zone.eq_ignore_ascii_case(b"Z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(rest.get(..2)?)?, number(rest.get(3..)?)?);
    (has_shape(b"00:00", rest) && hours < 24 && minutes < 60)
        .then_some(sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60)
}

/// Whether `bytes` match `shape`, where `0` is any digit and a letter matches in either case.
fn has_shape(shape: &[u8], bytes: &[u8]) -> bool {
    shape.len() == bytes.len()
        && shape.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte.eq_ignore_ascii_case(other),
        })
}

/// Checks a `traceparent` (W3C Trace Context): version 00, or a later version that begins in the same way.
pub(super) fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (bytes.get(..2), bytes.get(3..35), bytes.get(36..52), bytes.get(53..55))
    else {
        return false;
    };
    let dashes = [2, 35, 52].into_iter().all(|index| bytes[index] == b'-');
    let ends = match version {
        b"00" => bytes.len() == 55,
        b"ff" => false,
        // A later version may append unknown text after a dash. The limit of 512 bytes bounds what is echoed.
        _ => bytes.len() == 55 || (bytes[55] == b'-' && bytes.len() <= 512 && bytes.iter().all(u8::is_ascii_graphic)),
    };
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == b'0');
    dashes && ends && [version, trace, span, flags].into_iter().all(hex) && !zero(trace) && !zero(span)
}

/// Checks a `tracestate`: a list of `key=value` of at most 512 bytes, the size that W3C asks every system to carry.
pub(super) fn is_tracestate(text: &str) -> bool {
    text.len() <= 512
        && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && text.contains('=')
        && text.split(',').map(str::trim).all(|member| member.is_empty() || member.find('=').is_some_and(|at| at > 0))
}
