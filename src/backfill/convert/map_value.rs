//! One value in place of another.

use crate::backfill::{
    columns::{COLUMNS, REQUIRED, index_of},
    fold::visible,
};
use std::{fmt, str::FromStr};

/// `gender:M.=male`: the value to write in place of a value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapValue {
    pub(super) column: usize,
    pub(super) from: String,
    /// Empty: the value is left out.
    pub(super) to: String,
}

impl FromStr for MapValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "wanted is COLUMN:FROM=TO, such as gender:M.=male";
        let (column, values) = text.split_once(':').ok_or(wanted)?;
        let (from, to) = values.split_once('=').ok_or(wanted)?;
        let (name, from, to) = (column.trim(), visible(from), visible(to));
        let Some(column) = index_of(name) else {
            return Err(format!("{name:?} is no column: there are {}", COLUMNS[REQUIRED..].join(", ")));
        };
        if column < REQUIRED {
            return Err(format!("{name} tells who the customer is, and cannot be replaced"));
        }
        if from.is_empty() {
            return Err(wanted.to_owned());
        }
        Ok(Self { column, from, to })
    }
}

impl fmt::Display for MapValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", COLUMNS[self.column], self.from, self.to)
    }
}

impl MapValue {
    /// Whether `text` is the value to replace. Case does not matter.
    pub(super) fn is_from(&self, text: &str) -> bool {
        text == self.from || text.to_lowercase() == self.from.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_name_an_optional_column_and_a_value() {
        let entry: MapValue = "gender: Mme =female".parse().unwrap();
        assert_eq!(entry.to_string(), "gender:Mme=female");
        assert!(entry.is_from("MME") && !entry.is_from("M."));
        assert_eq!("phone_number:0=".parse::<MapValue>().unwrap().to, "");
        for wrong in ["gender", "gender:M.", "gender:=male", "sex:M.=male", "email:a=b", "customer_reference:1=2"] {
            assert!(wrong.parse::<MapValue>().is_err(), "{wrong}");
        }
    }
}
