//! Enqueues one job and waits for its completion, as a signup page does.
//!
//! ```sh
//! cargo run --example enqueue_and_wait -- ada@example.com
//! ```
//!
//! Redis is that of the configuration: `XCO_WORKER__REDIS__URL`, otherwise `redis://127.0.0.1:6379`. A worker must be running.

use serde_json::{Value, json};
use std::{env, error::Error, time::Duration};
use xco_worker::{
    completions::Waiter,
    config::{Config, Sources, load},
    contract::{Lane, ParseContext, parse_job, partition_of},
    queue::{Connector, Keys},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let email = env::args().nth(1).unwrap_or_else(|| "ada@example.com".to_owned());
    let config = load(&Sources { env: env::vars().collect(), ..Sources::default() })?;
    match enqueue_and_wait(&config, &email, Duration::from_secs(10)).await? {
        Some(completion) => println!("{completion:#}"),
        None => println!("no completion within 10 s; the job is still in the queue"),
    }
    Ok(())
}

/// Asks XCO whether it knows a customer. Returns the completion, or `None` if there is none within `patience`.
pub(crate) async fn enqueue_and_wait(
    config: &Config,
    email: &str,
    patience: Duration,
) -> Result<Option<Value>, Box<dyn Error>> {
    let id = format!("signup-{}", uuid::Uuid::new_v4());
    // `reply` makes the worker push the completion to a list of this job's own, where the waiter waits.
    let job =
        json!({ "type": "CheckUser", "id": id, "caller_id": "203.0.113.9", "reply": true, "args": { "email": email } });
    let job = job.to_string();

    // The same check that a worker makes. It names every fault at once.
    let context =
        ParseContext { allow_missing_caller_id: config.limits.allow_missing_caller_id, default_id: &id, generation: 0 };
    let checked = parse_job(job.as_bytes(), context).map_err(|rejection| format!("no valid job: {rejection:?}"))?;

    // All jobs of one caller belong in one partition.
    let partition = checked.partition_key().map_or(0, |key| partition_of(key, config.redis.partitions));
    // Made before the job is enqueued, so that its completion cannot be missed.
    let waiter = Waiter::new(&config.redis, partition).await?;
    let keys = Keys::new(&config.redis.namespace, partition);
    let mut add = redis::cmd("XADD");
    add.arg(keys.jobs(Lane::Interactive)).arg("*").arg("job").arg(&job);
    let entry: String = Connector::new(&config.redis)?.link(false).query(&add).await?;
    println!("enqueued {id} as {entry}");
    Ok(waiter.wait_for(&id, patience).await?)
}
