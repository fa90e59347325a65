//! The flags that convert values, and what a dry run reports about them.
#![allow(clippy::doc_markdown, reason = "the texts of --help have no markup")]

use crate::{
    cli::print_line,
    operations::backfill::{Conversion, ConversionKind, Conversions, DateFormat, MapValue, PhoneCountry},
};
use clap::Args;

/// Flags that convert values.
#[derive(Args)]
pub struct ConversionArgs {
    /// How the file writes birthdates: DD/MM/YYYY, MM/DD/YY; YYYY-MM-DD is always read
    #[arg(long, help_heading = "Conversions", value_name = "FORMAT")]
    pub date_format: Option<DateFormat>,
    /// The country whose national phone numbers become E.164 numbers, by its code: FR
    #[arg(long, help_heading = "Conversions", value_name = "CODE")]
    pub phone_country: Option<PhoneCountry>,
    /// A value in place of another: gender:M.=male; nothing behind = leaves it out; may be repeated
    #[arg(long, help_heading = "Conversions", value_name = "COLUMN:FROM=TO")]
    pub map_value: Vec<MapValue>,
    /// Write countries as XCO does: FR, FRA and France become FRANCE
    #[arg(long, help_heading = "Conversions")]
    pub country_names: bool,
    /// Leave out an optional value that is invalid, instead of rejecting its row
    #[arg(long, help_heading = "Conversions")]
    pub drop_invalid_optional: bool,
}

impl ConversionArgs {
    pub(super) fn conversions(&self) -> Conversions {
        Conversions {
            map_values: self.map_value.clone(),
            date_format: self.date_format.clone(),
            phone_country: self.phone_country,
            country_names: self.country_names,
            drop_invalid_optional: self.drop_invalid_optional,
        }
    }
}

/// Prints what each conversion did, with a masked example.
pub(super) fn print(conversions: &[Conversion]) -> anyhow::Result<()> {
    if conversions.is_empty() {
        return Ok(());
    }
    print_line("conversions")?;
    for conversion in conversions {
        let Conversion { kind, column, values, example } = conversion;
        let example = match (kind, example) {
            (_, None) => "changed nothing".to_owned(),
            (ConversionKind::Dropped, Some(example)) => format!("left out, such as {}", example.before),
            (ConversionKind::UnknownCountry, Some(example)) => {
                format!("unknown and unchanged, such as {}", example.before)
            }
            (_, Some(example)) if example.after.is_empty() => format!("{} left out", example.before),
            (_, Some(example)) => format!("{} -> {}", example.before, example.after),
        };
        print_line(&format!("  {column:<16}{values:>10}  {example}"))?;
    }
    Ok(())
}
