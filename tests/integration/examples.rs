//! The programs in `examples`, with a real worker and the sandbox.

use crate::support::{Setup, check};
use std::time::Duration;
use xco_worker::{
    client::Client,
    completions::{FeedStart, Membership},
    config::Config,
};

#[allow(dead_code)]
#[path = "../../examples/enqueue_and_wait.rs"]
mod enqueue_and_wait;
#[allow(dead_code)]
#[path = "../../examples/follow_completions.rs"]
mod follow_completions;
#[allow(dead_code)]
#[path = "../../examples/reader_group.rs"]
mod reader_group;

#[tokio::test(flavor = "multi_thread")]
async fn examples_do_what_they_say() {
    let mut rig = Setup::default().start().await;
    let config = Config { redis: rig.redis_as("operator"), ..rig.config.clone() };
    let client = Client::connect(&config).await.unwrap();

    let waited = enqueue_and_wait::enqueue_and_wait(&client, "ada@example.com", Duration::from_secs(20));
    let completion: serde_json::Value = serde_json::from_str(&waited.await.unwrap().unwrap()).unwrap();
    assert_eq!((&completion["status"], &completion["outcome"]), (&"succeeded".into(), &"absent".into()));

    rig.complete(check("second", "192.0.2.1")).await;
    let mut followed = Vec::new();
    follow_completions::follow_completions(&client, FeedStart::Beginning, |_, completed| {
        followed.push(completed.id.clone());
        followed.len() < 2
    })
    .await
    .unwrap();
    assert_eq!((followed[0].as_str(), followed[1].as_str()), (completion["id"].as_str().unwrap(), "second"));

    let mut handled = Vec::new();
    reader_group::read_as_member(&client, Membership::new("examples", "one"), |completed| {
        handled.push(completed.id.clone());
        handled.len() < 2
    })
    .await
    .unwrap();
    assert_eq!(handled, followed);
    rig.end().await;
}
