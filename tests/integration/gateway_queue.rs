//! Pauses, status and backfills through the gateway.

use crate::support::{Setup, check, gateway::TestGateway};
use serde_json::{Value, json};

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
    assert_eq!(gateway.get("/v1/audit", "reader").await.json(), json!({"actions": []}));
    gateway.end().await;
    rig.end().await;
}
