//! Who may do what through the gateway.

use crate::support::{
    MERCHANT, Setup, check,
    gateway::{OTHER_MERCHANT, TestGateway, gateway_toml},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use xco_worker::gateway::openapi_document;

/// Every route with the role that it requires. `-`: open to everybody; `ticket`: open to whoever has one.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/v1/jobs", "enqueue"),
    ("GET", "/v1/jobs", "read"),
    ("POST", "/v1/jobs/search", "read"),
    ("GET", "/v1/jobs/{id}", "read"),
    ("DELETE", "/v1/jobs/{id}", "operate"),
    ("GET", "/v1/jobs/{id}/wait", "ticket"),
    ("GET", "/v1/completions", "read"),
    ("GET", "/v1/status", "read"),
    ("GET", "/v1/audit", "read"),
    ("GET", "/v1/backfills", "read"),
    ("GET", "/v1/backfills/{batch}", "read"),
    ("GET", "/v1/dead-letters", "read"),
    ("GET", "/v1/dead-letters/{id}", "read"),
    ("POST", "/v1/dead-letters/replays", "operate"),
    ("GET", "/v1/dead-letters/replays", "operate"),
    ("GET", "/v1/dead-letters/replays/{run}", "operate"),
    ("DELETE", "/v1/dead-letters/replays/{run}", "operate"),
    ("POST", "/v1/dead-letters/discards", "operate"),
    ("GET", "/v1/dead-letters/discards", "operate"),
    ("GET", "/v1/dead-letters/discards/{run}", "operate"),
    ("DELETE", "/v1/dead-letters/discards/{run}", "operate"),
    ("GET", "/v1/pauses", "operate"),
    ("POST", "/v1/pauses", "operate"),
    ("DELETE", "/v1/pauses", "operate"),
    ("GET", "/metrics", "read"),
    ("GET", "/openapi.json", "-"),
    ("GET", "/healthz", "-"),
    ("GET", "/readyz", "-"),
];

/// Routes about the whole queue, which a token for some merchants may not use.
const QUEUE_WIDE: &[(&str, &str)] = &[
    ("GET", "/v1/status"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/backfills"),
    ("GET", "/v1/backfills/spring"),
    ("GET", "/v1/pauses"),
    ("POST", "/v1/pauses"),
    ("DELETE", "/v1/pauses?type=CheckUser"),
];

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "some-job").replace("{run}", "r-1").replace("{batch}", "spring")
}

/// The operations of the `OpenAPI` document, as `GET /v1/jobs`.
fn documented() -> BTreeSet<(String, String)> {
    let document = openapi_document();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    operations.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_requests_without_a_token_or_its_role() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    for (name, path, role) in ROUTES.iter().filter(|(_, _, role)| *role != "-") {
        let path = concrete(path);
        for token in ["", "unknown"] {
            let answer = gateway.send(gateway.request(method(name), &path, token)).await;
            answer.problem(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        }
        if *role == "ticket" {
            continue;
        }
        for (token, roles) in [("sender", "enqueue"), ("reader", "read"), ("ops", "operate")] {
            if roles != *role {
                gateway.send(gateway.request(method(name), &path, token)).await.problem(403, "forbidden");
            }
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
async fn the_document_and_the_router_have_the_same_routes() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let document: Value = gateway.get("/openapi.json", "").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (name, path) in documented() {
        let answer = gateway.send(gateway.request(method(&name), &concrete(&path), "")).await;
        let is_open = ROUTES.contains(&(&name, &path, "-"));
        let is_there = if is_open { matches!(answer.status, 200 | 503) } else { answer.status == 401 };
        assert!(is_there, "{name} {path}: {answer:?}");
    }
    let here: BTreeSet<_> = ROUTES.iter().map(|(name, path, _)| ((*name).to_owned(), (*path).to_owned())).collect();
    let documented = documented();
    assert_eq!(here.difference(&documented).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not documented");
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
    for (name, path) in QUEUE_WIDE {
        let mut request = gateway.request(method(name), path, "merchant");
        if *name == "POST" {
            request = request.json(&json!({"jobs": {"type": "CheckUser"}}));
        }
        gateway.send(request).await.problem(403, "forbidden");
    }
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
