//! The flows of XCO's guide, end to end.

use super::support::{Setup, check};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_customer_is_checked_created_and_exists() {
    let mut rig = Setup::default().start().await;
    let absent = rig.complete(check("c1", "192.0.2.1")).await;
    assert_eq!(absent["status"], "succeeded", "{absent:#}");
    assert_eq!(absent["outcome"], "absent");
    assert_eq!(absent["result"], json!({"exists": false, "token_count": 0}));
    assert_eq!(absent["attempts"], 1);

    let created = rig
        .complete(json!({"id": "c2", "type": "CreateUser", "meta": {"k": "v"}, "args": {
            "customer_reference": "ref/1 é", "user": {"email": "c1@example.com", "gender": "female"}}}))
        .await;
    assert_eq!(created["outcome"], "created", "{created:#}");
    assert_eq!(created["result"]["customer_reference"], "ref/1 é");
    assert_eq!(created["customer_reference"], "ref/1 é");
    assert_eq!(created["meta"], json!({"k": "v"}));

    let mut again = check("c3", "192.0.2.1");
    again["args"]["email"] = json!("c1@example.com");
    let exists = rig.complete(again).await;
    assert_eq!(exists["outcome"], "exists");
    rig.end().await;
}
