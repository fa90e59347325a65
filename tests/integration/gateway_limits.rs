//! Limits, callers and batches over HTTP: the gateway's routes, as an operator's program calls them.

use super::support::{Rig, Setup, check, limit, with};
use redis::AsyncCommands;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{GatewayRole, GatewayToken},
    contract::{MerchantId, fingerprint},
    gateway::Gateway,
    sandbox::Fault,
    telemetry::Metrics,
};

/// A gateway beside the workers of a test, with the tokens `reader`, `shop` (reads and enqueues), `operator` and `merchant` (reads, for
/// one merchant alone).
struct Door {
    address: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

fn token(name: &str, roles: &[GatewayRole], merchants: &[MerchantId]) -> GatewayToken {
    GatewayToken {
        name: name.to_owned(),
        sha256: Sha256::digest(name).into(),
        roles: roles.to_vec(),
        merchants: merchants.to_vec(),
    }
}

impl Door {
    async fn open(rig: &Rig) -> Self {
        use GatewayRole::{Enqueue, Operate, Read};
        let mut config = rig.config.clone();
        config.redis = rig.redis_as("operator");
        config.gateway.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.gateway.tokens = vec![
            token("reader", &[Read], &[]),
            token("shop", &[Read, Enqueue], &[]),
            token("operator", &[Operate], &[]),
            token("merchant", &[Read, Operate], &[config.xco.merchant_id.clone().unwrap()]),
        ];
        let gateway = Gateway::bind(config, Metrics::default()).await.unwrap();
        let (address, stop) = (gateway.address(), CancellationToken::new());
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        Self { address, client: reqwest::Client::new(), stop, serving }
    }

    async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(token);
        let request = request.header("x-operator", "ada");
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn get(&self, token: &str, path: &str) -> Value {
        let (status, answer) = self.ask(token, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer:#}");
        answer
    }

    async fn status(&self, token: &str, path: &str) -> u16 {
        self.ask(token, Method::GET, path, None).await.0.as_u16()
    }

    async fn put(&self, body: Value) -> (StatusCode, Value) {
        self.ask("operator", Method::PUT, "/v1/limits", Some(body)).await
    }

    async fn close(self) {
        self.stop.cancel();
        // Connections that wait for another request would keep it open.
        drop(self.client);
        self.serving.await.unwrap();
    }
}

fn total(limits: &Value) -> &Value {
    limits["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "total").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_and_reset_over_http() {
    let mut setup = Setup::default();
    setup.config.limits.total = Some(limit("1000/s", 1000));
    let mut rig = setup.start().await;
    // Its first completion shows that the worker has named itself.
    rig.complete(check("a", "c")).await;
    let door = Door::open(&rig).await;
    let before = door.get("reader", "/v1/limits").await;
    assert_eq!((&total(&before)["rate"], &total(&before)["from"]), (&json!("1000/s"), &json!("file")), "{before:#}");
    assert_eq!((&before["in_force_on"], &before["workers"]), (&json!(1), &json!(1)), "{before:#}");

    let order = json!({"name": "total", "rate": "100/s", "burst": 100, "reason": "XCO asked"});
    let (status, changed) = door.put(order).await;
    assert_eq!(status, StatusCode::OK, "{changed:#}");
    let entry = |value: &Value| json!([value["name"], value["rate"], value["burst"], value["from"], value["reason"]]);
    let wanted = json!(["total", "100/s", 100, "ada (operator)", "XCO asked"]);
    assert_eq!(entry(&changed), wanted, "{changed:#}");
    assert_eq!(changed["file"], json!({"rate": "1000/s", "burst": 1000}));
    assert_eq!((&changed["in_force_on"], &changed["workers"]), (&json!(1), &json!(1)), "{changed:#}");
    assert_eq!(entry(total(&door.get("reader", "/v1/limits").await)), wanted);

    let (status, slots) = door.put(json!({"name": "concurrency", "value": 3})).await;
    assert_eq!((status, &slots["name"], &slots["value"]), (StatusCode::OK, &json!("concurrency"), &json!(3)));
    let (_, reset) = door.put(json!({"name": "total", "rate": null})).await;
    assert_eq!((&reset["rate"], &reset["from"]), (&json!("1000/s"), &json!("file")), "{reset:#}");
    door.put(json!({"name": "concurrency", "value": null})).await;
    let key = rig.key("limits");
    assert!(!rig.connection.exists::<_, bool>(key).await.unwrap(), "nothing is overridden any more");

    for wrong in [
        json!({"name": "total"}),
        json!({"name": "total", "rate": "fast"}),
        json!({"name": "all", "rate": "1/s"}),
        json!({"name": "client", "burst": 5}),
        json!({"name": "concurrency", "value": 0}),
        json!({"name": "total", "rate": "1/s", "reason": "x".repeat(201)}),
    ] {
        let (status, answer) = door.put(wrong.clone()).await;
        assert_eq!(
            (status, &answer["type"]),
            (StatusCode::BAD_REQUEST, &json!("urn:xco-worker:problem:bad-request")),
            "{wrong}"
        );
    }
    assert!(!rig.connection.exists::<_, bool>(rig.key("limits")).await.unwrap(), "a wrong request changes nothing");
    let refused = door.ask("reader", Method::PUT, "/v1/limits", Some(json!({"name": "total", "rate": "1/s"}))).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN, "{:#}", refused.1);
    assert_eq!((door.status("merchant", "/v1/limits").await, door.status("nobody", "/v1/limits").await), (403, 401));
    door.close().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_shown_by_name_only_to_tokens_that_enqueue() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/h", 1));
    let mut rig = setup.start().await;
    let mut fault = Fault::status(429).retry_after("3600");
    fault.caller_id = Some("203.0.113.9".to_owned());
    rig.sandbox.order(fault);
    rig.enqueue(&with(check("c1", "203.0.113.9"), "ttl_ms", 3_000)).await;
    // It ends at once: its limit opens after its deadline.
    assert_eq!(rig.completion("c1").await["error"]["kind"], "rate_limited");
    for number in 0..3 {
        rig.enqueue(&with(check(&format!("g{number}"), "a/b"), "ttl_ms", 72_000_000)).await;
    }
    for number in 0..2 {
        rig.enqueue(&with(check(&format!("f{number}"), "few"), "ttl_ms", 72_000_000)).await;
    }
    rig.eventually("they wait", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 3
    })
    .await;
    let door = Door::open(&rig).await;
    let closed = door.get("shop", "/v1/callers").await;
    let callers = closed["callers"].as_array().unwrap();
    assert_eq!((callers.len(), &callers[0]["caller"]), (1, &json!("203.0.113.9")), "{closed:#}");
    assert!(callers[0]["closed_until"].is_string(), "{closed:#}");
    let masked = door.get("reader", "/v1/callers?state=limited").await;
    assert_eq!(masked["callers"][0]["caller"], json!(fingerprint("203.0.113.9")), "{masked:#}");
    assert!(!masked.to_string().contains("203.0.113.9"), "{masked:#}");

    let first = door.get("shop", "/v1/callers?state=delayed&limit=1").await;
    assert_eq!((&first["callers"][0]["caller"], &first["callers"][0]["delayed"]), (&json!("a/b"), &json!(2)));
    let cursor = first["cursor"].as_str().unwrap();
    let second = door.get("shop", &format!("/v1/callers?state=delayed&limit=1&cursor={cursor}")).await;
    assert_eq!((&second["callers"][0]["caller"], &second["complete"]), (&json!("few"), &json!(true)), "{second:#}");

    let one = door.get("shop", "/v1/callers/a%2Fb").await;
    assert_eq!((&one["caller"], &one["delayed"], &one["paused"]), (&json!("a/b"), &json!(2), &Value::Null), "{one:#}");
    assert_eq!(one["configured"], json!({"rate": "1/h", "burst": 1}));
    let masked = door.get("reader", "/v1/callers/203.0.113.9").await;
    assert_eq!(masked["caller"], json!(fingerprint("203.0.113.9")), "{masked:#}");
    assert!(masked["closed_until"].is_string() && masked["learned"]["last_429_at"].is_string(), "{masked:#}");
    for (path, status) in [
        ("/v1/callers/unknown", 404),
        ("/v1/callers?state=gone", 400),
        ("/v1/callers?limit=0", 400),
        ("/v1/callers?cursor=x", 400),
    ] {
        assert_eq!(door.status("reader", path).await, status, "{path}");
    }
    assert_eq!(
        (door.status("merchant", "/v1/callers").await, door.status("operator", "/v1/callers").await),
        (403, 403)
    );

    let (status, raised) = door.put(json!({"name": "caller", "rate": "off"})).await;
    assert_eq!((status, &raised["brought_forward"]), (StatusCode::OK, &json!(3)), "{raised:#}");
    rig.wait_for(6).await;
    door.put(json!({"name": "caller", "rate": null})).await;
    door.close().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_counted_over_http() {
    let mut rig = Setup::default().start().await;
    for number in 0..3 {
        rig.enqueue(&with(check(&format!("j{number}"), &format!("c{number}")), "batch", "spring 1")).await;
    }
    rig.enqueue(&with(check("k", "c"), "batch", "autumn")).await;
    rig.wait_for(4).await;
    let door = Door::open(&rig).await;
    let spring = door.get("reader", "/v1/batches/spring%201").await;
    let wanted = json!({
        "batch": "spring 1", "enqueued": null, "accepted": 3, "ended": 3, "outcomes": {"succeeded": 3}, "cancelled": null
    });
    assert_eq!(spring, wanted);
    let (mut names, mut path) = (Vec::new(), "/v1/batches?limit=1".to_owned());
    loop {
        let page = door.get("reader", &path).await;
        names.extend(
            page["batches"].as_array().unwrap().iter().map(|batch| batch["batch"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["cursor"].as_str() else {
            assert_eq!(page["complete"], true);
            break;
        };
        path = format!("/v1/batches?limit=1&cursor={cursor}");
    }
    names.sort();
    names.dedup();
    assert_eq!(names, ["autumn", "spring 1"]);
    for (path, status) in [("/v1/batches/none", 404), ("/v1/batches?limit=501", 400), ("/v1/batches?cursor=x", 400)] {
        assert_eq!(door.status("reader", path).await, status, "{path}");
    }
    assert_eq!(
        (door.status("merchant", "/v1/batches").await, door.status("operator", "/v1/batches/autumn").await),
        (403, 403)
    );
    door.close().await;
    rig.end().await;
}
