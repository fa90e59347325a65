//! Dead letters over HTTP: masked and shown, replayed and discarded, and to whom.

use crate::{
    dead_letters::audit,
    dead_replay::write,
    support::{
        MERCHANT, Rig, Setup, check, create,
        gateway::{Answer, OTHER_MERCHANT, TestGateway},
        with,
    },
};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::{Value, json};

const EMAIL: &str = "ada.unusual@example.com";

/// The letters `ours` and `theirs`, of two merchants.
async fn two_letters(rig: &mut Rig) {
    let ours = with(create("ours", EMAIL), "merchant_id", MERCHANT);
    let theirs = with(check("theirs", "203.0.113.9"), "merchant_id", OTHER_MERCHANT);
    write(rig, &ours, "upstream", "").await;
    write(rig, &theirs, "upstream", "").await;
}

fn ids(list: &Value) -> Vec<&str> {
    list["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect()
}

async fn exported(gateway: &TestGateway, query: &str, token: &str) -> Answer {
    let path = format!("/v1/dead-letters{query}");
    gateway.send(gateway.request(Method::GET, &path, token).header("accept", "application/x-ndjson")).await
}

async fn length(rig: &mut Rig) -> u64 {
    let key = rig.key("dead");
    rig.connection.xlen(key).await.unwrap()
}

/// Waits until a run has ended, and returns its report.
async fn ended(rig: &mut Rig, gateway: &TestGateway, location: &str) -> Value {
    rig.eventually("the run ends", async |_| gateway.get(location, "ops").await.json()["state"] != "running").await;
    gateway.get(location, "ops").await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_masked_and_shown_for_a_reason_that_is_recorded() {
    let mut rig = Setup::default().without_worker().await;
    two_letters(&mut rig).await;
    let gateway = TestGateway::start(&rig).await;
    for token in ["reader", "both", "all"] {
        for path in ["/v1/dead-letters", "/v1/dead-letters?by=type,error.kind", "/v1/dead-letters/ours"] {
            let answer = gateway.get(path, token).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!answer.text.contains("unusual"), "{answer:?}");
        }
        let export = exported(&gateway, "", token).await;
        assert_eq!(export.header("content-disposition"), "attachment; filename=\"dead-letters.ndjson\"");
        assert!(export.lines().len() == 2 && !export.text.contains("unusual"), "{export:?}");
    }
    let shown = gateway.get("/v1/dead-letters/ours", "reader").await.json();
    assert_eq!(shown["dead_letters"][0]["job"]["args"]["user"]["email"], "xxx.xxxxxxx@xxxxxxx.xxx");
    gateway.get("/v1/dead-letters/unknown", "reader").await.problem(404, "not-found");
    assert!(audit(&mut rig).await.is_empty(), "what is masked is not recorded");

    // Personal data needs the role, and a reason.
    for path in ["/v1/dead-letters/ours", "/v1/dead-letters"] {
        let reveal = |rest: &str| format!("{path}?reveal=true{rest}");
        let get = async |path: String, token: &str| {
            let request = gateway.request(Method::GET, &path, token).header("accept", "application/x-ndjson");
            gateway.send(request).await
        };
        get(reveal("&reason=call%2017"), "both").await.problem(403, "forbidden");
        for reason in ["", "&reason=", "&reason=%20", "&reason=a%0Ab", &format!("&reason={}", "x".repeat(201))] {
            get(reveal(reason), "all").await.problem(400, "bad-request");
        }
    }
    assert!(audit(&mut rig).await.is_empty(), "what is refused is not recorded");
    let request = gateway.request(Method::GET, "/v1/dead-letters/ours?reveal=true&reason=call%2017", "all");
    let answer = gateway.send(request.header("x-operator", "ada")).await;
    assert_eq!(answer.json()["dead_letters"][0]["job"]["args"]["user"]["email"], EMAIL);
    assert_eq!(answer.header("cache-control"), "no-store");
    let actions = audit(&mut rig).await;
    let [shown] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((shown["who"].as_str(), shown["action"].as_str()), ("ada (all)", "dead show"));
    assert!(shown["what"].contains("call 17") && !shown["what"].contains("unusual"), "{shown:?}");
    let export = exported(&gateway, "?reveal=true&reason=audit", "all").await;
    assert!(export.text.contains(EMAIL), "{export:?}");
    assert!(audit(&mut rig).await[1..].iter().all(|action| action["action"].starts_with("dead export")));
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_planned_started_and_followed() {
    let mut rig = Setup::default().start().await;
    write(&mut rig, &check("again", "c"), "upstream", "").await;
    write(&mut rig, &check("faulty", "c"), "invalid_job", "").await;
    let gateway = TestGateway::start(&rig).await;
    let start = async |body: Value| gateway.post("/v1/dead-letters/replays", "ops", &body).await;
    let planned = start(json!({"filter": {}, "dry_run": true})).await;
    assert_eq!(planned.status, 200, "{planned:?}");
    let plan = &planned.json()["plan"];
    assert_eq!((&plan["replay"], &plan["refused"]), (&json!(1), &json!(1)), "{plan}");
    assert_eq!(length(&mut rig).await, 2, "a plan changes nothing");
    let request = gateway.request(Method::POST, "/v1/dead-letters/replays", "ops").header("x-operator", "ada");
    let started = gateway.send(request.json(&json!({"plan": plan["id"]}))).await;
    assert_eq!(started.status, 202, "{started:?}");
    let location = started.header("location").to_owned();
    assert_eq!(location, format!("/v1/dead-letters/replays/{}", started.json()["run"].as_str().unwrap()));
    let report = ended(&mut rig, &gateway, &location).await;
    assert_eq!(
        (&report["state"], &report["replayed"], &report["by"]),
        (&json!("done"), &json!(1), &json!("ada (ops)"))
    );
    rig.completion("again").await;
    assert_eq!(length(&mut rig).await, 1);
    let listed = gateway.get("/v1/dead-letters/replays", "ops").await.json();
    assert_eq!(listed["runs"][0]["run"], report["run"]);
    assert_eq!(gateway.get("/v1/dead-letters/discards", "ops").await.json(), json!({"runs": []}));
    assert!(
        audit(&mut rig).await.iter().any(|action| action["action"] == "dead replay" && action["who"] == "ada (ops)")
    );

    start(json!({"filter": {"type": ["CreateUser"]}})).await.problem(409, "plan-outdated");
    start(json!({"plan": "p1.x"})).await.problem(409, "plan-outdated");
    for bad in [
        json!({}),
        json!({"filter": {"odd": 1}}),
        json!({"filter": {}, "rate": "fast"}),
        json!({"filter": {}, "set": {"args": 1}}),
        json!({"filter": {}, "unset": ["args"]}),
    ] {
        start(bad).await.problem(400, "bad-request");
    }
    for (method, path) in [(Method::GET, "r-none"), (Method::DELETE, "r-none"), (Method::GET, "%20")] {
        let path = format!("/v1/dead-letters/replays/{path}");
        gateway.send(gateway.request(method, &path, "ops")).await.problem(404, "not-found");
    }
    gateway.end().await;
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_is_planned_and_removes_what_was_planned_alone() {
    let mut rig = Setup::default().without_worker().await;
    write(&mut rig, &check("first", "c"), "upstream", "").await;
    let gateway = TestGateway::start(&rig).await;
    let planned = gateway.post("/v1/dead-letters/discards", "ops", &json!({"filter": {}, "dry_run": true})).await;
    let plan = planned.json()["plan"]["id"].clone();
    assert_eq!(planned.json()["plan"]["discard"], 1, "{planned:?}");
    write(&mut rig, &check("later", "c"), "upstream", "").await;
    let started = gateway.post("/v1/dead-letters/discards", "ops", &json!({"plan": plan})).await;
    let report = ended(&mut rig, &gateway, started.header("location")).await;
    assert_eq!((&report["state"], &report["discarded"]), (&json!("done"), &json!(1)), "{report}");
    assert_eq!(ids(&gateway.get("/v1/dead-letters", "reader").await.json()), ["later"]);
    assert!(audit(&mut rig).await.iter().any(|action| action["action"] == "dead discard" && action["who"] == "ops"));
    // The plan of a discard starts no replay.
    let planned = gateway.post("/v1/dead-letters/discards", "ops", &json!({"filter": {}, "dry_run": true})).await;
    let plan = planned.json()["plan"]["id"].clone();
    let refused = gateway.post("/v1/dead-letters/replays", "ops", &json!({"plan": plan})).await;
    refused.problem(409, "plan-outdated");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_and_runs_of_another_merchant_do_not_exist() {
    let mut rig = Setup::default().without_worker().await;
    two_letters(&mut rig).await;
    let gateway = TestGateway::start(&rig).await;
    assert_eq!(ids(&gateway.get("/v1/dead-letters", "merchant").await.json()), ["theirs"]);
    assert_eq!(gateway.get("/v1/dead-letters?by=type", "merchant").await.json()["total"], 1);
    assert_eq!(exported(&gateway, "", "merchant").await.lines().len(), 1);
    let revealed = exported(&gateway, "?reveal=true&reason=x", "merchant").await;
    assert!(revealed.lines().len() == 1 && !revealed.text.contains("unusual"), "{revealed:?}");
    for path in ["/v1/dead-letters/ours", "/v1/dead-letters/ours?reveal=true&reason=x"] {
        gateway.get(path, "merchant").await.problem(404, "not-found");
    }
    assert_eq!(gateway.get("/v1/dead-letters?id=ours", "merchant").await.json(), json!({"letters": []}));
    // What it plans and starts is about its own letters alone.
    for kind in ["replays", "discards"] {
        let path = format!("/v1/dead-letters/{kind}");
        let body = json!({"filter": {"id": ["ours"]}});
        gateway.post(&path, "merchant", &body).await.problem(409, "plan-outdated");
    }
    let started = gateway.post("/v1/dead-letters/discards", "merchant", &json!({"filter": {}})).await;
    let own = started.header("location").to_owned();
    assert_eq!(ended(&mut rig, &gateway, &own).await["discarded"], 1);
    assert_eq!(ids(&gateway.get("/v1/dead-letters", "reader").await.json()), ["ours"]);
    assert_eq!(gateway.get(&own, "merchant").await.status, 200);
    // Nor are the runs of others there, nor can their plans be used.
    let plan = gateway.post("/v1/dead-letters/discards", "ops", &json!({"filter": {}, "dry_run": true})).await;
    let plan = json!({"plan": plan.json()["plan"]["id"]});
    gateway.post("/v1/dead-letters/discards", "merchant", &plan).await.problem(409, "plan-outdated");
    assert_eq!(length(&mut rig).await, 1);
    let foreign = gateway.post("/v1/dead-letters/discards", "ops", &json!({"filter": {}})).await;
    let foreign = foreign.header("location").to_owned();
    ended(&mut rig, &gateway, &foreign).await;
    gateway.get(&foreign, "merchant").await.problem(404, "not-found");
    gateway.delete(&foreign, "merchant").await.problem(404, "not-found");
    let runs = gateway.get("/v1/dead-letters/discards", "merchant").await.json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
    gateway.end().await;
    rig.end().await;
}
