//! `next`, `reply`, ids, lanes and partitions: where jobs and results go.

use super::support::{Setup, account, check, create, start, with};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use xco_worker::{
    contract::Partitions,
    sandbox::{Fault, Route},
};

fn child(kind: &str, args: &Value) -> Value {
    json!({"type": kind, "args": args})
}

#[tokio::test(flavor = "multi_thread")]
async fn four_generations_run_inherit_and_name_their_parents() {
    let mut rig = Setup::default().start().await;
    let email = json!({"email": "chain@example.com"});
    let mut otp = child("StartOtp", &email);
    otp["next"] = json!({"otp_sent": child("CheckUser", &email)});
    let mut again = child("CheckUser", &email);
    again["next"] = json!({"exists": otp, "absent": child("CheckUser", &email)});
    let mut created = child("CreateUser", &json!({"customer_reference": "r", "user": email}));
    created["next"] = json!({"created": again});
    created["meta"] = json!({"own": "meta"});
    let mut job = check("chain", "ip-7");
    job["args"] = email;
    job["batch"] = json!("b1");
    job["meta"] = json!({"of": "parent"});
    job["customer_reference"] = json!("customer-7");
    job["merchant_id"] = json!("6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11");
    job["traceparent"] = json!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    job["next"] = json!({"absent": created});
    let entry = rig.enqueue_text("bulk", &job.to_string()).await;
    assert!(!entry.is_empty());
    let last = rig.completion("chain/absent/created/exists/otp_sent").await;
    assert_eq!(last["outcome"], "exists", "{last:#}");
    let ids: Vec<&str> = rig.completions.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let chain = [
        "chain",
        "chain/absent",
        "chain/absent/created",
        "chain/absent/created/exists",
        "chain/absent/created/exists/otp_sent",
    ];
    assert_eq!(ids, chain, "in order, and only the outcome that came about");
    for (event, parent) in rig.completions.iter().skip(1).zip(chain) {
        assert_eq!(event["parent_id"], parent);
        for field in ["caller_id", "customer_reference", "merchant_id", "batch", "traceparent"] {
            assert_eq!(event[field], job[field], "{field}: {event:#}");
        }
    }
    assert!(rig.completions[0].get("parent_id").is_none());
    for (event, child) in rig.completions.iter().zip(&chain[1..]) {
        assert_eq!(event["next_id"], *child);
    }
    assert!(rig.completions[4].get("next_id").is_none(), "the last one has no `next`");
    assert_eq!(rig.completions[1]["meta"], json!({"own": "meta"}));
    assert_eq!(rig.completions[2]["meta"], json!({"own": "meta"}), "its parent's, which is its own");
    let callers = rig.sandbox.stats().callers;
    assert_eq!(callers.get("ip-7"), Some(&4), "all calls that carry a caller: {callers:?}");

    let key = rig.key("batch:b1");
    let counts: BTreeMap<String, u64> = rig.connection.hgetall(key).await.unwrap();
    assert_eq!(counts, BTreeMap::from([("accepted".to_owned(), 5), ("succeeded".to_owned(), 5)]));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_generation_is_a_fault_of_the_parent() {
    let mut rig = Setup::default().start().await;
    let mut job = check("g5", "ip");
    for _ in 0..5 {
        let mut parent = check("x", "ip");
        parent.as_object_mut().unwrap().remove("id");
        parent["next"] = json!({"absent": job});
        job = parent;
    }
    job["id"] = json!("top");
    let done = rig.complete(job).await;
    assert_eq!((&done["status"], &done["error"]["kind"]), (&json!("rejected"), &json!("invalid_job")), "{done:#}");
    let pointer = done["error"]["fields"][0]["pointer"].as_str().unwrap();
    assert!(pointer.starts_with("/next/absent/next/absent/next/absent/next/absent"), "{pointer}");
    assert!(rig.routes().is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_children_are_faults_of_the_parent() {
    let mut rig = Setup::default().start().await;
    for (id, next, pointer) in [
        ("n1", json!({"created": child("CheckUser", &json!({"email": "a@example.com"}))}), "/next/created"),
        ("n2", json!({"absent": child("CheckUser", &json!({"email": "nobody"}))}), "/next/absent/args/email"),
        (
            "n3",
            json!({"absent": {"type": "CheckUser", "caller_id": "another", "args": {"email": "a@example.com"}}}),
            "/next/absent/caller_id",
        ),
        ("n4", json!({"absent": 7}), "/next/absent"),
        ("n5", json!([7]), "/next"),
        ("n6", json!({"absent": {"v": 2, "type": "CheckUser", "args": {"email": "a@example.com"}}}), "/next/absent/v"),
    ] {
        let done = rig.complete(with(check(id, "ip"), "next", next)).await;
        assert_eq!(done["status"], "rejected", "{done:#}");
        assert_eq!(done["error"]["fields"][0]["pointer"], pointer, "{done:#}");
    }
    assert!(rig.routes().is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_outcome_that_came_about_has_a_child_and_a_failure_has_none() {
    let mut rig = Setup::default().start().await;
    let args = json!({"email": "a@example.com"});
    let next = json!({"exists": child("StartOtp", &args)});
    let absent = rig.complete(with(check("other", "ip"), "next", next.clone())).await;
    assert_eq!(absent["outcome"], "absent");
    assert!(absent.get("next_id").is_none(), "its `next` is for another outcome: {absent:#}");
    rig.sandbox.order(Fault::status(400));
    let failed = rig.complete(with(check("failed", "ip"), "next", next)).await;
    assert_eq!(failed["status"], "failed");
    assert!(failed.get("next_id").is_none(), "{failed:#}");
    let named = json!({"absent": {"id": "mine", "type": "CheckUser", "args": args}});
    rig.enqueue(&with(check("named", "ip"), "next", named)).await;
    let child = rig.completion("mine").await;
    assert_eq!(child["parent_id"], "named");
    assert_eq!(rig.completions.iter().find(|event| event["id"] == "named").unwrap()["next_id"], "mine");
    assert_eq!(rig.completions.len(), 4);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_spends_its_parents_effective_caller() {
    let mut rig = Setup::default().start().await;
    // Created by reference: the check that follows needs a caller, and inherits its parent's.
    let next = json!({"created": child("CheckUser", &json!({"email": "e@example.com"}))});
    rig.enqueue(&with(create("p", "e@example.com"), "next", next)).await;
    let done = rig.completion("p/created").await;
    assert_eq!(done["outcome"], "exists", "{done:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Exists)[0].caller_id.as_deref(), Some("ref-p"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_id_may_exceed_128() {
    let mut rig = Setup::default().start().await;
    let id = "x".repeat(128);
    let mut grandchild = child("CheckUser", &json!({"email": "a@example.com"}));
    grandchild["reply"] = json!(true);
    let mut middle = child("CheckUser", &json!({"email": "a@example.com"}));
    middle["next"] = json!({"absent": grandchild});
    let mut job = with(check(&id, "ip"), "next", json!({"absent": middle}));
    job["args"]["email"] = json!("a@example.com");
    rig.enqueue(&job).await;
    let done = rig.completion(&format!("{id}/absent/absent")).await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    rig.end().await;
}

async fn pop(url: String, key: String) -> Value {
    let client = redis::Client::open(url).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut waiting = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    let (_, event): (String, String) = waiting.blpop(key, 20.0).await.unwrap();
    serde_json::from_str(&event).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_request_pops_its_reply() {
    let mut rig = Setup::default().start().await;
    let waiting = tokio::spawn(pop(rig.redis.url_as("producer"), rig.key("reply:web/1")));
    let done = rig.complete(with(check("web/1", "ip"), "reply", true)).await;
    assert_eq!(waiting.await.unwrap(), done, "the completion again");

    // A reply is available later, too, for at most five minutes. Jobs that did not request one have none.
    rig.complete(with(check("web/2", "ip"), "reply", true)).await;
    rig.complete(check("web/3", "ip")).await;
    rig.complete(with(check("web/4", "ip"), "reply", false)).await;
    let life_ms: i64 = rig.connection.pttl(rig.key("reply:web/2")).await.unwrap();
    assert!((200_000..=300_000).contains(&life_ms), "{life_ms}");
    for id in ["web/1", "web/3", "web/4"] {
        let exists: bool = rig.connection.exists(rig.key(&format!("reply:{id}"))).await.unwrap();
        assert!(!exists, "{id}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_a_failure_and_a_rejected_job_reply_too() {
    let mut rig = Setup::default().start().await;
    let mut replying = child("CheckUser", &json!({"email": "a@example.com"}));
    replying["reply"] = json!(true);
    let waiting = tokio::spawn(pop(rig.redis.url_as("producer"), rig.key("reply:parent/absent")));
    rig.enqueue(&with(check("parent", "ip"), "next", json!({"absent": replying}))).await;
    assert_eq!(waiting.await.unwrap(), rig.completion("parent/absent").await);

    rig.sandbox.order(Fault::status(403));
    let failed = rig.complete(with(check("failed", "ip"), "reply", true)).await;
    let url = rig.redis.url_as("producer");
    assert_eq!(pop(url.clone(), rig.key("reply:failed")).await, failed);

    let mut wrong = with(check("wrong", "ip"), "reply", true);
    wrong["args"] = json!({"email": "nobody"});
    let rejected = rig.complete(wrong).await;
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(pop(url, rig.key("reply:wrong")).await, rejected);

    let nameless = json!({"type": "CheckUser", "caller_id": "ip", "reply": true, "args": {"email": "a@example.com"}});
    let entry = rig.enqueue(&nameless).await;
    let rejected = rig.completion(&format!("interactive:0:{entry}")).await;
    assert_eq!(rejected["error"]["fields"][0]["pointer"], "/reply", "{rejected:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_an_id_is_called_by_its_entry() {
    let mut rig = Setup::default().start().await;
    let next = json!({"absent": child("CheckUser", &json!({"email": "a@example.com"}))});
    let job = json!({"type": "CheckUser", "caller_id": "ip", "args": {"email": "a@example.com"}, "next": next});
    for lane in ["interactive", "bulk"] {
        let entry = rig.enqueue_text(lane, &job.to_string()).await;
        let id = format!("{lane}:0:{entry}");
        let done = rig.completion(&id).await;
        assert_eq!(done["status"], "succeeded", "{done:#}");
        let child = rig.completion(&format!("{id}/absent")).await;
        assert_eq!(child["parent_id"], id);
    }
    // Two identical jobs without an id are two jobs.
    rig.enqueue(&job).await;
    rig.enqueue(&job).await;
    rig.wait_for(8).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_from_before_the_first_worker_are_processed_in_both_lanes() {
    let mut rig = Setup::default().without_worker().await;
    for number in 0..20 {
        let lane = if number % 2 == 0 { "interactive" } else { "bulk" };
        rig.enqueue_text(lane, &check(&format!("early-{number}"), "ip").to_string()).await;
    }
    rig.start_worker();
    rig.wait_for(20).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_completed_in_its_partition() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(4).unwrap();
    let mut rig = setup.start().await;
    // crc32("ip-1") and so on, as in zlib and PHP, modulo 4.
    let mut per_partition = [0_usize; 4];
    for number in 0..24 {
        let (id, caller) = (format!("p{number}"), format!("ip-{}", number % 8));
        let partition = u16::try_from(crc32fast::hash(caller.as_bytes()) % 4).unwrap();
        per_partition[usize::from(partition)] += 2;
        let mut job = check(&id, &caller);
        job["next"] = json!({"absent": child("CheckUser", &json!({"email": "a@example.com"}))});
        let key = rig.key_in(partition, if number % 3 == 0 { "jobs:bulk" } else { "jobs:interactive" });
        let _: String = rig.connection.xadd(key, "*", &[("job", job.to_string())]).await.unwrap();
    }
    assert!(per_partition.iter().all(|count| *count > 0), "{per_partition:?}");
    let nameless = json!({"type": "CheckUser", "caller_id": "ip", "args": {"email": "a@example.com"}});
    let key = rig.key_in(3, "jobs:interactive");
    let entry: String = rig.connection.xadd(key, "*", &[("job", nameless.to_string())]).await.unwrap();
    per_partition[3] += 1;
    rig.wait_for(49).await;
    rig.completion(&format!("interactive:3:{entry}")).await;
    for (partition, count) in per_partition.into_iter().enumerate() {
        let key = rig.key_in(u16::try_from(partition).unwrap(), "completions");
        let length: usize = rig.connection.xlen(key).await.unwrap();
        assert_eq!(length, count, "partition {partition}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_counts_every_end() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    for (id, job) in [("b1", check("b1", "ip")), ("b2", start("b2", "ip", "k@example.com")), ("b3", check("b3", ""))] {
        rig.enqueue(&with(job, "batch", "nightly")).await;
        rig.completion(id).await;
    }
    rig.sandbox.order(Fault::status(400));
    rig.complete(with(check("b4", "ip"), "batch", "nightly")).await;
    let key = rig.key("batch:nightly");
    let counts: BTreeMap<String, u64> = rig.connection.hgetall(key).await.unwrap();
    assert_eq!((counts["succeeded"], counts["failed"], counts["rejected"]), (2, 1, 1), "{counts:?}");
    assert!(rig.completions.iter().all(|event| event["batch"] == "nightly"));
    rig.end().await;
}
