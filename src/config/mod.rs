//! Configuration: TOML file, environment, flags; every fault reported at once, with its key and where it came from.

mod defaults;
mod load;
mod retry;
mod schema;
mod secure;
mod setting;
mod shared_settings;
mod tokens;
mod types;
mod units;
mod urls;
mod value;

pub use load::{ConfigFault, ConfigFaults, DEFAULT_FILE, Sources, load};
pub use schema::{reference_file, reference_page};
pub use secure::{SentinelConfig, TlsConfig};
pub use setting::check_value;
pub use shared_settings::{format_limit, format_rate, limit_key, read_limit};
pub use types::*;
pub use units::{Rate, format_duration, parse_duration, parse_rate};
pub use urls::{RedisUrl, SentinelUrl, parse_redis_url};
