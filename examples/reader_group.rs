//! Reads completions as a member of a group: each completion goes to one member, and again until a member acknowledges it. Start
//! it several times, each under another name, to share the work.
//!
//! ```sh
//! cargo run --example reader_group -- web-1
//! ```

use std::{env, error::Error};
use xco_worker::{
    completions::{Completed, Membership, Options, Start, Subscriber},
    config::{Config, Sources, load},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args().nth(1).unwrap_or_else(|| "web-1".to_owned());
    let config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    read_as_member(&config, Membership::new("examples", name), |completions| {
        for completion in completions {
            println!("{} {}", completion.id, completion.status.as_str());
        }
        true
    })
    .await
}

/// Passes each batch to `handle` and acknowledges it, until `handle` returns false.
///
/// A program that dies before it acknowledges loses nothing: the batch comes again, so `handle` must be able to see a
/// completion twice. A group that is no longer read keeps completions from being trimmed: remove it with `XGROUP DESTROY`.
pub(crate) async fn read_as_member(
    config: &Config,
    membership: Membership,
    mut handle: impl FnMut(&[Completed]) -> bool,
) -> Result<(), Box<dyn Error>> {
    // `start` matters only to the member that creates the group.
    let options = Options { start: Start::Beginning, membership: Some(membership), ..Options::default() };
    let mut subscriber = Subscriber::start(&config.redis, options).await?;
    loop {
        let completions = subscriber.next().await?;
        let go_on = handle(&completions);
        subscriber.acknowledge(&completions).await?;
        if !go_on {
            return Ok(subscriber.close().await?);
        }
    }
}
