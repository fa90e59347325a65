//! Replies of Redis that are lost, torn or late: a script took effect, and its caller does not know.

use super::{
    jobs::{email, ids_of, mixed},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, of, settle, tally},
    process::Process,
    producer::produce,
    proxy::{Chances, Proxy},
    support::{Setup, as_user},
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use xco_worker::sandbox::{Fault, FaultKind, Latency};

async fn outlasted(chances: Chances, seed: u64) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::ZERO, max: Duration::from_millis(20) };
    let mut rig = setup.without_worker().await;
    // 429s, too: the reply of their script can also be lost.
    let full = FaultKind::Status { status: 429, retry_after: Some("0".to_owned()), body: None };
    rig.sandbox.order(Fault::new(full).with_probability(0.03, seed));
    let proxy = Proxy::start(rig.redis.url(), chances, seed).await;
    let url = as_user(&proxy.url(), "worker");
    let settings = [
        ("REDIS__URL", url.as_str()),
        ("REDIS__RESPONSE_TIMEOUT", "500ms"),
        ("WORKER__MAX_DELIVERIES", "1000"),
        ("WORKER__CONCURRENCY", "16"),
        ("QUEUE__TTL__START_OTP", "off"),
    ];
    let mut workers = [Process::spawn(&rig, &settings), Process::spawn(&rig, &settings)];
    let mut jobs = mixed(&rig.sandbox, "j", 1200);
    let mut all = ids_of(&jobs);
    for job in &mut jobs {
        // A completion with everything that may accompany it: a reply, a batch's counters, a child.
        job["reply"] = json!(true);
        job["batch"] = json!("all");
        if job["type"] == "CheckUser" {
            let child = format!("{}/absent", job["id"].as_str().unwrap());
            job["next"] = json!({"absent": {"type": "CreateUser",
                "args": {"customer_reference": child, "user": {"email": email(&child)}}}});
            all.insert(child);
        }
    }
    let parents = ids_of(&jobs);
    let producer = produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::from_millis(2));
    producer.await.unwrap();
    proxy.calm();
    all_complete(&mut rig, &all, 40).await;
    settle(&mut rig, &mut workers, &all).await;
    assert_no_blind_repetition(&rig);
    for id in &parents {
        let key = rig.key(&format!("reply:{id}"));
        let replies: Vec<String> = rig.connection.lrange(&key, 0, -1).await.unwrap();
        let events: Vec<Value> = replies.iter().map(|reply| serde_json::from_str(reply).unwrap()).collect();
        assert_eq!(events, [of(&rig, id).clone()], "seed {seed}: {id} was replied to {} times", events.len());
    }
    let batch: BTreeMap<String, usize> = rig.connection.hgetall(rig.key("batch:all")).await.unwrap();
    let ended: usize = batch.iter().filter(|(name, _)| *name != "accepted").map(|(_, count)| count).sum();
    assert_eq!((batch["accepted"], ended), (all.len(), all.len()), "seed {seed}: {batch:?}");
    let [lost, torn, stalled, _] = proxy.broken();
    println!("seed {seed}: replies lost {lost}, torn {torn}, stalled {stalled}; {:?}", tally(&rig));
    assert!(lost + torn + stalled > 25, "too little was broken to mean anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_torn_replies_double_nothing() {
    outlasted(Chances { lost: 500, torn: 500, ..Chances::default() }, 11).await;
}

/// Stalls longer than the timeout and the lease.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_replies_double_nothing() {
    outlasted(
        Chances { lost: 50, torn: 50, stalled: 500, longest_stall: Duration::from_millis(2500), ..Chances::default() },
        12,
    )
    .await;
}
