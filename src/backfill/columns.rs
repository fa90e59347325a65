//! The columns of a row.

use std::borrow::Cow;

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

/// Number of columns, from the first, that every file and every row must have.
pub(super) const REQUIRED: usize = 2;

/// The text of each of [`COLUMNS`] in one row. `None`: the cell is empty, or the file has no such column.
pub(super) type Texts<'a> = [Option<Cow<'a, str>>; COLUMNS.len()];

/// The place of a column in [`COLUMNS`].
pub(super) fn index_of(column: &str) -> Option<usize> {
    COLUMNS.iter().position(|known| *known == column)
}
