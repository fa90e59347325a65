//! The public contract: the form of a job, the form of a completion, and the validation of a job before it is
//! processed.
//!
//! This module is pure: no clock, no network, no Redis. Its tests need only bytes and values.

mod args;
mod completion;
mod delay_reason;
mod error;
mod ids;
mod job;
mod job_types;
mod json;
mod json_text;
mod merchant_scope;
mod parse;
mod partition;
mod printable;
mod redact;
mod redact_text;
mod sensitive;
mod time;

pub use args::{Address, AddressType, Args, ConsentProof, Contact, Gender, NewUser};
pub use completion::{Completion, Status, Timings};
pub use delay_reason::DelayReason;
pub use error::{ErrorKind, Fault, JobError};
pub use ids::{CallerId, CustomerReference, EntryId, JobId, Lane, MerchantId, Origin};
pub use job::{Job, MAX_JOB_BYTES, Next};
pub use job_types::{JobType, Outcome};
pub use json_text::{JsonText, look_into};
pub use merchant_scope::MerchantScope;
pub use parse::{ParseContext, Rejection, parse_job, run_at_ms};
pub use partition::{Partitions, partition_of};
pub use printable::{is_unprintable, printable, printable_json};
pub use redact::{dead_letter_job, redact_code};
pub use redact_text::{fingerprint, shape};
pub use sensitive::{Email, PersonalText, PhoneNumber, VerificationCode};
pub use time::{format_ms, millis};
