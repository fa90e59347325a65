//! Reads completions as a member of a group: each completion goes to one member, and again until a member acknowledges it. Start
//! it several times, each under another name, to share the work.
//!
//! ```sh
//! cargo run --example reader_group -- web-1
//! ```

use futures::StreamExt;
use std::{env, error::Error};
use xco_worker::{
    client::{Client, GroupEvent},
    completions::{Completed, Filter, Membership, Start},
    config::{Sources, load},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args().nth(1).unwrap_or_else(|| "web-1".to_owned());
    let config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    let client = Client::connect(&config).await?;
    read_as_member(&client, Membership::new("examples", name), |completion| {
        println!("{} {}", completion.id, completion.status.as_str());
        true
    })
    .await
}

/// Passes each completion to `handle` and acknowledges it, until `handle` returns false.
///
/// A program that dies before it acknowledges loses nothing: the completion comes again, so `handle` must be able to see one
/// twice. A group that is no longer read keeps completions from being trimmed: remove it with `XGROUP DESTROY`.
pub(crate) async fn read_as_member(
    client: &Client,
    membership: Membership,
    mut handle: impl FnMut(&Completed) -> bool,
) -> Result<(), Box<dyn Error>> {
    // The start matters only to the member that creates the group.
    let mut events = client.group(membership, Start::Beginning, Filter::default()).await?;
    while let Some(event) = events.next().await {
        match event? {
            GroupEvent::Completion(completion) => {
                let go_on = handle(&completion);
                events.acknowledge(&completion).await?;
                if !go_on {
                    return Ok(events.close().await?);
                }
            }
            GroupEvent::Gap(gap) => eprintln!("{gap}"),
        }
    }
    Ok(())
}
