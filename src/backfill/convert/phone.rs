//! Phone numbers as people write them → E.164.

use phonenumber::{Mode, country};
use std::{fmt, str::FromStr};

/// No phone number is longer, however it is written.
const MAX_BYTES: usize = 40;

/// The country whose national numbers a file has: `FR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhoneCountry(country::Id);

impl FromStr for PhoneCountry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = text.to_ascii_uppercase().parse().map(Self);
        found.map_err(|_| "wanted is the country's code of two letters, such as FR".to_owned())
    }
}

impl fmt::Display for PhoneCountry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref())
    }
}

impl PhoneCountry {
    /// The number in E.164 form, if the text is a valid number of this country, or of any country with its country code.
    pub(super) fn convert(self, text: &str) -> Option<String> {
        let is_plain = |c: char| c.is_ascii_digit() || c.is_whitespace() || "+().-/".contains(c);
        if text.len() > MAX_BYTES || !text.chars().all(is_plain) {
            return None;
        }
        let plain: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        let number = phonenumber::parse(Some(self.0), plain).ok().filter(phonenumber::is_valid)?;
        Some(number.format().mode(Mode::E164).to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn convert(country: &str, text: &str) -> Option<String> {
        country.parse::<PhoneCountry>().unwrap().convert(text)
    }

    #[test]
    fn national_numbers_get_their_country_code() {
        for (country, text, wanted) in [
            ("FR", "06 12 34 56 78", Some("+33612345678")),
            ("FR", "06.12.34.56.78", Some("+33612345678")),
            ("FR", "0612345678", Some("+33612345678")),
            ("FR", "06\u{a0}12\u{202f}34 56 78", Some("+33612345678")),
            // A spreadsheet has taken the zero for a digit that says nothing.
            ("FR", "612345678", Some("+33612345678")),
            ("FR", "0033612345678", Some("+33612345678")),
            ("FR", "+33 (0)6 12 34 56 78", Some("+33612345678")),
            ("fr", "+49 171 1234567", Some("+491711234567")),
            ("DE", "0171 / 1234567", Some("+491711234567")),
            ("IT", "06 6982", Some("+39066982")),
            ("FR", "0000000000", None),
            ("FR", "06 12 34", None),
            ("FR", "n/a", None),
            ("FR", "", None),
            ("FR", "0612345678 ext 5", None),
        ] {
            assert_eq!(convert(country, text).as_deref(), wanted, "{country} {text}");
        }
        assert!("France".parse::<PhoneCountry>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_number_or_none(text in "[-+0-9 ()./]{0,40}") {
            if let Some(number) = convert("FR", &text) {
                prop_assert!(number.starts_with('+') && number[1..].bytes().all(|byte| byte.is_ascii_digit()), "{number}");
            }
        }
    }
}
