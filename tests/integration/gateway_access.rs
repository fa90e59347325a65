//! Who may do what through the gateway.

use crate::support::{
    MERCHANT, Setup, check,
    gateway::{OTHER_MERCHANT, TestGateway, gateway_toml},
    openapi::documented,
};
use redis::AsyncCommands;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use xco_worker::gateway::openapi_document;

/// Every operation: its role (`-`: open to everybody; `ticket`: open to whoever has one), and what a token for some merchants may do
/// there: everything about its own jobs (`own`), or nothing, because the route is about the whole queue (`queue`).
const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("POST", "/v1/jobs", "enqueue", "own"),
    ("GET", "/v1/jobs", "read", "own"),
    ("POST", "/v1/jobs/search", "read", "own"),
    ("GET", "/v1/jobs/{id}", "read", "own"),
    ("DELETE", "/v1/jobs/{id}", "operate", "own"),
    ("GET", "/v1/jobs/{id}/wait", "ticket", "-"),
    ("GET", "/v1/completions", "read", "own"),
    ("GET", "/v1/status", "read", "queue"),
    ("GET", "/v1/audit", "read", "queue"),
    ("GET", "/v1/limits", "read", "queue"),
    ("PUT", "/v1/limits", "operate", "queue"),
    ("GET", "/v1/callers", "read", "queue"),
    ("GET", "/v1/callers/{id}", "read", "queue"),
    ("GET", "/v1/batches", "read", "queue"),
    ("GET", "/v1/batches/{name}", "read", "queue"),
    ("GET", "/v1/backfills", "read", "queue"),
    ("GET", "/v1/backfills/{batch}", "read", "queue"),
    ("GET", "/v1/backfills/{batch}/results", "read", "queue"),
    ("GET", "/v1/dead-letters", "read", "own"),
    ("GET", "/v1/dead-letters/{id}", "read", "own"),
    ("POST", "/v1/dead-letters/replays", "operate", "own"),
    ("GET", "/v1/dead-letters/replays", "operate", "own"),
    ("GET", "/v1/dead-letters/replays/{run}", "operate", "own"),
    ("DELETE", "/v1/dead-letters/replays/{run}", "operate", "own"),
    ("POST", "/v1/dead-letters/discards", "operate", "own"),
    ("GET", "/v1/dead-letters/discards", "operate", "own"),
    ("GET", "/v1/dead-letters/discards/{run}", "operate", "own"),
    ("DELETE", "/v1/dead-letters/discards/{run}", "operate", "own"),
    ("GET", "/v1/pauses", "operate", "queue"),
    ("POST", "/v1/pauses", "operate", "queue"),
    ("DELETE", "/v1/pauses", "operate", "queue"),
    ("GET", "/metrics", "read", "queue"),
    ("GET", "/openapi.json", "-", "-"),
    ("GET", "/healthz", "-", "-"),
    ("GET", "/readyz", "-", "-"),
];

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

fn concrete(path: &str) -> String {
    let named = [("{id}", "some-job"), ("{run}", "r-1"), ("{batch}", "spring"), ("{name}", "spring")];
    named.into_iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// A request of a route, with what it needs to be valid.
fn valid(gateway: &TestGateway, name: &str, path: &str, token: &str) -> RequestBuilder {
    let query = if (name, path) == ("DELETE", "/v1/pauses") { "?type=CheckUser" } else { "" };
    let request = gateway.request(method(name), &format!("{}{query}", concrete(path)), token);
    match (name, path) {
        ("POST", "/v1/jobs") => request.json(&check("one", "c")),
        ("POST", "/v1/jobs/search") => request.json(&json!({"state": "waiting"})),
        ("POST", "/v1/pauses") => request.json(&json!({"jobs": {"type": "CheckUser"}})),
        ("PUT", "/v1/limits") => request.json(&json!({"name": "total", "rate": "1/s"})),
        ("POST", "/v1/dead-letters/replays" | "/v1/dead-letters/discards") => {
            request.json(&json!({"filter": {}, "dry_run": true}))
        }
        _ => request,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_requests_without_a_token_or_its_role() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    for (name, path, role, merchants) in ROUTES.iter().filter(|(_, _, role, _)| *role != "-") {
        for token in ["", "unknown"] {
            let answer = gateway.send(valid(&gateway, name, path, token)).await;
            answer.problem(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        }
        if *role == "ticket" {
            continue;
        }
        for (token, roles) in [("sender", "enqueue"), ("reader", "read"), ("ops", "operate")] {
            if roles != *role {
                gateway.send(valid(&gateway, name, path, token)).await.problem(403, "forbidden");
            }
        }
        if *merchants == "queue" {
            gateway.send(valid(&gateway, name, path, "merchant")).await.problem(403, "forbidden");
        }
    }
    // Other ways to write a credential are none.
    for value in ["Basic YTpi", "Bearer", "Bearer ", "secret-of-all", "Bearer secret-of-all x"] {
        let request = gateway.request(Method::GET, "/v1/status", "").header("authorization", value);
        gateway.send(request).await.problem(401, "unauthorized");
    }
    let lower = gateway.request(Method::GET, "/v1/audit", "").header("authorization", "bearer  secret-of-reader");
    assert_eq!(gateway.send(lower).await.status, 200);
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_that_is_malformed_oversized_or_of_another_kind_is_refused() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let paths = &openapi_document()["paths"];
    let mut tried = 0;
    for (name, path, ..) in ROUTES {
        if paths[path][name.to_ascii_lowercase()]["requestBody"].is_null() {
            continue;
        }
        tried += 1;
        let to = concrete(path);
        let send = async |kind: &str, body: String| {
            let request = gateway.request(method(name), &to, "all").header("content-type", kind);
            gateway.send(request.body(body)).await
        };
        for body in ["{", "", "[", "\"\u{0}"] {
            send("application/json", body.to_owned()).await.problem(400, "invalid-json");
        }
        send("text/plain", "{}".to_owned()).await.problem(415, "unsupported-type");
        // A little more than is allowed: what the gateway leaves unread may break the connection before its answer is read.
        let allowed = if *path == "/v1/jobs" { 72 * 1024 } else { 256 * 1024 };
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(allowed));
        send("application/json", long).await.problem(413, "too-large");
        if *path != "/v1/jobs" {
            send("application/json", "{\"odd\":1}".to_owned()).await.problem(400, "bad-request");
        }
    }
    assert_eq!(tried, 6);
    for key in ["jobs:interactive", "jobs:bulk", "audit", "limits"] {
        let exists: bool = rig.connection.exists(rig.key(key)).await.unwrap();
        assert!(!exists, "{key}: a request that is refused changes nothing");
    }
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_served_description_is_in_the_list_and_is_there() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let document: Value = gateway.get("/openapi.json", "").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document, *openapi_document());
    // The list is what the other tests attack: a new route fails here until it has a role and a scope.
    let listed: BTreeSet<_> = ROUTES.iter().map(|(name, path, ..)| ((*name).to_owned(), (*path).to_owned())).collect();
    assert_eq!(listed.len(), ROUTES.len(), "a route is listed twice");
    assert_eq!(listed, documented());
    for (name, path, role, _) in ROUTES {
        let answer = gateway.send(gateway.request(method(name), &concrete(path), "")).await;
        let is_there = if *role == "-" { matches!(answer.status, 200 | 503) } else { answer.status == 401 };
        assert!(is_there, "{name} {path}: {answer:?}");
    }
    // What is no route is a problem too.
    gateway.get("/v1/nothing", "").await.problem(404, "not-found");
    let answer = gateway.send(gateway.request(Method::PATCH, "/v1/jobs", "all")).await;
    answer.problem(405, "method-not-allowed");
    assert!(answer.header("allow").contains("POST"), "{answer:?}");
    gateway.get("/v1/jobs/%FF", "all").await.problem(400, "bad-request");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_merchant_sees_and_touches_its_jobs_alone() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    // The merchant is filled in; a job of another is refused, as a child too.
    let accepted = gateway.post("/v1/jobs", "merchant", &check("own", "c")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(rig.completion("own").await["merchant_id"], OTHER_MERCHANT);
    let mut foreign = check("foreign", "c");
    foreign["merchant_id"] = MERCHANT.into();
    let refused = gateway.post("/v1/jobs", "merchant", &foreign).await.problem(403, "forbidden");
    assert_eq!(refused["errors"][0]["pointer"], "/merchant_id");
    let mut parent = check("parent", "c");
    parent["next"] =
        json!({"absent": {"type": "CheckUser", "merchant_id": MERCHANT, "args": {"email": "a@example.com"}}});
    gateway.post("/v1/jobs", "merchant", &parent).await.problem(403, "forbidden");
    // A job without a merchant belongs to the configured one.
    for job in [foreign, check("default", "c")] {
        assert_eq!(gateway.post("/v1/jobs", "all", &job).await.status, 202);
        rig.completion(job["id"].as_str().unwrap()).await;
    }
    for id in ["foreign", "default", "unknown"] {
        let path = format!("/v1/jobs/{id}");
        gateway.get(&path, "merchant").await.problem(404, "not-found");
        gateway.delete(&path, "merchant").await.problem(404, "not-found");
        gateway.get(&format!("/v1/jobs?id={id}"), "merchant").await.problem(404, "not-found");
    }
    assert_eq!(gateway.get("/v1/jobs/own", "merchant").await.json()["completion"]["status"], "succeeded");
    let ids = |list: &Value| -> BTreeSet<String> {
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let list = gateway.get("/v1/jobs?state=ended", "merchant").await.json();
    assert_eq!(ids(&list), BTreeSet::from(["own".to_owned()]));
    let list = gateway.get("/v1/jobs?state=ended", "reader").await.json();
    assert_eq!(ids(&list).len(), 3, "{list}");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_this_machine_is_served() {
    let rig = Setup::default().without_worker().await;
    let toml = "[gateway]\nlisten = \"127.0.0.1:0\"\nprobe_listen = \"127.0.0.1:0\"\n";
    let gateway = TestGateway::start_with(&rig, toml, |_| ()).await;
    assert_eq!(gateway.get("/v1/audit", "").await.status, 200);
    let with = |name: &'static str, value: String| gateway.request(Method::GET, "/v1/audit", "").header(name, value);
    let port = gateway.address.port();
    for (name, value) in [("host", format!("localhost:{port}")), ("origin", format!("http://127.0.0.1:{port}"))] {
        assert_eq!(gateway.send(with(name, value)).await.status, 200, "{name}");
    }
    for (name, value) in [
        ("host", "rebound.example"),
        ("host", "10.0.0.1"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        gateway.send(with(name, value.to_owned())).await.problem(403, "forbidden");
    }
    // A secret that nobody configured opens nothing.
    gateway.get("/v1/audit", "all").await.problem(401, "unauthorized");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_the_person_and_the_token() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let pause = |operator: Option<&str>| {
        let mut request = gateway.request(Method::POST, "/v1/pauses", "ops");
        if let Some(operator) = operator {
            request = request.header("x-operator", operator.as_bytes());
        }
        gateway.send(request.json(&json!({"jobs": {"type": "StartOtp"}, "for": "10m", "reason": "XCO asked"})))
    };
    assert_eq!(pause(Some("ada")).await.status, 201);
    assert_eq!(pause(Some("Zoë Ångström")).await.status, 201);
    assert_eq!(pause(None).await.status, 201);
    for bad in ["", " ", &"x".repeat(65)] {
        pause(Some(bad)).await.problem(400, "bad-request");
    }
    let audit = gateway.get("/v1/audit?limit=10", "reader").await.json();
    let who: Vec<_> =
        audit["actions"].as_array().unwrap().iter().map(|action| action["who"].as_str().unwrap()).collect();
    assert_eq!(who, ["ops", "Zoë Ångström (ops)", "ada (ops)"], "{audit}");
    assert_eq!(gateway.get("/v1/audit?limit=1", "reader").await.json()["actions"].as_array().unwrap().len(), 1);
    gateway.get("/v1/audit?limit=x", "reader").await.problem(400, "bad-request");
    gateway.get("/v1/audit?limt=1", "reader").await.problem(400, "bad-request");
    gateway.end().await;
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_open_for_probes_alone() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    assert_eq!(gateway.get("/metrics", "reader").await.status, 200);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let probe = |path: &str| http.get(format!("http://{}{path}", gateway.probes)).send();
    for path in ["/metrics", "/healthz"] {
        assert_eq!(probe(path).await.unwrap().status().as_u16(), 200, "{path}");
    }
    assert_eq!(probe("/v1/status").await.unwrap().status().as_u16(), 404);
    gateway.end().await;
    rig.end().await;
}

#[test]
fn an_open_gateway_must_not_be_reachable_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let run = |toml: &str| {
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, toml).unwrap();
        let mut command = assert_cmd::Command::cargo_bin("xco-worker").unwrap();
        command.current_dir(folder.path()).env_clear().timeout(std::time::Duration::from_secs(60));
        command.arg("--config").arg(&file).args(["gateway", "--listen", "0.0.0.0:0"]).output().unwrap()
    };
    let refused = run("");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("gateway.tokens"), "{said}");
    // A faulty token is a fault of the configuration, and not repeated.
    let refused = run(&gateway_toml().replacen("\"read\"", "\"admin\"", 1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("admin") || said.contains("role"), "{said}");
}
