//! The identity of a backfill as Redis keeps it.

use super::{Conversions, Encoding, Format, Layout, MapEntry};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The identity as Redis keeps it.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) files: Vec<PathBuf>,
    #[serde(flatten)]
    pub(super) flags: Flags,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Flags {
    format: Option<String>,
    delimiter: Option<char>,
    encoding: String,
    map: Vec<String>,
    pub(super) merchant_id: Option<String>,
    #[serde(flatten)]
    convert: ConversionFlags,
}

/// The conversions. What is not set is not written, so that a backfill without conversions has the identity that it has always had.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ConversionFlags {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    map_values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_names: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_invalid_optional: Option<bool>,
}

impl ConversionFlags {
    fn new(convert: &Conversions) -> Self {
        Self {
            map_values: convert.map_values.iter().map(ToString::to_string).collect(),
            date_format: convert.date_format.as_ref().map(ToString::to_string),
            phone_country: convert.phone_country.as_ref().map(ToString::to_string),
            country_names: convert.country_names.then_some(true),
            drop_invalid_optional: convert.drop_invalid_optional.then_some(true),
        }
    }

    fn conversions(&self) -> Option<Conversions> {
        let map_values: Result<_, _> = self.map_values.iter().map(|entry| entry.parse()).collect();
        Some(Conversions {
            map_values: map_values.ok()?,
            date_format: self.date_format.as_deref().map(str::parse).transpose().ok()?,
            phone_country: self.phone_country.as_deref().map(str::parse).transpose().ok()?,
            country_names: self.country_names.unwrap_or_default(),
            drop_invalid_optional: self.drop_invalid_optional.unwrap_or_default(),
        })
    }
}

impl Flags {
    pub(super) fn new(layout: &Layout, merchant_id: Option<&str>) -> Self {
        Self {
            format: layout.format.map(|format| format.as_str().to_owned()),
            delimiter: layout.delimiter.map(char::from),
            encoding: layout.encoding.to_string(),
            map: layout.map.iter().map(ToString::to_string).collect(),
            merchant_id: merchant_id.map(str::to_owned),
            convert: ConversionFlags::new(&layout.convert),
        }
    }

    pub(super) fn layout(&self) -> Option<Layout> {
        let map: Result<Vec<MapEntry>, _> = self.map.iter().map(|entry| entry.parse()).collect();
        Some(Layout {
            format: self.format.as_deref().map(str::parse::<Format>).transpose().ok()?,
            delimiter: self.delimiter.map(u8::try_from).transpose().ok()?,
            encoding: self.encoding.parse::<Encoding>().ok()?,
            map: map.ok()?,
            convert: self.convert.conversions()?,
        })
    }
}

/// The files and flags of a backfill that Redis knows, for a person.
pub fn describe_stored(stored: &str) -> String {
    match serde_json::from_str::<Stored>(stored) {
        Ok(Stored { files, flags }) => {
            let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
            let flags = serde_json::to_string(&flags).unwrap_or_default();
            format!("{} {flags}", files.join(" "))
        }
        Err(_) => "(by another version)".to_owned(),
    }
}

/// The files of a backfill that Redis knows; none if another version stored it.
pub fn stored_files(stored: &str) -> Vec<PathBuf> {
    serde_json::from_str::<Stored>(stored).map(|stored| stored.files).unwrap_or_default()
}

/// The merchant of a backfill that Redis knows, if it is another than the workers' own.
pub fn stored_merchant(stored: &str) -> Option<String> {
    serde_json::from_str::<Stored>(stored).ok()?.flags.merchant_id
}
