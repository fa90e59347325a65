//! Conversions: values as a file writes them → values as XCO reads them. A value that no conversion knows stays as it is, and
//! is checked like any other.

mod conversions;
mod country;
mod date;
mod map_value;
mod phone;
mod tally;

pub use conversions::Conversions;
pub use date::DateFormat;
pub use map_value::MapValue;
pub use phone::PhoneCountry;
pub(super) use tally::ConversionCounts;
pub use tally::{Conversion, ConversionKind, Example};
