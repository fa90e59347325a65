//! The programs in `examples`, with a real worker and the sandbox.

use crate::support::{Setup, check};
use secrecy::SecretString;
use std::time::Duration;
use xco_worker::{
    completions::{Membership, Start},
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
    let mut config: Config = rig.config.clone();
    config.redis.url = vec![SecretString::from(rig.redis.url())];

    let completion =
        enqueue_and_wait::enqueue_and_wait(&config, "ada@example.com", Duration::from_secs(20)).await.unwrap().unwrap();
    assert_eq!((&completion["status"], &completion["outcome"]), (&"succeeded".into(), &"absent".into()));

    rig.complete(check("second", "192.0.2.1")).await;
    let mut followed = Vec::new();
    let start = Start::Beginning;
    follow_completions::follow_completions(&config, start, |completed| {
        followed.push(completed.id.clone());
        followed.len() < 2
    })
    .await
    .unwrap();
    assert_eq!((followed[0].as_str(), followed[1].as_str()), (completion["id"].as_str().unwrap(), "second"));

    let mut handled = Vec::new();
    let membership = Membership::new("examples", "one");
    reader_group::read_as_member(&config, membership, |batch| {
        handled.extend(batch.iter().map(|completed| completed.id.clone()));
        handled.len() < 2
    })
    .await
    .unwrap();
    assert_eq!(handled, followed);
    rig.end().await;
}
