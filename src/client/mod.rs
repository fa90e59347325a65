//! Enqueues jobs and reads completions, for Rust programs.
//!
//! One [`Client`] serves a whole process: clones share a few connections, for any number of requests at once. A Redis user
//! needs the rights of `producer` and `reader` together. With `operator`, a request also gets the completion of a job with
//! the same id that ended before.
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//! use xco_worker::{
//!     client::{Client, ContactField, JobRequest},
//!     config::{Config, Sources, load},
//!     contract::Outcome,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = load(&Sources { env: std::env::vars().collect(), ..Sources::default() })?;
//! let client = Client::connect(&config).await?;
//!
//! let customer = ContactField::email("ada@example.com");
//! let job = JobRequest::check_user(customer.clone())
//!     .id("signup-42")
//!     .caller_id("203.0.113.9")
//!     .next(Outcome::Exists, JobRequest::start_otp(customer));
//! let answer = client.submit_and_wait(&job, Duration::from_secs(10)).await?;
//! match answer.completion {
//!     Some(completion) => println!("{}", completion.event["outcome"]),
//!     None => println!("{} is still in the queue", answer.enqueued.id),
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod follow;
mod group;
mod job;
mod submit;

pub use error::ClientError;
pub use follow::{CompletionEvent, CompletionStream};
pub use group::{GroupEvent, GroupStream};
pub use job::{AddressFields, ContactField, JobRequest, UserFields};
pub use submit::{Client, SubmittedJob, SubmittedMany};
