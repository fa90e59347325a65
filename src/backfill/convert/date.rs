//! Dates as files write them.

use jiff::civil::Date;
use std::{fmt, str::FromStr};

/// Years below this number are years of this century, if they have two digits. Spreadsheets read them so, too.
const CENTURY_BEGINS: i16 = 30;

/// How a file writes dates: `DD/MM/YYYY`.
///
/// A day or a month may have one digit where something else than a digit follows. A year of two digits (`YY`) is 2000 to 2029,
/// or else 1930 to 1999: a rule that is the same in every run. Midnight behind the date is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateFormat(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Day,
    Month,
    Year,
    ShortYear,
    Text(char),
}

const PARTS: [(&str, Token); 4] =
    [("YYYY", Token::Year), ("YY", Token::ShortYear), ("MM", Token::Month), ("DD", Token::Day)];

impl FromStr for DateFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "wanted are DD, MM and YYYY (or YY), once each, such as DD/MM/YYYY".to_owned();
        let upper = text.to_ascii_uppercase();
        let mut rest = upper.as_str();
        let mut tokens = Vec::new();
        while let Some(first) = rest.chars().next() {
            let part = PARTS.iter().find_map(|(name, token)| Some((rest.strip_prefix(name)?, *token)));
            let (after, token) = match part {
                Some(part) => part,
                None if first.is_alphanumeric() => return Err(wrong()),
                None => (&rest[first.len_utf8()..], Token::Text(first)),
            };
            tokens.push(token);
            rest = after;
        }
        let count = |wanted: &[Token]| tokens.iter().filter(|token| wanted.contains(token)).count();
        let each = [&[Token::Day][..], &[Token::Month], &[Token::Year, Token::ShortYear]];
        if tokens.len() > 16 || each.into_iter().any(|wanted| count(wanted) != 1) {
            return Err(wrong());
        }
        Ok(Self(tokens))
    }
}

impl fmt::Display for DateFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| match token {
            Token::Text(text) => write!(f, "{text}"),
            token => f.write_str(PARTS.iter().find(|(_, part)| part == token).map_or("", |(name, _)| name)),
        })
    }
}

impl DateFormat {
    /// The date as `YYYY-MM-DD`, if the text is a date in this format.
    pub(super) fn convert(&self, text: &str) -> Option<String> {
        let mut rest = text;
        let (mut day, mut month, mut year) = (0, 0, 0);
        for (index, token) in self.0.iter().enumerate() {
            let is_open = !self.0.get(index + 1).is_some_and(|next| !matches!(next, Token::Text(_)));
            match token {
                Token::Text(text) => rest = rest.strip_prefix(*text)?,
                Token::Day => day = number(&mut rest, 2, is_open)?,
                Token::Month => month = number(&mut rest, 2, is_open)?,
                Token::Year => year = number(&mut rest, 4, false)?,
                Token::ShortYear => {
                    year = number(&mut rest, 2, false)?;
                    year += if year < CENTURY_BEGINS { 2000 } else { 1900 };
                }
            }
        }
        let is_midnight = |rest: &str| {
            let clock = rest.strip_prefix([' ', 'T']).unwrap_or_default();
            clock.len() >= 4 && clock.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.'))
        };
        if year < 1 || !(rest.is_empty() || is_midnight(rest)) {
            return None;
        }
        let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        Some(date.to_string())
    }
}

/// Takes a number of `digits` digits, or of fewer if it is `open`, off the beginning of a text.
fn number(rest: &mut &str, digits: usize, open: bool) -> Option<i16> {
    let length = rest.bytes().take(digits).take_while(u8::is_ascii_digit).count();
    if length == 0 || (length < digits && !open) {
        return None;
    }
    let (number, after) = rest.split_at(length);
    *rest = after;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn convert(format: &str, text: &str) -> Option<String> {
        format.parse::<DateFormat>().unwrap().convert(text)
    }

    #[test]
    fn dates_of_any_order() {
        for (format, text, wanted) in [
            ("DD/MM/YYYY", "09/03/1985", Some("1985-03-09")),
            ("DD/MM/YYYY", "9/3/1985", Some("1985-03-09")),
            ("DD/MM/YYYY", "09/03/1985 00:00:00.000", Some("1985-03-09")),
            ("DD/MM/YYYY", "09/03/1985 17:30", None),
            ("DD/MM/YYYY", "31/02/1985", None),
            ("DD/MM/YYYY", "1985-03-09", None),
            ("DD/MM/YYYY", "09/03/85", None),
            ("DD/MM/YYYY", "00/00/0000", None),
            ("DD/MM/YYYY", "\u{e9}", None),
            ("mm.dd.yy", "12.31.29", Some("2029-12-31")),
            ("mm.dd.yy", "12.31.30", Some("1930-12-31")),
            ("YYYYMMDD", "19850309", Some("1985-03-09")),
            ("YYYYMMDD", "1985039", Some("1985-03-09")),
            ("DDMMYYYY", "9031985", None),
            ("YYYY-MM-DD", "1985-3-9", Some("1985-03-09")),
        ] {
            assert_eq!(convert(format, text).as_deref(), wanted, "{format} {text}");
        }
    }

    #[test]
    fn formats_that_say_less_or_more_than_a_date_are_refused() {
        for wrong in ["", "DD/MM", "DD/DD/MM/YYYY", "DD/MM/YYYY/YY", "JJ/MM/AAAA", "DD MM YYYY HH", "%d/%m/%Y"] {
            assert!(wrong.parse::<DateFormat>().is_err(), "{wrong}");
        }
        assert_eq!("dd/mm/yyyy".parse::<DateFormat>().unwrap().to_string(), "DD/MM/YYYY");
    }
}
