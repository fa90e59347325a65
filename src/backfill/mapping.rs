//! A CSV header and its records → `args` of a `CreateUser`.

use super::row_job::RowFault;
use serde_json::{Map, Value};
use std::{fmt, str::FromStr};

/// The columns that are read, with the API's own names. Every file must have the first two.
pub const COLUMNS: [&str; 17] = [
    "customer_reference",
    "email",
    "phone_number",
    "first_name",
    "last_name",
    "gender",
    "birthdate",
    "billing_street_address",
    "billing_address_complement",
    "billing_locality",
    "billing_postal_code",
    "billing_country",
    "delivery_street_address",
    "delivery_address_complement",
    "delivery_locality",
    "delivery_postal_code",
    "delivery_country",
];
const REQUIRED: usize = 2;
const ADDRESSES: [&str; 2] = ["billing", "delivery"];
const BEFORE_ADDRESSES: usize = 7;
const ADDRESS_FIELDS: usize = 5;

/// `email=E-Mail`: a column, and its name in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// One of [`COLUMNS`].
    pub column: String,
    /// The column's name in the header.
    pub name: String,
}

impl FromStr for MapEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (column, name) = text.split_once('=').ok_or("wanted is COLUMN=NAME, such as email=E-Mail")?;
        let (column, name) = (column.trim(), name.trim());
        if !COLUMNS.contains(&column) {
            return Err(format!("{column:?} is no column: there are {}", COLUMNS.join(", ")));
        }
        if name.is_empty() {
            return Err("what does the header call it?".to_owned());
        }
        Ok(Self { column: column.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.column, self.name)
    }
}

/// Why a header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The header lacks a column.
    #[error("no column `{column}`; there are: {}", .there.join(", "))]
    Missing {
        /// The column's name.
        column: String,
        /// The names that the header has.
        there: Vec<String>,
    },
    /// The header has a name twice.
    #[error("more than one column `{0}`")]
    Twice(String),
    /// The first line cannot be read.
    #[error("the first line is no header: {0}")]
    Unreadable(&'static str),
    /// The file is empty.
    #[error("is empty")]
    Empty,
}

/// The place of each column in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    places: [Option<usize>; COLUMNS.len()],
    width: usize,
}

impl Mapping {
    /// Finds the columns in a header. Case does not matter.
    pub(super) fn new(header: &[Vec<u8>], entries: &[MapEntry]) -> Result<Self, HeaderFault> {
        let names: Vec<String> = header.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        let mut places = [None; COLUMNS.len()];
        for (index, column) in COLUMNS.iter().enumerate() {
            let entry = entries.iter().find(|entry| entry.column == *column);
            let wanted = entry.map_or(*column, |entry| &entry.name);
            let mut found = (0..names.len()).filter(|place| names[*place].to_lowercase() == wanted.to_lowercase());
            places[index] = found.next();
            if found.next().is_some() {
                return Err(HeaderFault::Twice(wanted.to_owned()));
            }
            // A column named by an entry must be there, and so must the columns that every customer has.
            if places[index].is_none() && (index < REQUIRED || entry.is_some()) {
                let there = names.iter().map(|name| format!("`{}`", shown(name))).collect();
                return Err(HeaderFault::Missing { column: wanted.to_owned(), there });
            }
        }
        Ok(Self { places, width: header.len() })
    }

    /// The `args` of a record, not yet validated. Empty cells are omitted.
    pub(super) fn args(&self, cells: &[Vec<u8>]) -> Result<Value, Vec<RowFault>> {
        let more = cells.get(self.width..).unwrap_or_default();
        if cells.len() < self.width || more.iter().any(|cell| !cell.iter().all(u8::is_ascii_whitespace)) {
            let reason = format!("has {} cells, and the header has {}", cells.len(), self.width);
            return Err(vec![RowFault { place: String::new(), reason }]);
        }
        let mut faults = Vec::new();
        let mut values = self.places.iter().enumerate().map(|(index, place)| {
            let cell = place.and_then(|place| cells.get(place)).map_or(&[][..], Vec::as_slice);
            let text = std::str::from_utf8(cell).ok().map(str::trim).filter(|text| !text.contains('\u{fffd}'));
            if text.is_none() {
                let reason = "has bytes that are no text in this encoding; `--encoding latin1`, perhaps?".to_owned();
                faults.push(RowFault { place: COLUMNS[index].to_owned(), reason });
            }
            text.filter(|text| !text.is_empty())
        });
        let mut args = Map::new();
        args.extend(values.next().flatten().map(|text| (COLUMNS[0].to_owned(), text.into())));
        let mut user = Map::new();
        for name in &COLUMNS[1..BEFORE_ADDRESSES] {
            user.extend(values.next().flatten().map(|text| ((*name).to_owned(), text.into())));
        }
        let mut addresses = Vec::new();
        for (number, kind) in ADDRESSES.iter().enumerate() {
            let first = BEFORE_ADDRESSES + number * ADDRESS_FIELDS;
            let mut address = Map::new();
            for column in &COLUMNS[first..first + ADDRESS_FIELDS] {
                let name = &column[kind.len() + 1..];
                address.extend(values.next().flatten().map(|text| (name.to_owned(), text.into())));
            }
            if !address.is_empty() {
                address.insert("address_type".to_owned(), (*kind).into());
                addresses.push(Value::Object(address));
            }
        }
        drop(values);
        if !faults.is_empty() {
            return Err(faults);
        }
        if !addresses.is_empty() {
            user.insert("addresses".to_owned(), Value::Array(addresses));
        }
        args.insert("user".to_owned(), Value::Object(user));
        Ok(Value::Object(args))
    }

    /// The reference in a record that has a fault elsewhere, if it can be read.
    pub(super) fn reference(&self, cells: &[Vec<u8>]) -> Option<String> {
        let cell = cells.get(self.places[0]?)?;
        std::str::from_utf8(cell).ok().map(|text| text.trim().chars().take(256).collect())
    }
}

/// A header's name that is safe to print. A file without a header has a customer in its first line.
fn shown(name: &str) -> &str {
    let is_data = name.contains('@') || name.bytes().filter(u8::is_ascii_digit).count() > 3 || name.len() > 64;
    if is_data { "…" } else { name }
}

/// The column of a JSON Pointer into [`Mapping::args`]. The addresses in `args` tell which kind an address index is.
pub(super) fn column(pointer: &str, args: &Value) -> String {
    let mut parts = pointer.trim_start_matches('/').split('/').skip_while(|part| *part == "user");
    match (parts.next(), parts.next(), parts.next()) {
        (Some("addresses"), Some(index), Some(field)) => {
            let index: usize = index.parse().unwrap_or(0);
            let kind = args["user"]["addresses"][index]["address_type"].as_str().unwrap_or("");
            format!("{kind}_{field}")
        }
        (Some(field), ..) => field.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn cells(text: &[&str]) -> Vec<Vec<u8>> {
        text.iter().map(|cell| cell.as_bytes().to_vec()).collect()
    }

    #[test]
    fn every_column_has_its_place() {
        let header = cells(&COLUMNS);
        let mapping = Mapping::new(&header, &[]).unwrap();
        let names: Vec<String> = COLUMNS.iter().map(|column| format!(" <{column}> ")).collect();
        let record: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let address = |kind: &str| {
            let at = |name: &str| format!("<{kind}_{name}>");
            json!({"address_type": kind, "street_address": at("street_address"), "country": at("country"),
                "address_complement": at("address_complement"), "locality": at("locality"), "postal_code": at("postal_code")})
        };
        let args = mapping.args(&record).unwrap();
        assert_eq!(
            args,
            json!({"customer_reference": "<customer_reference>", "user": {
                "email": "<email>", "phone_number": "<phone_number>", "first_name": "<first_name>",
                "last_name": "<last_name>", "gender": "<gender>", "birthdate": "<birthdate>",
                "addresses": [address("billing"), address("delivery")]}})
        );
        assert_eq!(column("/user/addresses/1/country", &args), "delivery_country");
        assert_eq!(column("/user/email", &args), "email");
        assert_eq!(column("/customer_reference", &args), "customer_reference");
    }

    #[test]
    fn a_header_may_use_other_names_and_have_more() {
        let entries = [
            "email=E-Mail".parse().unwrap(),
            "customer_reference=Kundennr.".parse().unwrap(),
            "delivery_country=Land".parse().unwrap(),
        ];
        let header = cells(&["Notiz", "e-mail", "KUNDENNR.", " First_Name ", "land"]);
        let mapping = Mapping::new(&header, &entries).unwrap();
        let args = mapping.args(&cells(&["x", "a@b.example", "7", "", "FRANCE", " "])).unwrap();
        let wanted = json!({"customer_reference": "7", "user": {"email": "a@b.example",
            "addresses": [{"address_type": "delivery", "country": "FRANCE"}]}});
        assert_eq!(args, wanted);
        assert_eq!(mapping.reference(&cells(&["", "", " 7 "])), Some("7".to_owned()));
    }

    #[test]
    fn headers_that_will_not_do() {
        let fault = |header: &[&str], entry: Option<&str>| {
            let entries: Vec<MapEntry> = entry.into_iter().map(|entry| entry.parse().unwrap()).collect();
            Mapping::new(&cells(header), &entries).unwrap_err().to_string()
        };
        assert_eq!(
            fault(&["customer_reference", "Mail"], None),
            "no column `email`; there are: `customer_reference`, `Mail`"
        );
        assert_eq!(fault(&["customer_reference", "email", "EMAIL"], None), "more than one column `email`");
        let named = fault(&["customer_reference", "email"], Some("gender=Sex"));
        assert!(named.starts_with("no column `Sex`"), "{named}");
        assert_eq!(fault(&["c1", "ada@example.com"], None), "no column `customer_reference`; there are: `c1`, `…`");
        for wrong in ["email", "mail=x", "email="] {
            assert!(wrong.parse::<MapEntry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn records_of_another_width_or_encoding_are_refused() {
        let mapping = Mapping::new(&cells(&["customer_reference", "email", "first_name"]), &[]).unwrap();
        assert!(mapping.args(&cells(&["1", "a@b.example"])).is_err());
        assert!(mapping.args(&cells(&["1", "a@b.example", "x", "", " "])).is_ok());
        assert_eq!(
            mapping.args(&cells(&["1", "a", "x", "y"])).unwrap_err()[0].reason,
            "has 4 cells, and the header has 3"
        );
        let latin1 = [b"1".to_vec(), b"a@b.example".to_vec(), b"Ren\xe9".to_vec()];
        assert_eq!(mapping.args(&latin1).unwrap_err()[0].place, "first_name");
    }
}
