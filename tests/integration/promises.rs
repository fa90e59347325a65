//! Order, slots and shares; what is never done twice; and the limits of a job's fields.

use super::support::{
    Rig, Setup, account, check, consent, create, finalize, in_time, keys, start, timing, verify, with,
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::sandbox::{EffectKind, Fault, Latency, Route};

const EMAIL: &str = "k@example.com";

/// The customers whose checks arrived, in order.
fn checked(rig: &Rig) -> Vec<String> {
    rig.sandbox.calls_of(Route::Exists).into_iter().filter_map(|call| call.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_first_in_first_out() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    let mut rig = setup.without_worker().await;
    let wanted: Vec<String> = (0..30).map(|number| format!("f{number:02}@example.com")).collect();
    for number in 0..30 {
        rig.enqueue(&check(&format!("f{number:02}"), &format!("ip-{number}"))).await;
    }
    rig.start_worker();
    rig.wait_for(30).await;
    assert_eq!(checked(&rig), wanted);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_holds_no_slot() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    let mut rig = setup.start().await;
    rig.sandbox.order(Fault::status(503).retry_after("2"));
    rig.enqueue(&check("retry", "ip")).await;
    rig.enqueue(&with(check("later", "ip"), "run_at", in_time(Duration::from_secs(2)))).await;
    for number in 0..10 {
        let done = rig.complete(check(&format!("n{number}"), "ip")).await;
        assert_eq!(done["status"], "succeeded");
    }
    let ids: Vec<&str> = rig.completions.iter().filter_map(|event| event["id"].as_str()).collect();
    assert!(!ids.contains(&"retry") && !ids.contains(&"later"), "{ids:?}");
    rig.wait_for(12).await;
    assert!(timing(&rig.completion("retry").await, "retrying") >= 1900);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_jobs_go_first_and_bulk_keeps_its_share() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 10;
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(20));
    let mut rig = setup.without_worker().await;
    for number in 0..100 {
        rig.enqueue_text("bulk", &check(&format!("b{number}"), &format!("b{number}")).to_string()).await;
    }
    for number in 0..100 {
        rig.enqueue(&check(&format!("i{number}"), &format!("i{number}"))).await;
    }
    rig.start_worker();
    rig.wait_for(200).await;
    let order = checked(&rig);
    let bulk = order.iter().take(100).filter(|key| key.starts_with('b')).count();
    // A tenth is its share. The rest is what it took before the first interactive job was read.
    assert!((3..=35).contains(&bulk), "{bulk} bulk jobs among the first hundred: {order:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_does_not_wait_for_a_backfill() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 4;
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(40));
    let mut rig = setup.start().await;
    for number in 0..300 {
        rig.enqueue_text("bulk", &check(&format!("b{number}"), &format!("b{number}")).to_string()).await;
    }
    rig.sandbox.wait_for_calls(8).await;
    for number in 0..10 {
        rig.complete(check(&format!("i{number}"), "ip")).await;
    }
    let bulk = rig.completions.len() - 10;
    assert!(bulk < 200, "{bulk} bulk jobs ended before ten interactive ones that came one after the other");
    rig.wait_for(310).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_or_a_refused_token_leaves_no_doubt_and_the_effect_happens_once() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    let cured = |event: &Value, outcome: &str| {
        assert_eq!((&event["outcome"], &event["attempts"]), (&json!(outcome), &json!(2)), "{event:#}");
    };
    rig.sandbox.order(Fault::status(429).retry_after("0").on(Route::Start));
    cured(&rig.complete(with(start("s1", "ip", EMAIL), "max_attempts", 1)).await, "otp_sent");
    rig.sandbox.revoke_tokens();
    cured(&rig.complete(with(start("s2", "ip", EMAIL), "max_attempts", 1)).await, "otp_sent");
    assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSent, EMAIL), 2);

    let code = rig.sandbox.otp(EMAIL).unwrap();
    rig.sandbox.order(Fault::status(429).retry_after("0").on(Route::Verify));
    cured(&rig.complete(with(verify("v1", "ip", EMAIL, &code), "max_attempts", 1)).await, "verified");
    let code = rig.code_for("ip", EMAIL).await;
    rig.sandbox.revoke_tokens();
    cured(&rig.complete(with(verify("v2", "ip", EMAIL, &code), "max_attempts", 1)).await, "verified");
    assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSpent, EMAIL), 2);
    assert_eq!(rig.sandbox.effects_on(EffectKind::CodeTried, EMAIL), 0);

    rig.sandbox.order(Fault::status(429).retry_after("0").on(Route::Create));
    cured(&rig.complete(with(create("c1", "c1@example.com"), "max_attempts", 1)).await, "created");
    rig.sandbox.order(Fault::status(500).on(Route::Token));
    let event = rig.complete(check("warm", "ip")).await;
    assert_eq!(event["attempts"], 1, "a token in hand is used");
    rig.sandbox.clear_faults();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_in_a_child_is_in_no_letter_and_no_completion() {
    let mut rig = Setup::default().start().await;
    let next = json!({"exists": {"type": "VerifyOtp", "args": {"email": EMAIL, "verification_code": "864209"}}});
    let job = with(with(check("p", "ip"), "next", next), "meta", json!({"note": "{\"verification_code\":\"864209\"}"}));
    rig.sandbox.order(Fault::status(403));
    let failed = rig.complete(job).await;
    assert_eq!(failed["dead_lettered"], true);
    let letter = rig.letter("p").await.unwrap();
    assert_eq!(letter["replayable"], "false");
    assert!(!format!("{letter:?}{failed}").contains("864209"), "{letter:#?} {failed:#}");
    let kept: Value = serde_json::from_str(&letter["job"]).unwrap();
    assert_eq!(kept["next"]["exists"]["args"], json!({"email": EMAIL}), "kept for reading");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_that_needs_no_code_is_kept_whole_and_replayable() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(403));
    let job = with(create("whole", "w@example.com"), "meta", json!({"a": "b"}));
    rig.complete(job.clone()).await;
    let letter = rig.letter("whole").await.unwrap();
    assert_eq!(
        letter.keys().map(String::as_str).collect::<Vec<_>>(),
        ["at", "error", "id", "job", "replayable", "state", "type"]
    );
    assert_eq!((letter["replayable"].as_str(), letter["type"].as_str()), ("true", "CreateUser"));
    assert_eq!(serde_json::from_str::<Value>(&letter["job"]).unwrap(), job);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_are_as_the_contract_names_them() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("c", "ip")).await;
    rig.enqueue_text("interactive", "no job").await;
    rig.wait_for(2).await;
    let key = rig.key("completions");
    let entries: redis::streams::StreamRangeReply = rig.connection.xrange_all(key).await.unwrap();
    for entry in &entries.ids {
        let mut fields: Vec<&str> = entry.map.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["event", "id", "status", "type"]);
    }
    for lane in ["interactive", "bulk"] {
        let key = rig.key(&format!("jobs:{lane}"));
        let groups: redis::streams::StreamInfoGroupsReply = rig.connection.xinfo_groups(key).await.unwrap();
        let names: Vec<&str> = groups.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["workers"]);
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_just_within_bounds_is_a_job() {
    let mut rig = Setup::default().start().await;
    let long = "i".repeat(128);
    let cases = [
        ("id", json!(long)),
        ("id", json!("A-Z.a_z:0/9")),
        ("caller_id", json!("c".repeat(256))),
        ("caller_id", json!("a b&c=d/é\u{0}{x}+%2B")),
        ("ttl_ms", json!(2_592_000_000_u64)),
        ("max_attempts", json!(100)),
        ("run_at", json!("2001-02-03T04:05:06.789+01:00")),
        ("meta", json!({"": ""})),
        ("meta", json!({"k": "x".repeat(2048 - r#"{"k":""}"#.len())})),
        ("v", json!(1)),
        ("reply", json!(false)),
        ("next", json!({})),
    ];
    for (number, (field, value)) in cases.into_iter().enumerate() {
        let mut job = with(check(&format!("ok-{number}"), "ip"), field, value.clone());
        job["args"]["email"] = json!("a@example.com");
        let done = rig.complete(job).await;
        assert_eq!(done["status"], "succeeded", "{field}: {done:#}");
        if field == "caller_id" {
            assert_eq!(done["caller_id"], value);
            let call = rig.sandbox.calls_of(Route::Exists).pop().unwrap();
            assert_eq!(call.caller_id.as_deref(), value.as_str());
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_goes_into_the_path_as_it_is() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    for (number, reference) in ["a/b?c#d%2F é+&", "...", "%2e%2e", "..%2f..", "\\", "日本"].into_iter().enumerate() {
        let code = rig.code_for("ip", EMAIL).await;
        let verified = rig.complete(verify(&format!("v{number}"), "ip", EMAIL, &code)).await;
        let mut job = consent(&format!("c{number}"), verified["result"]["consent_challenge_id"].as_str().unwrap());
        job["args"]["customer_reference"] = json!(reference);
        let done = rig.complete(job).await;
        assert_eq!(done["outcome"], "consented", "{reference}: {done:#}");
        assert_eq!(rig.sandbox.effects_on(EffectKind::Consented, reference), 1, "{reference}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalize_without_a_caller_spends_its_references() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    let code = rig.code_for("ip", EMAIL).await;
    let mut job = finalize("f", "", EMAIL, &code);
    job.as_object_mut().unwrap().remove("caller_id");
    let done = rig.complete(job).await;
    assert_eq!(done["outcome"], "consented", "{done:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Verify)[0].caller_id.as_deref(), Some("ref-f"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_merchant_a_job_that_needs_one_is_rejected() {
    let mut rig = Setup::default().without_worker().await;
    rig.config.xco.merchant_id = None;
    rig.start_worker();
    let check_done = rig.complete(check("c", "ip")).await;
    assert_eq!(check_done["status"], "succeeded", "{check_done:#}");
    let rejected = rig.complete(create("u", "u@example.com")).await;
    assert_eq!(rejected["error"]["kind"], "invalid_job", "{rejected:#}");
    assert_eq!(rejected["error"]["fields"][0]["pointer"], "/merchant_id");
    rig.completions.clear();
    let own = with(create("u", "u@example.com"), "merchant_id", super::support::MERCHANT);
    assert_eq!(rig.complete(own).await["outcome"], "created");

    let child = json!({"type": "CreateUser", "args": {"customer_reference": "r", "user": {"email": "x@example.com"}}});
    rig.enqueue(&with(check("p", "ip"), "next", json!({"absent": child}))).await;
    let rejected = rig.completion("p/absent").await;
    assert_eq!((&rejected["status"], &rejected["parent_id"]), (&json!("rejected"), &json!("p")), "{rejected:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_names_what_it_does_not_inherit_and_keeps_the_lane() {
    let mut setup = Setup::default();
    // In the interactive lane it would be late at once.
    setup.config.queue.ttl.insert(xco_worker::contract::JobType::CreateUser, Duration::from_millis(1));
    let mut rig = setup.start().await;
    rig.sandbox.order(Fault::new(xco_worker::sandbox::FaultKind::Delay(50)).on(Route::Create));
    let child = json!({"type": "CreateUser", "caller_id": "ip", "customer_reference": "own", "batch": "own-batch",
        "merchant_id": "0b6f2f7a-4f0e-4d9c-8e55-0a2b7a3f9d10", "meta": {},
        "traceparent": "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01",
        "args": {"customer_reference": "r", "user": {"email": "x@example.com"}}});
    let mut parent = with(check("p", "ip"), "next", json!({"absent": child.clone()}));
    for (field, value) in [("customer_reference", "parents"), ("batch", "parents")] {
        parent[field] = json!(value);
    }
    parent["meta"] = json!({"of": "parent"});
    rig.enqueue_text("bulk", &parent.to_string()).await;
    let done = rig.completion("p/absent").await;
    assert_eq!(done["outcome"], "created", "{done:#}");
    for field in ["caller_id", "customer_reference", "batch", "merchant_id", "meta", "traceparent"] {
        assert_eq!(done[field], child[field], "{field}: {done:#}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_problem_document_is_bounded() {
    let mut rig = Setup::default().start().await;
    let body = json!({"type": "t", "title": "T".repeat(5000), "detail": "d".repeat(100_000), "status": 400});
    rig.sandbox.order(Fault::status(400).body(body));
    let event = rig.complete(check("c", "ip")).await;
    assert_eq!(event["error"]["kind"], "validation");
    assert!(event.to_string().len() < 32 * 1024, "{}", event.to_string().len());
    assert!(keys(&event["error"]["problem"]).contains(&"type"));
    rig.end().await;
}
