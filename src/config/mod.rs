//! Configuration: TOML file, environment, flags; every fault reported at once, with its key and where it came from.

mod load;
mod types;
mod units;

pub use load::{ConfigFault, ConfigFaults, Sources, load};
pub use types::*;
pub use units::{Rate, parse_duration, parse_rate};
