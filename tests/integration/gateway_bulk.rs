//! Many jobs in one request.

use crate::support::{
    RedisServer, Setup, check,
    gateway::{TestGateway, read_all},
};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const NDJSON: &str = "application/x-ndjson";

fn statuses(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["status"].as_u64().unwrap()).collect()
}

fn assert_indexed(lines: &[Value]) {
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_has_one_result_for_each_job_in_their_order() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let mut bulk = check("b1", "c");
    bulk["lane"] = "bulk".into();
    let jobs = json!([check("b0", "c"), bulk, {"type": "Odd"}, 7, check("b4", "c")]);
    let answer = gateway.post("/v1/jobs", "sender", &jobs).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON));
    let lines = answer.lines();
    assert_eq!(statuses(&lines), [202, 202, 422, 422, 202], "{lines:#?}");
    assert_indexed(&lines);
    assert_eq!((&lines[0]["id"], &lines[1]["lane"]), (&json!("b0"), &json!("bulk")));
    assert!(lines[4]["wait_url"].as_str().unwrap().contains("/v1/jobs/b4/wait?ticket="));
    assert_eq!(lines[2]["problem"]["type"], "urn:xco-worker:problem:invalid-job");
    assert_eq!(lines[2]["problem"]["errors"][0]["pointer"], "/type");
    rig.wait_for(3).await;

    assert_eq!(gateway.post("/v1/jobs", "sender", &json!([])).await.text, "");
    let many: Vec<_> = (0..1_001).map(|n| check(&format!("n{n}"), "c")).collect();
    gateway.post("/v1/jobs", "sender", &json!(many)).await.problem(413, "too-large");
    gateway.post_text("/v1/jobs", "sender", "application/json", "[{},]").await.problem(400, "invalid-json");
    // A key gives each job an id.
    let mut anonymous = check("x", "c");
    anonymous.as_object_mut().unwrap().remove("id");
    let request = gateway.request(Method::POST, "/v1/jobs", "sender").header("idempotency-key", "\"k\"");
    let lines = gateway.send(request.json(&json!([anonymous, check("own", "c"), anonymous]))).await.lines();
    assert_eq!((&lines[0]["id"], &lines[2]["id"]), (&json!("k/0"), &json!("k/2")), "{lines:#?}");
    assert_eq!(lines[1]["problem"]["type"], "urn:xco-worker:problem:id-conflict");
    rig.wait_for(5).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_spoils_only_itself() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(80 * 1024));
    let foreign = check("c", "c").to_string().replace("\"id\":\"c\"", "\"id\":\"\u{1}\"");
    let mut body =
        format!("\u{feff}{}\r\n\n  \n{{\n{long}\n{foreign}\n{}\n[]\n", check("l0", "c"), check("l4", "c")).into_bytes();
    body.extend_from_slice(b"\xff\xfe\n");
    // The last line needs no end.
    body.extend_from_slice(check("l7", "c").to_string().as_bytes());
    let answer = gateway.post_text("/v1/jobs?lane=bulk", "sender", "application/x-ndjson; charset=utf-8", body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON));
    let lines = answer.lines();
    assert_indexed(&lines);
    assert_eq!(statuses(&lines), [202, 400, 413, 400, 202, 422, 400, 202], "{lines:#?}");
    assert!(lines.iter().filter(|line| line["status"] == 202).all(|line| line["lane"] == "bulk"));
    rig.wait_for(3).await;
    // Faults of the request itself are answered before the stream begins.
    gateway.post_text("/v1/jobs?lane=odd", "sender", NDJSON, "").await.problem(422, "invalid-job");
    gateway.post_text("/v1/jobs", "reader", NDJSON, "").await.problem(403, "forbidden");
    assert_eq!(gateway.post_text("/v1/jobs", "sender", NDJSON, "\n\n").await.text, "");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_lines_are_enqueued_in_their_order() {
    const LINES: usize = 100_000;
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let body: String = (0..LINES).map(|n| check(&format!("n{n}"), "c").to_string() + "\n").collect();
    let request = gateway.request(Method::POST, "/v1/jobs?lane=bulk", "sender").timeout(Duration::from_secs(500));
    let answer = gateway.send(request.header("content-type", NDJSON).body(body)).await;
    let lines = answer.lines();
    assert_eq!(lines.len(), LINES);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(
            (&line["index"], &line["status"], &line["id"]),
            (&json!(index), &json!(202), &json!(format!("n{index}")))
        );
    }
    let lane = rig.key("jobs:bulk");
    assert_eq!(rig.connection.xlen::<_, usize>(&lane).await.unwrap(), LINES);
    let last: redis::streams::StreamRangeReply = rig.connection.xrevrange_count(&lane, "+", "-", 1).await.unwrap();
    assert_eq!(json!(last.ids[0].id), lines[LINES - 1]["entry_id"]);
    let _: () = rig.connection.del(&lane).await.unwrap();
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_after_redis_is_lost_has_its_own_answer() {
    let setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "no"]), ..Setup::default() };
    let mut rig = setup.without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut stream = gateway.connect().await;
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret-of-sender\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let send = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(send(check("r0", "c").to_string() + "\n").as_bytes()).await.unwrap();
    // The first result comes before the body has ended.
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("\"status\":202") {
        let mut chunk = [0; 4096];
        let bytes = timeout(Duration::from_secs(30), stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(bytes > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&chunk[..bytes]);
    }
    rig.redis.kill();
    let lines: String = (1..=300).map(|n| check(&format!("r{n}"), "c").to_string() + "\n").collect();
    stream.write_all((send(lines) + "0\r\n\r\n").as_bytes()).await.unwrap();
    // One loss is waited for, not one for every hundred lines.
    let rest = timeout(Duration::from_secs(40), read_all(&mut stream)).await.expect("all results in time");
    let rest = without_chunks(&rest);
    assert_eq!(rest.matches("\"status\":503,\"problem\"").count(), 300, "{rest}");
    assert!(rest.contains("redis-unavailable") && rest.contains("{\"index\":300,"));
    // A single job is refused as well.
    let request = gateway.request(Method::POST, "/v1/jobs", "sender").json(&check("one", "c"));
    let answer = gateway.send(request).await;
    answer.problem(503, "redis-unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    gateway.end().await;
}

/// A body without the sizes of its chunks.
fn without_chunks(text: &str) -> String {
    let (mut body, mut rest) = (String::new(), text);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read_from() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut stream = gateway.connect().await;
    let head = "POST /v1/jobs?lane=bulk HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret-of-sender\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let lines: String = (0..1_000).map(|n| check(&format!("u{n}"), "c").to_string() + "\n").collect();
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    // At some time the gateway stops reading; before that, the system buffers some megabytes.
    let writing = async {
        for _ in 0..2_000 {
            stream.write_all(chunk.as_bytes()).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let written = timeout(Duration::from_secs(300), writing).await.expect("the gateway ends the stream");
    assert!(written.is_err(), "200 MB were read without an answer being read");
    // Others are served meanwhile and afterwards.
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("other", "c")).await.status, 202);
    for lane in ["jobs:bulk", "jobs:interactive"] {
        let _: () = rig.connection.del(rig.key(lane)).await.unwrap();
    }
    gateway.end().await;
    rig.end().await;
}
