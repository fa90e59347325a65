//! A producer that survives failures of Redis: it enqueues again, under the same id, whatever may not have been
//! enqueued.

use serde_json::Value;
use std::time::Duration;
use tokio::{task::JoinHandle, time::sleep};

/// Enqueues `jobs` into `key`, one every `pause`, until Redis has acknowledged each. Returns the number of repetitions.
pub(crate) fn produce(url: &str, key: String, jobs: Vec<Value>, pause: Duration) -> JoinHandle<usize> {
    let client = redis::Client::open(url).unwrap();
    tokio::spawn(async move {
        let mut again = 0;
        let mut connection = None;
        for job in jobs {
            let text = job.to_string();
            loop {
                if connection.is_none() {
                    connection = client.get_multiplexed_async_connection().await.ok();
                }
                if let Some(open) = &mut connection {
                    let added: redis::RedisResult<String> =
                        redis::cmd("XADD").arg(&key).arg("*").arg("job").arg(&text).query_async(open).await;
                    if added.is_ok() {
                        break;
                    }
                    connection = None;
                }
                again += 1;
                sleep(Duration::from_millis(20)).await;
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        again
    })
}
