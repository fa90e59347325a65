//! How many values each conversion changed, with one example.

use crate::contract::shape;
use serde::Serialize;
use std::collections::BTreeMap;

/// Maximum length of an example, in characters.
const MAX_EXAMPLE_CHARS: usize = 40;

/// What changed a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversionKind {
    /// An entry of `map_values`.
    MapValue,
    /// The date was in `date_format`.
    DateFormat,
    /// The number was a national one of `phone_country`, or was not in E.164 form.
    PhoneCountry,
    /// The country got the name that XCO has for it.
    CountryNames,
    /// `country_names` was asked for and does not know the country. The value stayed as it was.
    UnknownCountry,
    /// The value was invalid and optional, and was left out.
    Dropped,
}

/// A value before and after a conversion. Letters and digits of personal data are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// As the file has it.
    pub before: String,
    /// As XCO gets it. Empty: left out.
    pub after: String,
}

/// One conversion of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// What changed the values.
    pub kind: ConversionKind,
    /// The column.
    pub column: String,
    /// Number of values changed.
    pub values: u64,
    /// The first value that was changed. None if no value was.
    pub example: Option<Example>,
}

/// Counts conversions.
#[derive(Debug, Default)]
pub(in crate::backfill) struct ConversionCounts(pub(super) BTreeMap<Key, (u64, Example)>);

/// What changed the value, the number of the entry (for [`ConversionKind::MapValue`]), and the column.
type Key = (ConversionKind, usize, usize);

impl ConversionCounts {
    pub(super) fn add(&mut self, (kind, entry): (ConversionKind, usize), column: usize, before: &str, after: &str) {
        let entry = self.0.entry((kind, entry, column));
        entry.or_insert_with(|| (0, example(kind, before, after))).0 += 1;
    }
}

/// An example that tells nothing about a person. The names of known countries need no mask.
fn example(kind: ConversionKind, before: &str, after: &str) -> Example {
    let masked = |text: &str| match kind {
        ConversionKind::CountryNames => text.to_owned(),
        _ => shape(&text.chars().take(MAX_EXAMPLE_CHARS).collect::<String>()),
    };
    let (before, after) = (masked(before), masked(after));
    Example { before, after }
}
