//! The conversions of a row.

use super::{
    country,
    date::DateFormat,
    map_value::MapValue,
    phone::PhoneCountry,
    tally::{Conversion, ConversionCounts, ConversionKind, Example},
};
use crate::backfill::{
    columns::{COLUMNS, REQUIRED, Texts, index_of},
    row_job::RowFault,
};
use std::borrow::Cow;

const PHONE: &str = "phone_number";
const BIRTHDATE: &str = "birthdate";
const GENDER: &str = "gender";

/// What to convert. All of it is part of a backfill's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversions {
    /// Values to replace, before all other conversions.
    pub map_values: Vec<MapValue>,
    /// How the file writes birthdates. Dates in the form `YYYY-MM-DD` stay as they are.
    pub date_format: Option<DateFormat>,
    /// The country whose national phone numbers become E.164 numbers.
    pub phone_country: Option<PhoneCountry>,
    /// Whether countries get the names that XCO has for them.
    pub country_names: bool,
    /// Whether an optional value that is invalid is left out. Without it, the value costs the row.
    pub drop_invalid_optional: bool,
}

impl Conversions {
    /// Whether nothing is converted.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Converts the texts of a row.
    pub(in crate::backfill) fn apply(&self, texts: &mut Texts<'_>, tally: &mut ConversionCounts) {
        for (column, text) in texts.iter_mut().enumerate().skip(REQUIRED) {
            let Some(before) = text.as_deref() else { continue };
            let entry = self.map_values.iter().position(|entry| entry.column == column && entry.is_from(before));
            let (kind, after) = match (entry, COLUMNS[column]) {
                (Some(entry), _) => ((ConversionKind::MapValue, entry), Some(self.map_values[entry].to.clone())),
                (None, BIRTHDATE) => {
                    let after = self.date_format.as_ref().and_then(|format| format.convert(before));
                    ((ConversionKind::DateFormat, 0), after)
                }
                (None, PHONE) => {
                    let after = self.phone_country.and_then(|country| country.convert(before));
                    ((ConversionKind::PhoneCountry, 0), after)
                }
                (None, name) if self.country_names && name.ends_with("_country") => match country::convert(before) {
                    Some(after) => ((ConversionKind::CountryNames, 0), Some(after.to_owned())),
                    None => ((ConversionKind::UnknownCountry, 0), Some(before.to_owned())),
                },
                (None, _) => continue,
            };
            let Some(after) = after else { continue };
            if after != before || kind.0 == ConversionKind::UnknownCountry {
                tally.add(kind, column, before, &after);
                *text = Some(after).filter(|after| !after.is_empty()).map(Cow::Owned);
            }
        }
    }

    /// Leaves out the values that have `faults`, if all of them are optional. `false`: the row stays rejected.
    pub(in crate::backfill) fn drop_invalid(
        &self,
        texts: &mut Texts<'_>,
        faults: &[RowFault],
        tally: &mut ConversionCounts,
    ) -> bool {
        let columns: Option<Vec<usize>> = faults
            .iter()
            .map(|fault| index_of(&fault.place).filter(|column| *column >= REQUIRED && texts[*column].is_some()))
            .collect();
        let Some(columns) = columns.filter(|columns| self.drop_invalid_optional && !columns.is_empty()) else {
            return false;
        };
        for column in columns {
            if let Some(before) = texts[column].take() {
                tally.add((ConversionKind::Dropped, 0), column, &before, "");
            }
        }
        true
    }

    /// Every conversion that was asked for, with what it did. One that changed nothing is in it, too: its flag may have a mistake.
    pub(in crate::backfill) fn report(&self, tally: &ConversionCounts) -> Vec<Conversion> {
        let none = || Example { before: String::new(), after: String::new() };
        let mut found = tally.0.clone();
        for (number, entry) in self.map_values.iter().enumerate() {
            let (_, example) = found.entry((ConversionKind::MapValue, number, entry.column)).or_insert((0, none()));
            // Both values are those of the request: there is nothing to mask.
            *example = Example { before: entry.from.clone(), after: entry.to.clone() };
        }
        let asked = [
            (self.date_format.is_some(), ConversionKind::DateFormat, BIRTHDATE),
            (self.phone_country.is_some(), ConversionKind::PhoneCountry, PHONE),
        ];
        for (is_asked, kind, name) in asked {
            if let Some(column) = index_of(name).filter(|_| is_asked) {
                found.entry((kind, 0, column)).or_insert((0, none()));
            }
        }
        let conversions = found.into_iter().map(|((kind, _, column), (values, example))| Conversion {
            kind,
            column: COLUMNS[column].to_owned(),
            values,
            example: Some(example).filter(|example| *example != none()),
        });
        conversions.collect()
    }

    /// Adds to a fault of a converted column what would be right.
    pub(in crate::backfill) fn explain(&self, fault: &mut RowFault) {
        match (fault.place.as_str(), &self.phone_country, &self.date_format) {
            (PHONE, Some(country), _) => {
                fault.reason = format!("must be a phone number of {country}, or one with its country code");
            }
            (PHONE, None, _) => fault.reason.push_str("; `--phone-country` converts national numbers"),
            (BIRTHDATE, _, Some(format)) => fault.reason = format!("must be a date, {format} or YYYY-MM-DD"),
            (BIRTHDATE, _, None) => fault.reason.push_str("; `--date-format` converts other forms"),
            (GENDER, ..) => fault.reason.push_str("; `--map-value gender:M.=male` replaces other words"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn conversions() -> Conversions {
        Conversions {
            map_values: vec!["gender:M.=male".parse().unwrap(), "billing_country:Angleterre=ENGLAND".parse().unwrap()],
            date_format: Some("DD/MM/YYYY".parse().unwrap()),
            phone_country: Some("FR".parse().unwrap()),
            country_names: true,
            drop_invalid_optional: true,
        }
    }

    fn texts(values: &[(&str, &str)]) -> Texts<'static> {
        let mut texts = Texts::default();
        for (column, value) in values {
            texts[index_of(column).unwrap()] = Some(Cow::Owned((*value).to_owned()));
        }
        texts
    }

    #[test]
    fn values_are_converted_counted_and_shown_masked() {
        let mut tally = ConversionCounts::default();
        let mut row = texts(&[
            ("email", "a@example.com"),
            ("phone_number", "06 12 34 56 78"),
            ("gender", "m."),
            ("birthdate", "09/03/1985"),
            ("billing_country", "Angleterre"),
            ("delivery_country", "fr"),
        ]);
        conversions().apply(&mut row, &mut tally);
        let wanted = texts(&[
            ("email", "a@example.com"),
            ("phone_number", "+33612345678"),
            ("gender", "male"),
            ("birthdate", "1985-03-09"),
            ("billing_country", "ENGLAND"),
            ("delivery_country", "FRANCE"),
        ]);
        assert_eq!(row, wanted);
        let report = conversions().report(&tally);
        let shown: Vec<_> = report
            .iter()
            .map(|conversion| {
                let example = conversion.example.as_ref().unwrap();
                (conversion.column.as_str(), conversion.values, example.before.as_str(), example.after.as_str())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("gender", 1, "M.", "male"),
                ("billing_country", 1, "Angleterre", "ENGLAND"),
                ("birthdate", 1, "00/00/0000", "0000-00-00"),
                ("phone_number", 1, "00 00 00 00 00", "+00000000000"),
                ("delivery_country", 1, "fr", "FRANCE"),
            ]
        );
    }

    #[test]
    fn values_that_are_right_already_are_left_alone_and_not_counted() {
        let mut tally = ConversionCounts::default();
        let mut row =
            texts(&[("phone_number", "+33612345678"), ("birthdate", "1985-03-09"), ("billing_country", "FRANCE")]);
        let before = row.clone();
        conversions().apply(&mut row, &mut tally);
        assert_eq!(row, before);
        assert!(conversions().report(&tally).iter().all(|conversion| conversion.values == 0));
    }

    #[test]
    fn only_optional_values_are_left_out() {
        let fault = |place: &str| RowFault { place: place.to_owned(), reason: String::new() };
        let mut tally = ConversionCounts::default();
        let mut row = texts(&[("email", "nobody"), ("birthdate", "x")]);
        assert!(!conversions().drop_invalid(&mut row, &[fault("birthdate"), fault("email")], &mut tally));
        assert!(!conversions().drop_invalid(&mut row, &[fault("")], &mut tally));
        assert!(!Conversions::default().drop_invalid(&mut row, &[fault("birthdate")], &mut tally));
        assert!(conversions().drop_invalid(&mut row, &[fault("birthdate")], &mut tally));
        assert_eq!(row, texts(&[("email", "nobody")]));
    }
}
