//! Reads the completion streams, for a web tier and other programs.
//!
//! There are four ways, for different needs:
//!
//! | | |
//! |---|---|
//! | [`Subscriber`] on its own | every reader sees every completion: for a cache, a push to browsers, a log |
//! | [`Subscriber`] in a group | each completion goes to one reader of the group, and is delivered again until it is acknowledged |
//! | [`Waiter`] | one request waits for its job |
//! | [`CompletionHub`] | one connection for all requests and all followers of a process |
//!
//! All of them cover every partition, reconnect by themselves and read in bounded batches. No worker has to run in the
//! same process.
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
mod hub;
mod options;
mod page;
mod reader;
mod subscriber;
mod wait;

pub use decode::{Completed, Filter};
pub use gap::{Extent, Gap, extent};
pub use hub::{
    CompletionHub, Expectation, Expected, Feed, FeedCursor, FeedEvent, FeedStart, HubCompletion, HubError,
    InvalidCursor, InvalidFeedStart,
};
pub use options::{Membership, Options, Start};
pub use page::{Page, page};
pub use subscriber::{Acknowledger, Subscriber};
pub use wait::Waiter;
