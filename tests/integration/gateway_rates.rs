//! What one token may ask of the gateway: requests a second, and streams at once.

use crate::support::{Setup, check, gateway::TestGateway};
use redis::AsyncCommands;
use reqwest::Method;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LONGEST: Duration = Duration::from_secs(60);

/// Reads until the answers hold a text. Returns everything that was read.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut chunk = vec![0; 16 * 1024];
    let reading = async {
        while !text.contains(wanted) {
            let bytes = stream.read(&mut chunk).await.unwrap();
            assert!(bytes > 0, "it is closed without {wanted}: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..bytes]));
        }
    };
    timeout(LONGEST, reading).await.unwrap_or_else(|_| panic!("no {wanted}"));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_beyond_its_rate_gets_429_and_a_time_and_others_go_on() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    // Refused before Redis is asked, so that the requests come faster than the rate.
    let request =
        "GET /v1/audit?odd=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret-of-reader\r\n\r\n".repeat(500);
    let (mut reading, mut writing) = gateway.connect().await.into_split();
    let sending = tokio::spawn(async move { while writing.write_all(request.as_bytes()).await.is_ok() {} });
    let (mut text, mut chunk) = (String::new(), vec![0; 64 * 1024]);
    let refused = async {
        loop {
            let bytes = reading.read(&mut chunk).await.unwrap();
            assert!(bytes > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..bytes]));
            let Some(at) = text.find("HTTP/1.1 429 ") else {
                text.drain(..text.len().saturating_sub(8 * 1024));
                continue;
            };
            if let Some((answer, _)) = text[at..].split_once("\"}") {
                return answer.to_ascii_lowercase();
            }
        }
    };
    let refused = timeout(LONGEST, refused).await.expect("the rate is exceeded");
    for wanted in [
        "retry-after: 1\r\n",
        "ratelimit: \"requests\";r=0;t=1\r\n",
        "urn:xco-worker:problem:rate-limited",
        "this token may send 500 requests a second",
    ] {
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    // Another token has its own rate, and the first is served again.
    assert_eq!(gateway.get("/v1/audit", "both").await.status, 200);
    sending.abort();
    drop(reading);
    let again = async {
        while gateway.get("/v1/audit", "reader").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONGEST, again).await.expect("the rate is free again");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_have_sixteen_streams_open_at_once() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut open = Vec::new();
    for number in 0..16 {
        let mut stream = gateway.connect().await;
        let line = check(&format!("open-{number}"), "c").to_string() + "\n";
        let head = "POST /v1/jobs?lane=bulk HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret-of-sender\r\n\
            content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        let text = format!("{head}{:x}\r\n{line}\r\n", line.len());
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\"status\":202").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        open.push(stream);
    }
    let send = async |token: &str| {
        let request = gateway.request(Method::POST, "/v1/jobs?lane=bulk", token);
        gateway.send(request.header("content-type", "application/x-ndjson").body("")).await
    };
    let refused = send("sender").await;
    let problem = refused.problem(429, "rate-limited");
    assert_eq!(problem["detail"], "this token may have 16 streams open at once");
    assert_eq!(refused.header("retry-after"), "1");
    // One job, and the streams of another token, are no streams of this one.
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("one", "c")).await.status, 202);
    assert_eq!(send("both").await.status, 200);
    // A stream that its client ends, and one whose client is gone, make room.
    open[0].write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut open[0], "0\r\n\r\n").await;
    drop(open.pop());
    rig.eventually("there is room", async |_| send("sender").await.status == 200).await;
    drop(open);
    gateway.end().await;
    let lanes = [rig.key("jobs:interactive"), rig.key("jobs:bulk")];
    let () = rig.connection.del(&lanes).await.unwrap();
    rig.end().await;
}
