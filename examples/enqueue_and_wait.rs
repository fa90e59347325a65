//! Enqueues one job and waits for its completion, as a signup page does.
//!
//! ```sh
//! cargo run --example enqueue_and_wait -- ada@example.com
//! ```
//!
//! Redis is that of the configuration: `XCO_WORKER__REDIS__URL`, otherwise `redis://127.0.0.1:6379`. A worker must be running.

use std::{env, error::Error, time::Duration};
use xco_worker::{
    client::{Client, ContactField, JobRequest},
    config::{Config, Sources, load},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let email = env::args().nth(1).unwrap_or_else(|| "ada@example.com".to_owned());
    let config: Config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    // One client serves the whole process.
    let client = Client::connect(&config).await?;
    match enqueue_and_wait(&client, &email, Duration::from_secs(10)).await? {
        Some(completion) => println!("{completion}"),
        None => println!("no completion within 10 s; the job is still in the queue"),
    }
    Ok(())
}

/// Asks XCO whether it knows a customer. Returns the completion, or `None` if there is none within `patience`.
pub(crate) async fn enqueue_and_wait(
    client: &Client,
    email: &str,
    patience: Duration,
) -> Result<Option<String>, Box<dyn Error>> {
    // The caller is whose rate limit the call spends. Without an id, the client makes one.
    let job = JobRequest::check_user(ContactField::email(email)).caller_id("203.0.113.9");
    let answer = client.submit_and_wait(&job, patience).await?;
    println!("enqueued {} as {}", answer.enqueued.id, answer.enqueued.entry_id);
    Ok(answer.completion.map(|completion| completion.json().to_owned()))
}
