//! Follows all completions from now on, as a cache or a log does. Every program that runs this sees every completion.
//!
//! ```sh
//! cargo run --example follow_completions                    # from now on
//! cargo run --example follow_completions -- beginning       # or a time, or the cursor that was printed last
//! ```

use futures::StreamExt;
use std::{env, error::Error};
use xco_worker::{
    client::{Client, CompletionEvent},
    completions::{FeedCursor, FeedStart, Filter, HubCompletion},
    config::{Sources, load},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let start = env::args().nth(1).map_or(Ok(FeedStart::Now), |start| start.parse())?;
    let config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    let client = Client::connect(&config).await?;
    follow_completions(&client, start, |cursor, completion| {
        println!("{cursor} {} {}", completion.id, completion.status.as_str());
        true
    })
    .await
}

/// Passes each completion to `see` until that returns false.
///
/// To continue after a restart, store the cursor, and start with [`FeedStart::After`].
pub(crate) async fn follow_completions(
    client: &Client,
    start: FeedStart,
    mut see: impl FnMut(&FeedCursor, &HubCompletion) -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut events = client.completions(start, Filter::default()).await?;
    while let Some(event) = events.next().await {
        match event? {
            CompletionEvent::Completion { cursor, completion } => {
                if !see(&cursor, &completion) {
                    return Ok(());
                }
            }
            // A reader that is slower than `completions.retention` and `completions.max_bytes` allow misses completions.
            CompletionEvent::Gap { partition, lost_before } => {
                eprintln!("completions of partition {partition} before {lost_before} were missed");
            }
        }
    }
    Ok(())
}
