//! The gateway starts, stops, loses Redis, and meets clients that misbehave.

use crate::support::{
    RedisServer, Setup, check,
    gateway::{TestGateway, gateway_toml, read_all},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_redis() {
    let setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "no"]), ..Setup::default() };
    let mut rig = setup.without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let ready = async |gateway: &TestGateway, wanted: u16| {
        while gateway.get("/readyz", "").await.status != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let minute = Duration::from_secs(60);
    timeout(minute, ready(&gateway, 200)).await.unwrap();
    let mut events = gateway.completions("", "reader").await;
    rig.redis.kill();
    timeout(minute, ready(&gateway, 503)).await.unwrap();
    let told = gateway.get("/readyz", "").await.json();
    let since = told["redis"].as_str().unwrap().strip_prefix("unreachable since ").unwrap().to_owned();
    assert!(since.ends_with('Z') && since.starts_with("20"), "{told}");
    assert_eq!((&told["ready"], &told["reason"]), (&json!(false), &json!("Redis cannot be reached")));
    assert_eq!(gateway.get("/healthz", "").await.status, 200);
    for path in ["/v1/jobs/x", "/v1/audit", "/v1/backfills", "/v1/jobs?state=waiting", "/v1/status", "/v1/limits"] {
        let answer = gateway.get(path, "reader").await;
        answer.problem(503, "redis-unavailable");
        assert!(!answer.text.contains("127.0.0.1"), "{answer:?}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    // The time stays that of the loss.
    let later = gateway.get("/readyz", "").await.json();
    assert_eq!(later["redis"], told["redis"]);
    rig.redis.restart();
    timeout(minute, ready(&gateway, 200)).await.unwrap();
    assert_eq!(gateway.get("/readyz", "").await.json(), json!({"ready": true}));
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("back", "c")).await.status, 202);
    // A stream of events outlasts the loss.
    rig.start_worker();
    assert_eq!(timeout(minute, events.next()).await.unwrap().unwrap().data["id"], "back");
    drop(events);
    gateway.end().await;
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_end_and_ends_streams() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut events = gateway.completions("", "reader").await;
    let ticket =
        gateway.post("/v1/jobs", "sender", &check("t", "c")).await.json()["wait_url"].as_str().unwrap().to_owned();
    let path = format!("/v1/{}", ticket.split_once("/v1/").unwrap().1);
    let mut browser = gateway.events(gateway.request(Method::GET, &path, "")).await;
    assert_eq!(browser.next().await.unwrap().name, "pending");
    let waiting = tokio::spawn(
        gateway.request(Method::POST, "/v1/jobs", "sender").header("prefer", "wait=50").json(&check("w", "c")).send(),
    );
    rig.eventually("both are enqueued", async |rig| {
        rig.connection.xlen::<_, u64>(rig.key("jobs:interactive")).await.unwrap() == 2
    })
    .await;
    gateway.stop();
    assert_eq!(events.next().await, None);
    assert_eq!(browser.next().await, None);
    // No new connections; the waiting request has its completion.
    rig.eventually("it no longer listens", async |_| tokio::net::TcpStream::connect(gateway.address).await.is_err())
        .await;
    rig.start_worker();
    let answer = timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["preference-applied"], "wait=50");
    gateway.end().await;
    rig.wait_for(2).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_program_in_order() {
    let mut rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, gateway_toml()).unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .arg("--config")
        .arg(&file)
        .arg("gateway")
        .env("XCO_WORKER__REDIS__URL", rig.redis.url_as("operator"))
        .env("XCO_WORKER__REDIS__NAMESPACE", &rig.config.redis.namespace)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says where it listens, on one of its two streams.
    let (to, mut said) = tokio::sync::mpsc::unbounded_channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let to = to.clone();
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(to.send(line)));
        });
    }
    drop(to);
    let mut lines = Vec::new();
    let address = loop {
        let line = timeout(Duration::from_secs(60), said.recv()).await.unwrap().expect("it listens");
        lines.push(line.clone());
        if let Some((_, address)) = line.split_once("listens on ") {
            break address.to_owned();
        }
    };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut job = check("person", "203.0.113.9");
    job["args"]["email"] = "ada.unusual@example.com".into();
    let request = http.post(format!("{address}/v1/jobs")).bearer_auth("secret-of-sender").header("prefer", "wait=20");
    assert_eq!(request.json(&job).send().await.unwrap().status().as_u16(), 200);
    let request = http.post(format!("{address}/v1/jobs/ada.unusual@example.com")).bearer_auth("secret-of-nobody");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 405);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    while let Some(line) = said.recv().await {
        lines.push(line);
    }
    let log = lines.join("\n");
    assert_eq!(status.code(), Some(0), "{log}");
    for secret in ["secret-of", "ada.unusual", "203.0.113.9", "ticket="] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    rig.wait_for(1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_oversized_requests_are_ended() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(40 * 1024));
    let answer = gateway.raw(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = gateway.raw(b"NONSENSE\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // A head that never ends, a body that never ends, and one that breaks off.
    let head = gateway.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow:");
    let unfinished = "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret-of-sender\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let body = gateway.raw(unfinished.as_bytes());
    // Without a valid token no byte of the body is waited for.
    let stranger = unfinished.replace("secret-of-sender", "guess");
    let stranger = gateway.raw(stranger.as_bytes());
    let (head, body, stranger) = tokio::join!(head, body, stranger);
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("timed-out"), "{body}");
    assert!(stranger.starts_with("HTTP/1.1 401 "), "{stranger}");
    let mut broken = gateway.connect().await;
    broken.write_all(unfinished.as_bytes()).await.unwrap();
    broken.shutdown().await.unwrap();
    let broken = read_all(&mut broken).await;
    assert!(broken.is_empty() || broken.starts_with("HTTP/1.1 400 "), "{broken}");
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("after", "c")).await.status, 202);
    rig.wait_for(1).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_starve_neither_probes_nor_requests() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let mut idle = Vec::new();
    for n in 0..2_000 {
        // Beyond its bound for one address the gateway closes them.
        if let Ok(mut stream) = tokio::net::TcpStream::connect(gateway.address).await {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n").await;
            idle.push(stream);
        }
        if n % 200 == 0 {
            let probe = http.get(format!("http://{}/healthz", gateway.probes)).send().await.unwrap();
            assert_eq!(probe.status().as_u16(), 200);
        }
    }
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("through", "c")).await.status, 202);
    rig.wait_for(1).await;
    drop(idle);
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_headers() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut ids = std::collections::BTreeSet::new();
    for (path, token) in
        [("/healthz", ""), ("/v1/audit", "reader"), ("/v1/audit", ""), ("/nothing", ""), ("/openapi.json", "")]
    {
        let answer = gateway.get(path, token).await;
        // What is left of the token's rate.
        let policy = if token.is_empty() { "" } else { "\"requests\";q=1000;w=2, \"jobs\";q=5000;w=1" };
        assert_eq!(answer.header("ratelimit-policy"), policy, "{path}");
        assert_eq!(answer.header("ratelimit").starts_with("\"requests\";r="), !token.is_empty(), "{path}");
        assert!(ids.insert(answer.header("x-request-id").to_owned()));
        for (name, wanted) in
            [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("x-frame-options", "DENY")]
        {
            assert_eq!(answer.header(name), wanted, "{path} {name}");
        }
    }
    // A client cannot write into them.
    let host = "POST /v1/jobs HTTP/1.1\r\nhost: a\"><b\r\nauthorization: Bearer secret-of-sender\r\ncontent-type: application/json\r\n\
        connection: close\r\ncontent-length: 2\r\n\r\n{}";
    let answer = gateway.raw(host.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let mut stream = gateway.connect().await;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(!text.contains("mine"), "{text}");
    assert_eq!(json!(ids.len()), json!(5));
    gateway.end().await;
    rig.end().await;
}
