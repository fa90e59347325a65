//! Following the completion streams, as a web tier does.
//!
//! Three ways, by what the reader needs:
//!
//! | | |
//! |---|---|
//! | [`Subscriber`] on its own | every reader sees every completion: a cache, a push to browsers, a log |
//! | [`Subscriber`] in a group | each completion goes to one reader of the group, and comes again until it is acknowledged |
//! | [`Waiter`] | one request waits for its one job |
//!
//! All of them read every partition, reconnect by themselves and read in bounded batches. Nothing here needs a worker in
//! the same process.
//!
//! # Example
//!
//! ```no_run
//! use xco_worker::{completions::{Filter, Options, Start, Subscriber}, config::RedisConfig, contract::Status};
//!
//! # async fn example() -> Result<(), xco_worker::queue::QueueError> {
//! let filter = Filter { status: Some(Status::Failed), ..Filter::default() };
//! let options = Options { start: Start::Beginning, filter, ..Options::default() };
//! let mut failures = Subscriber::start(&RedisConfig::default(), options).await?;
//! loop {
//!     for completion in failures.next().await? {
//!         println!("{} {}", completion.id, completion.event["error"]["kind"]);
//!     }
//! }
//! # }
//! ```

mod decode;
mod gap;
mod group;
mod options;
mod page;
mod reader;
mod subscriber;
mod wait;

pub use decode::{Completed, Filter};
pub use gap::{Extent, Gap, extent};
pub use options::{Membership, Options, Start};
pub use page::{Page, page};
pub use subscriber::Subscriber;
pub use wait::Waiter;
