//! Commands to Redis from something other than a worker: consumers deleted, deliveries acknowledged, lanes trimmed.

use super::{
    jobs::{create, email, ids_of, mixed, seed, start, verify},
    kills::{ids, own_redis, rig, send_code},
    ledger::{all_complete, calls_by_key, of, settle},
    process::Process,
    support::{Rig, Setup, check},
};
use redis::cmd;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;
use xco_worker::{
    queue::GROUP,
    sandbox::{Fault, Latency, Route},
};

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_killed_worker_whose_consumer_was_deleted_are_taken_up_again() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[]).await;
    let code = send_code(&mut rig, "customer").await;
    let (sent, calls) = (rig.sandbox.calls_of(Route::Start).len(), rig.sandbox.stats().calls);
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::hang().on(Route::Verify).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Start).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Create).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Exists).times(1));
    for job in [start("s"), verify("v", "customer", &code), create("made"), check("c", "192.0.2.1")] {
        rig.enqueue(&job).await;
    }
    rig.sandbox.wait_for_calls(calls + 4).await;
    first.kill();
    let lane = rig.key("jobs:interactive");
    let pending: Vec<(String, String, u64, u64)> =
        cmd("XPENDING").arg(&lane).arg(GROUP).arg("-").arg("+").arg(9).query_async(&mut rig.connection).await.unwrap();
    let consumers: BTreeSet<&str> = pending.iter().map(|row| row.1.as_str()).collect();
    assert_eq!((pending.len(), consumers.len()), (4, 1));
    let consumer = &pending[0].1;
    let dropped: u64 = cmd("XGROUP")
        .arg("DELCONSUMER")
        .arg(&lane)
        .arg(GROUP)
        .arg(consumer)
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    assert_eq!(dropped, 4);
    let second = Process::spawn(&rig, &[]);
    let all = ids(["customer", "s", "v", "made", "c"]);
    all_complete(&mut rig, &all, 20).await;
    settle(&mut rig, &mut [second], &all).await;
    for id in ["s", "v"] {
        assert_eq!(of(&rig, id)["error"]["kind"], "in_doubt", "{:#}", of(&rig, id));
    }
    assert_eq!(of(&rig, "made")["result"]["after_doubt"], true);
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), sent + 1);
    assert_eq!(rig.sandbox.calls_of(Route::Verify).len(), 1);
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1);
}

/// Takes deliveries away from a living worker: those being called, those read and waiting for a slot, and those it has
/// not read.
async fn take_away(rig: &mut Rig, how: &str) {
    let lane = rig.key("jobs:interactive");
    if how != "acknowledged" {
        let () =
            cmd("XGROUP").arg("SETID").arg(&lane).arg(GROUP).arg("$").query_async(&mut rig.connection).await.unwrap();
    }
    if how != "passed over" {
        let pending: Vec<(String, String, u64, u64)> = cmd("XPENDING")
            .arg(&lane)
            .arg(GROUP)
            .arg("-")
            .arg("+")
            .arg(1000)
            .query_async(&mut rig.connection)
            .await
            .unwrap();
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(&lane).arg(GROUP).arg("0-0");
        for (entry, ..) in &pending {
            acknowledge.arg(entry);
        }
        let _: u64 = acknowledge.query_async(&mut rig.connection).await.unwrap();
    }
}

#[rstest::rstest]
#[case::acknowledged("acknowledged")]
#[case::passed_over("passed over")]
#[case::both("both")]
#[tokio::test(flavor = "multi_thread")]
async fn a_living_worker_with_a_backlog_ends_what_is_taken_away_from_it(#[case] how: &str) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(100));
    let mut rig = setup.without_worker().await;
    let worker = Process::ready(&rig, &[("WORKER__CONCURRENCY", "4"), ("QUEUE__TTL__START_OTP", "off")]).await;
    let jobs = mixed(&rig.sandbox, "j", 60);
    for job in &jobs {
        rig.enqueue(job).await;
    }
    // Repeatedly, as a clean-up script would.
    for calls in [4, 12, 20] {
        rig.sandbox.wait_until(|stats| stats.calls >= calls).await;
        take_away(&mut rig, how).await;
    }
    let all = ids_of(&jobs);
    all_complete(&mut rig, &all, 60).await;
    settle(&mut rig, &mut [worker], &all).await;
    // The worker was alive all the time, so it knew the result of each call.
    for event in &rig.completions {
        assert_eq!(event["status"], "succeeded", "{event:#}");
    }
    for route in [Route::Start, Route::Create] {
        let calls = calls_by_key(&rig, route);
        assert_eq!(calls.len(), 20);
        assert!(calls.values().all(|calls| calls.len() == 1), "{calls:#?}");
    }
}

/// Ids of the jobs in a lane.
async fn left_in(rig: &mut Rig, lane: &str) -> BTreeSet<String> {
    let reply: redis::streams::StreamRangeReply =
        cmd("XRANGE").arg(lane).arg("-").arg("+").query_async(&mut rig.connection).await.unwrap();
    let id = |entry: &redis::streams::StreamId| {
        let text: String = redis::from_redis_value(entry.map["job"].clone()).unwrap();
        let job: serde_json::Value = serde_json::from_str(&text).unwrap();
        job["id"].as_str().unwrap().to_owned()
    };
    reply.ids.iter().map(id).collect()
}

/// Removes entries of a lane, of jobs that are being called and of waiting ones.
async fn remove(rig: &mut Rig, lane: &str, how: &str) {
    let mut command = cmd(how.split(' ').next().unwrap());
    command.arg(lane);
    match how {
        "XADD MAXLEN" => command.arg("MAXLEN").arg(50).arg("*").arg("job").arg(check("last", "last").to_string()),
        "XADD MAXLEN ~" => {
            command.arg("MAXLEN").arg("~").arg(50).arg("*").arg("job").arg(check("last", "last").to_string())
        }
        "XTRIM" => command.arg("MAXLEN").arg(50),
        "XDEL" => {
            let reply: redis::streams::StreamRangeReply =
                cmd("XRANGE").arg(lane).arg("-").arg("+").query_async(&mut rig.connection).await.unwrap();
            // Every second entry.
            command.arg(reply.ids.iter().step_by(2).map(|entry| entry.id.clone()).collect::<Vec<_>>())
        }
        _ => &mut command,
    };
    let _: redis::Value = command.query_async(&mut rig.connection).await.unwrap();
}

#[rstest::rstest]
#[case::within_a_lease("XADD MAXLEN", 700)]
#[case::longer_than_two_leases("XADD MAXLEN", 2600)]
#[case::about_as_many("XADD MAXLEN ~", 700)]
#[case::trimmed("XTRIM", 700)]
#[case::deleted_one_by_one("XDEL", 700)]
#[case::deleted_one_by_one_for_longer_than_two_leases("XDEL", 2600)]
#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_entries_a_producer_removed_are_completed_and_what_is_lost_is_reported(
    #[case] how: &str,
    #[case] latency_ms: u64,
) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(latency_ms));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[("WORKER__CONCURRENCY", "64")]).await;
    for n in 0..564 {
        let id = format!("j{n}");
        rig.enqueue(&check(&id, &id)).await;
    }
    rig.sandbox.wait_for_calls(64).await;
    let lane = rig.key("jobs:interactive");
    remove(&mut rig, &lane, how).await;
    // The jobs left in the lane, and every call that was made.
    let mut kept = left_in(&mut rig, &lane).await;
    assert!(kept.len() < 500, "nothing was removed");
    all_complete(&mut rig, &kept, 60).await;
    for call in rig.sandbox.calls_of(Route::Exists) {
        let customer = call.key.unwrap_or_default();
        kept.insert(customer.trim_end_matches("@example.com").to_owned());
    }
    all_complete(&mut rig, &kept, 20).await;
    // Redis counts trimmed entries. Its count of entries deleted one by one may be wrong.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while how != "XDEL" && worker.counter("xco_worker_entries_removed_total").await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the loss is never reported");
        sleep(Duration::from_millis(50)).await;
    }
    rig.enqueue(&check("afterwards", "192.0.2.1")).await;
    kept.insert("afterwards".to_owned());
    all_complete(&mut rig, &kept, 20).await;
    settle(&mut rig, std::slice::from_mut(&mut worker), &kept).await;
}

/// Jobs that had not started are lost with the lane. A call that is unsafe to repeat has left its call marker
/// elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn codes_that_are_sent_while_their_lane_is_deleted_complete_and_later_jobs_go_on() {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(700));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[("WORKER__CONCURRENCY", "8")]).await;
    let before: Vec<String> = (0..40).map(|n| format!("before-{n}")).collect();
    for id in &before {
        seed(&rig.sandbox, id);
        rig.enqueue(&start(id)).await;
    }
    rig.sandbox.wait_for_calls(8).await;
    let lane = rig.key("jobs:interactive");
    let _: u64 = cmd("DEL").arg(&lane).query_async(&mut rig.connection).await.unwrap();
    let after: BTreeSet<String> = (0..20).map(|n| format!("after-{n}")).collect();
    for id in &after {
        rig.enqueue(&check(id, id)).await;
    }
    all_complete(&mut rig, &after, 30).await;
    worker.until_status("/readyz", 200, Duration::from_secs(10)).await;
    worker.stop().await;
    rig.drain().await;
    let calls = calls_by_key(&rig, Route::Start);
    assert!(calls.values().all(|calls| calls.len() == 1), "{calls:#?}");
    for id in &before {
        let ends = rig.completions.iter().filter(|event| event["id"] == id.as_str());
        let statuses: Vec<_> = ends.map(|event| event["status"].as_str().unwrap()).collect();
        let wanted = if calls.contains_key(&email(id)) { vec!["succeeded"] } else { vec![] };
        assert_eq!(statuses, wanted, "{id}");
    }
    rig.assert_clean().await;
}
