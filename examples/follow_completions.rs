//! Follows all completions from now on, as a cache or a log does. Every program that runs this sees every completion.
//!
//! ```sh
//! cargo run --example follow_completions
//! ```

use std::{env, error::Error};
use xco_worker::{
    completions::{Completed, Options, Start, Subscriber},
    config::{Config, Sources, load},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    follow_completions(&config, Start::Now, |completion| {
        println!("{} {} {}", completion.entry_id, completion.id, completion.status.as_str());
        true
    })
    .await
}

/// Passes each completion to `see` until that returns false.
///
/// To continue after a restart, store the `entry_id` of the last completion of each partition, and start with
/// [`Start::AfterEach`].
pub(crate) async fn follow_completions(
    config: &Config,
    start: Start,
    mut see: impl FnMut(&Completed) -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut subscriber = Subscriber::start(&config.redis, Options { start, ..Options::default() }).await?;
    loop {
        for completion in subscriber.next().await? {
            if !see(&completion) {
                return Ok(());
            }
        }
        // A reader that is slower than `completions.retention` and `completions.max_bytes` allow misses completions.
        for gap in subscriber.gaps() {
            eprintln!("completions were missed: {gap:?}");
        }
    }
}
