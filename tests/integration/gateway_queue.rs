//! Pauses, status and backfills through the gateway.

use crate::support::{Rig, Setup, check, gateway::TestGateway};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn pauses_are_set_listed_and_ended() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("before", "c")).await;
    let gateway = TestGateway::start(&rig).await;
    let to = &gateway;
    let pause = |body: Value| async move { to.post("/v1/pauses", "ops", &body).await };
    let answer = pause(json!({"jobs": {"type": "CheckUser"}, "for": "10m", "reason": "XCO asked"})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let paused = answer.json();
    assert_eq!(
        (&paused["paused"], &paused["workers"], &paused["in_force_on"]),
        (&json!({"type": "CheckUser"}), &json!(1), &json!(1))
    );
    assert!(paused["until"].is_string(), "{paused}");
    let list = gateway.get("/v1/pauses", "ops").await.json();
    let first = &list["pauses"][0];
    assert_eq!(
        (&first["jobs"], &first["reason"], &first["who"]),
        (&json!({"type": "CheckUser"}), &json!("XCO asked"), &json!("ops")),
        "{list}"
    );
    // It is in force: the job is delayed, and says why.
    rig.enqueue(&check("held", "c")).await;
    rig.eventually("it is delayed", async |_| {
        gateway.get("/v1/jobs/held", "reader").await.json()["waits_for"] == "paused"
    })
    .await;
    // Exactly as set.
    gateway.delete("/v1/pauses?type=CheckUser&lane=bulk", "ops").await.problem(404, "not-found");
    gateway.delete("/v1/pauses?type=StartOtp", "ops").await.problem(404, "not-found");
    let answer = gateway.delete("/v1/pauses?type=CheckUser", "ops").await;
    assert_eq!((answer.status, &answer.json()["resumed"]), (200, &json!([{"type": "CheckUser"}])), "{answer:?}");
    gateway.delete("/v1/pauses?type=CheckUser", "ops").await.problem(404, "not-found");
    rig.completion("held").await;
    for bad in [
        json!({}),
        json!({"jobs": {}}),
        json!({"jobs": {"type": "Odd"}}),
        json!({"jobs": {"lane": "odd"}}),
        json!({"jobs": {"caller": ""}}),
        json!({"jobs": {"caller": "a", "caller_id": "b"}}),
        json!({"jobs": {"caller": "x".repeat(257)}}),
        json!({"jobs": {"all": true, "lane": "bulk"}}),
        json!({"jobs": {"type": "CheckUser"}, "for": "soon"}),
        json!({"jobs": {"type": "CheckUser"}, "reason": "x".repeat(201)}),
        json!({"jobs": {"type": "CheckUser"}, "reason": "a\nb"}),
        json!({"jobs": {"type": "CheckUser"}, "odd": 1}),
    ] {
        pause(bad).await.problem(400, "bad-request");
    }
    for bad in ["", "?odd=1", "?all=true&lane=bulk", "?lane=odd"] {
        gateway.delete(&format!("/v1/pauses{bad}"), "ops").await.problem(400, "bad-request");
    }
    assert_eq!(gateway.get("/v1/pauses", "ops").await.json()["pauses"], json!([]));
    // Every pause at once.
    for jobs in [json!({"lane": "bulk"}), json!({"caller": "203.0.113.9"})] {
        assert_eq!(pause(json!({"jobs": jobs})).await.status, 201);
    }
    let ended = gateway.delete("/v1/pauses?all=true", "ops").await.json();
    assert_eq!(ended["resumed"].as_array().unwrap().len(), 2, "{ended}");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_audit_and_backfills_are_those_of_the_commands() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("one", "c")).await;
    let gateway = TestGateway::start(&rig).await;
    let status = gateway.get("/v1/status", "reader").await;
    assert_eq!(status.status, 200, "{status:?}");
    let status = status.json();
    for member in ["lanes", "delayed", "dead_letters", "rates", "workers"] {
        assert!(!status[member].is_null(), "{member}: {status}");
    }
    assert_eq!(gateway.get("/v1/backfills", "reader").await.json(), json!({"backfills": []}));
    gateway.get("/v1/backfills/none", "reader").await.problem(404, "not-found");
    gateway.get("/v1/backfills/none/results", "reader").await.problem(404, "not-found");
    let empty = json!({"actions": [], "looked_at": 0, "complete": true});
    assert_eq!(gateway.get("/v1/audit", "reader").await.json(), empty);
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_at_the_queue_serves_everybody_who_asks_meanwhile() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    // A machine that stands still for two seconds makes another look.
    for _ in 0..5 {
        let asked = futures::future::join_all((0..20).map(|_| gateway.get("/v1/status", "reader"))).await;
        let times: BTreeSet<_> = asked.iter().map(|answer| answer.json()["at"].to_string()).collect();
        if times.len() == 1 {
            gateway.end().await;
            rig.end().await;
            return;
        }
    }
    panic!("each request looks for itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_read_page_by_page_and_filtered() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let key = rig.key("audit");
    let write = async |rig: &mut Rig, numbers: std::ops::Range<usize>| {
        let mut pipeline = redis::pipe();
        for number in numbers {
            let (who, action) =
                if number % 50 == 7 { ("Ada (ops)", "dead replay") } else { ("dan (imports)", "pause") };
            pipeline.xadd(
                &key,
                "*",
                &[("who", who), ("from", "x"), ("action", action), ("what", "{}"), ("count", &number.to_string())],
            );
        }
        let () = pipeline.query_async(&mut rig.connection).await.unwrap();
    };
    write(&mut rig, 0..2_500).await;
    let counts = |page: &Value| -> Vec<u64> {
        page["actions"].as_array().unwrap().iter().map(|action| action["count"].as_u64().unwrap()).collect()
    };
    let pages = async |query: &str| {
        let (mut found, mut path) = (Vec::new(), format!("/v1/audit?{query}"));
        loop {
            let page = gateway.get(&path, "reader").await.json();
            found.extend(counts(&page));
            let Some(cursor) = page["cursor"].as_str() else {
                assert_eq!(page["complete"], true, "{page}");
                return found;
            };
            assert_eq!(page["complete"], false, "{page}");
            path = format!("/v1/audit?{query}&cursor={cursor}");
        }
    };
    let all: Vec<u64> = (0..2_500).rev().collect();
    for limit in [300, 500, 1_000] {
        assert_eq!(pages(&format!("limit={limit}")).await, all, "{limit}");
    }
    // What is done meanwhile moves no later page.
    let first = gateway.get("/v1/audit?limit=10", "reader").await.json();
    write(&mut rig, 2_500..2_520).await;
    let next = format!("/v1/audit?limit=10&cursor={}", first["cursor"].as_str().unwrap());
    assert_eq!(counts(&gateway.get(&next, "reader").await.json()), all[10..20]);
    let adas: Vec<u64> = (0..50).rev().map(|n| n * 50 + 7).chain([]).collect();
    for query in ["who=ADA", "action=dead%20replay", "who=ops&action=replay&limit=20"] {
        assert_eq!(pages(query).await, [vec![2_507], adas.clone()].concat(), "{query}");
    }
    assert_eq!(pages("who=nobody").await, Vec::<u64>::new());
    for bad in ["limit=0", "limit=1001", "cursor=1-1", "cursor=c1.x"] {
        gateway.get(&format!("/v1/audit?{bad}"), "reader").await.problem(400, "bad-request");
    }
    gateway.end().await;
    rig.end().await;
}
