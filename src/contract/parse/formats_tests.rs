//! Tests of each field's format, with examples on both sides of every bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::formats::*;

#[test]
fn emails() {
    for text in ["a@b.fr", "john.doe+tag@mail.example.com", "o'neil@exa-mple.co", "jörg@exämple.de"] {
        assert!(email(text).is_ok(), "{text}");
    }
    // A Mac writes letters and their accents as separate characters.
    assert_eq!(email("Rene\u{301}@mu\u{308}nchen.de").unwrap().expose(), "Ren\u{e9}@m\u{fc}nchen.de");
    let long = format!("{}@{}.com", "a".repeat(64), "b.".repeat(95));
    for text in [
        "a",
        "a@",
        "@b.fr",
        "a@b",
        "a b@c.fr",
        "a@b..fr",
        "a@b.fr ",
        " a@b.fr",
        "a@b.fr\n",
        "a@@b.fr",
        "A <a@b.fr>",
        "a@[127.0.0.1]",
        ".a@b.fr",
        "a@-b.fr",
        "\"a b\"@c.fr",
        " <a@b.fr>",
        &long,
    ] {
        assert!(email(text).is_err(), "{text}");
    }
}

#[test]
fn phone_numbers() {
    for text in ["+33612345678", "+6834000", "+123456789012345"] {
        assert!(phone_number(text).is_ok(), "{text}");
    }
    for text in [
        "33612345678",
        "+",
        "+0612345678",
        "+336 12345678",
        "+1234567890123456",
        "+123456",
        "0033612345678",
        "+3361234567٣",
    ] {
        assert!(phone_number(text).is_err(), "{text}");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for text in ["1990-01-15", "2000-02-29", "0001-01-01", "9999-12-31"] {
        assert!(birthdate(text).is_ok(), "{text}");
    }
    for text in [
        "1990-02-30",
        "1900-02-29",
        "1990-13-01",
        "1990-1-15",
        "15/01/1990",
        "1990-01-15T00:00:00Z",
        "0000-01-01",
        "19900115",
        "+990-01-15",
        "1990-00-10",
    ] {
        assert!(birthdate(text).is_err(), "{text}");
    }
}

#[test]
fn moments_are_rfc_3339_and_round_up() {
    for (text, ms) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-11-22T08:43:20Z", 1_732_265_000_000),
        ("2024-11-22t08:43:20.042z", 1_732_265_000_042),
        ("2024-11-22T09:43:20+01:00", 1_732_265_000_000),
        ("2024-11-22T03:43:20-05:00", 1_732_265_000_000),
        ("2024-11-22T08:43:20-00:00", 1_732_265_000_000),
        ("2024-11-22T08:43:20.0420001Z", 1_732_265_000_043),
        ("2024-11-22T08:43:20.0000000000000001Z", 1_732_265_000_001),
        ("2024-11-22T08:43:20.120000000000000Z", 1_732_265_000_120),
        ("1969-07-20T20:17:40.5Z", 0),
        // The earliest and the latest time of the format, with every offset.
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("9999-12-31t23:59:59.999z", 253_402_300_799_999),
        ("9999-12-31T23:59:59.9999-23:59", 253_402_387_140_000),
        ("0000-01-01T00:00:00Z", 0),
        ("0000-01-01T00:00:00+23:59", 0),
        ("0001-01-01T00:00:00-14:00", 0),
        ("2024-11-22T22:43:20+14:00", 1_732_265_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1970-01-01T00:00:00-00:01", 60_000),
        // Fractions with one digit and with very many.
        ("2024-11-22T08:43:20.1Z", 1_732_265_000_100),
        ("2024-11-22T08:43:20.12+00:00", 1_732_265_000_120),
        ("2024-11-22T08:43:20.000000001Z", 1_732_265_000_001),
        ("2024-11-22T08:43:20.9999999999Z", 1_732_265_001_000),
        (&format!("2024-11-22T08:43:20.{}Z", "0".repeat(500)), 1_732_265_000_000),
        // A leap second, in any time zone.
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2016-12-31T23:59:60.25Z", 1_483_228_800_250),
        ("2016-12-31T15:59:60-08:00", 1_483_228_800_000),
        ("2017-01-01T05:29:60+05:30", 1_483_228_800_000),
    ] {
        assert_eq!(run_at_ms(text), Ok(ms), "{text}");
    }
    for text in [
        "2024-11-22",
        "2024-11-22T08:43Z",
        "2024-11-22T08:43:20",
        "2024-11-22 08:43:20Z",
        "20241122T084320Z",
        "2024-11-22T08:43:20.Z",
        "2024-11-22T08:43:20+0100",
        "2024-11-22T08:43:20+01",
        "2024-11-22T08:43:20Z[UTC]",
        "2024-02-30T08:43:20Z",
        "2024-11-22T24:00:00Z",
        "2024-11-22T08:60:20Z",
        "1732265000",
        "now",
        "2024-11-22T08:43:20,5Z",
        "2024-11-22T08:43:20é",
        "2024-11-22T08:43:2éZ",
        "10000-01-01T00:00:00Z",
        "+12024-11-22T08:43:20Z",
        "-0001-11-22T08:43:20Z",
        "2024-11-22T08:43:61Z",
        "2024-11-22T08:43:60Z",
        "2016-12-31T23:59:60+01:00",
        "2024-11-22T08:43:20+24:00",
        "2024-11-22T08:43:20+01:60",
        "2024-11-22T08:43:20±01:00",
        "2024-11-22T08:43:20+1:000",
        "2024-00-22T08:43:20Z",
        "2024-11-00T08:43:20Z",
        "2023-02-29T08:43:20Z",
        "2024-11-22T08:43:20.5",
        "2024-11-22T08:43:20.-5Z",
        "2024-11-22T08:43:20ZZ",
        "",
    ] {
        assert!(run_at_ms(text).is_err(), "{text}");
    }
}

#[test]
fn uuids_are_hyphenated() {
    assert!(merchant_id("01234567-89ab-cdef-0123-456789ABCDEF").is_ok());
    for text in [
        "0123456789abcdef0123456789abcdef",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "x",
    ] {
        assert!(merchant_id(text).is_err() && challenge_id(text).is_err(), "{text}");
    }
}

#[test]
fn ids_and_references() {
    assert!(job_id(&"a".repeat(128), 128).is_ok());
    assert!(job_id("AZaz09._:/-", 128).is_ok());
    for text in ["a b", "é", "a\n", "a|b", &"a".repeat(129)] {
        assert!(job_id(text, 128).is_err(), "{text}");
    }
    assert!(caller_id(&"x".repeat(256)).is_ok() && caller_id(&"x".repeat(257)).is_err());
    assert!(customer_reference("client/42 é").is_ok() && customer_reference("...").is_ok());
    assert!(customer_reference(".").is_err() && customer_reference("..").is_err());
    assert!(customer_reference("a\u{0}").is_err() && customer_reference(&"é".repeat(129)).is_err());
    assert!(batch(&"b".repeat(128)).is_ok() && batch(&"b".repeat(129)).is_err() && batch("a\tb").is_err());
    // XCO decides how long a name or a street may be.
    assert!(personal(&"é".repeat(256)).is_ok() && personal(&"é".repeat(20_000)).is_ok());
    assert!(verification_code("12-34/Ab!").is_ok() && verification_code(&"1".repeat(32)).is_ok());
    for text in ["12 34", "é", "1\n", &"1".repeat(33)] {
        assert!(verification_code(text).is_err(), "{text}");
    }
}

#[test]
fn trace_contexts() {
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    assert!(is_traceparent(&format!("00-{trace}-{span}-01")));
    assert!(is_traceparent(&format!("cc-{trace}-{span}-01")));
    assert!(is_traceparent(&format!("cc-{trace}-{span}-01-what-will-come")));
    for text in [
        String::new(),
        "x".to_owned(),
        format!("00-{trace}-{span}-01-more"),
        format!("cc-{trace}-{span}-01.more"),
        format!("cc-{trace}-{span}-01-{}", "x".repeat(512)),
        format!("ff-{trace}-{span}-01"),
        format!("00-{}-{span}-01", "0".repeat(32)),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{}-{span}-01", trace.to_uppercase()),
        format!("00-{trace}-{span}-0"),
        format!("00_{trace}-{span}-01"),
        format!(" 00-{trace}-{span}-01"),
        "é".repeat(30),
    ] {
        assert!(!is_traceparent(&text), "{text}");
    }
    assert!(is_tracestate("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE") && is_tracestate("a=1, b@c=2,"));
    for text in ["", "novalue", "=x", "a=\r\nX-Evil: 1", "a=é", &format!("a={}", "x".repeat(511))] {
        assert!(!is_tracestate(text), "{text}");
    }
}
