//! Limits and concurrency that operators change while workers run: list, set and reset them.
//!
//! An override is durable, holds on every worker within about a second, and on each worker that starts later. It wins over the
//! workers' own configuration until it is reset.

mod change;
mod configured;
mod error;
mod forward;
mod report;

pub use crate::limits::{LimitName, LimitSetting, MAX_REASON_CHARS, OverrideValue};
pub use change::{LimitChange, LimitsChanged, ResetRequest, SetRequest, reset, set};
pub use error::LimitError;
pub use report::{ConcurrencyReport, ConfiguredLimit, LimitReport, LimitsReport, list};

pub(super) use configured::Configured;
