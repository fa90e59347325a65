//! The share of rows that may be rejected.

use std::{fmt, str::FromStr};

/// How many rows may be rejected: a number (`100`), or a share of all rows (`5%`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxRejected {
    /// This many rows.
    Rows(u64),
    /// This share of all rows, in percent.
    Percent(f64),
}

impl MaxRejected {
    /// Whether `rejected` of `rows` rows are not too many.
    pub fn allows(self, rejected: u64, rows: u64) -> bool {
        match self {
            Self::Rows(max) => rejected <= max,
            #[allow(clippy::cast_precision_loss, reason = "no file has so many rows")]
            Self::Percent(max) => rejected as f64 * 100.0 <= max * rows as f64,
        }
    }
}

impl FromStr for MaxRejected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
                percent.map(Self::Percent)
            }
            None => text.trim().parse().ok().map(Self::Rows),
        };
        parsed.ok_or_else(|| "a number of rows, or a share of them such as 5%".to_owned())
    }
}

impl fmt::Display for MaxRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_or_a_share() {
        let allows = |max: &str, rejected| max.parse::<MaxRejected>().unwrap().allows(rejected, 200);
        assert!(allows("5%", 10) && !allows("5%", 11));
        assert!(allows("0", 0) && !allows("0", 1));
        assert!(allows("0.5%", 1) && !allows("0.5 %", 2));
        for wrong in ["", "%", "-1", "101%", "NaN%", "x"] {
            assert!(wrong.parse::<MaxRejected>().is_err(), "{wrong}");
        }
    }
}
