//! The queue in Redis: its keys, its scripts with their typed wrappers, and connections that reconnect.
//!
//! This module does not know what a job means. A delivery is read ([`read_lane`]), admitted ([`admit`]) and ended
//! ([`finish`], [`defer`]). The rest is maintenance ([`maintenance`]), operators' rules ([`rules`], [`audit`]) and the
//! list of workers ([`workers`]).

mod admission;
pub mod audit;
pub mod backfill;
pub mod batches;
pub mod breakers;
pub mod clock;
pub mod clock_step;
mod connection;
mod connector;
pub mod dead_letters;
mod defer;
mod enqueue;
mod entry;
pub mod erase;
mod error_remedies;
pub mod find;
mod finish;
pub mod history;
pub mod ids;
pub mod index;
mod keys;
pub mod learned;
mod link;
pub mod list;
mod load;
pub mod maintenance;
pub mod overrides;
pub mod preflight;
mod reach;
mod read;
pub mod rescue;
pub mod rules;
pub mod runs;
mod script;
mod sentinel;
pub mod sessions;
mod tls;
pub mod workers;

pub use admission::{Admission, AdmissionBatch, AdmissionRequest, Admissions, BucketPlace, MAX_ADMIT, admit};
pub use connection::{Connection, QueueError, is_transient};
pub use connector::{Connector, SHARED};
pub use defer::{Deferral, Deferred, defer};
pub use enqueue::{LaneJob, MAX_PIPELINE_BYTES, MAX_PIPELINE_JOBS, Replies, enqueue, enqueue_one};
pub use entry::RawEntry;
pub use error_remedies::{cause, explain, remedy};
pub use finish::{
    Extras, Finish, FinishOp, Finished, Finishes, MAX_FINISH, MarkerRemoval, NewChild, NewDeadLetter, QueuePosition,
    finish,
};
pub use index::IdIndex;
pub use keys::{FixedKey, GROUP, Keys, Kind, Source};
pub use link::Link;
pub use load::{Load, LoadAlarm, lane_load};
pub use read::{
    MAX_FIELD_BYTES, ensure_group, is_light, peek, probe, read_cut, read_due, read_lane, read_lane_and_weigh,
    read_lanes,
};
pub use script::ScriptFailure;
