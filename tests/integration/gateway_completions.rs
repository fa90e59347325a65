//! `GET /v1/completions`: Server-Sent Events.

use crate::support::{
    MERCHANT, Rig, Setup, check, create,
    gateway::{Events, OTHER_MERCHANT, TestGateway},
    with,
};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};
use xco_worker::sandbox::Fault;

/// Ids of the next completions, in their order.
async fn ids(events: &mut Events, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = events.next().await.expect("one more completion");
        assert_eq!(event.name, "completion", "{event:?}");
        assert!(event.id.starts_with("c1."), "{event:?}");
        ids.push(event.data["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn enqueue(rig: &mut Rig, ids: impl IntoIterator<Item = usize>) {
    for n in ids {
        rig.enqueue(&check(&format!("n{n}"), &format!("caller-{n}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_connects_again_gets_every_completion_once() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = xco_worker::contract::Partitions::new(1).unwrap();
    let mut rig = setup.start().await;
    let gateway = TestGateway::start(&rig).await;
    enqueue(&mut rig, 0..40).await;
    rig.wait_for(40).await;
    let mut seen = Vec::new();
    let mut last = None;
    // The connection breaks after each few events, and more jobs end meanwhile.
    for round in 0..10 {
        let mut request = gateway.request(Method::GET, "/v1/completions?from=beginning", "both");
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        let mut events = gateway.events(request).await;
        assert_eq!(events.header("x-accel-buffering"), "no");
        assert!(events.block().await.unwrap().rest.starts_with("retry"));
        for _ in 0..6 {
            let event = events.next().await.unwrap();
            assert!(rig.completions.contains(&event.data) || round > 0, "{event:?}");
            seen.push(event.data["id"].as_str().unwrap().to_owned());
            last = Some(event.id);
        }
        enqueue(&mut rig, [40 + 3 * round, 41 + 3 * round, 42 + 3 * round]).await;
    }
    rig.wait_for(70).await;
    let request =
        gateway.request(Method::GET, "/v1/completions", "both").header("last-event-id", last.as_ref().unwrap());
    let mut events = gateway.events(request).await;
    while seen.len() < 70 {
        let event = events.next().await.unwrap();
        seen.push(event.data["id"].as_str().unwrap().to_owned());
        last = Some(event.id);
    }
    let all: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((seen.len(), all.len()), (70, 70));
    // A cursor in the query is the same.
    let mut events = gateway.completions(&format!("?from={}", last.unwrap()), "both").await;
    enqueue(&mut rig, [99]).await;
    assert_eq!(ids(&mut events, 1).await, ["n99"]);
    rig.wait_for(71).await;
    drop(events);
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_where_the_client_wants() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    rig.complete(check("first", "c")).await;
    let between = jiff::Timestamp::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = rig.complete(check("second", "c")).await;
    let mut now = gateway.completions("?from=now", "both").await;
    let mut default = gateway.completions("", "both").await;
    let mut all = gateway.completions("?from=beginning", "both").await;
    let mut since = gateway.completions(&format!("?from={between}"), "both").await;
    assert_eq!(ids(&mut all, 2).await, ["first", "second"]);
    assert_eq!(ids(&mut since, 1).await, ["second"]);
    rig.complete(check("third", "c")).await;
    for events in [&mut now, &mut default, &mut all, &mut since] {
        assert_eq!(ids(events, 1).await, ["third"]);
    }
    assert_eq!(second["status"], "succeeded");
    for bad in ["from=odd", "from=c1.odd", "type=Odd", "status=odd", "odd=1", "from=2024-99-01T00:00:00Z"] {
        gateway.get(&format!("/v1/completions?{bad}"), "both").await.problem(400, "bad-request");
    }
    drop((now, default, all, since));
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_applied_and_the_cursor_passes_what_they_hide() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    rig.complete(check("one", "a")).await;
    rig.complete(with(check("two", "b"), "batch", "spring")).await;
    rig.complete(create("three", "three@example.com")).await;
    rig.enqueue_text("interactive", r#"{"id":"four","type":"CheckUser","caller_id":"a","args":{}}"#).await;
    rig.completion("four").await;
    for (query, wanted) in [
        ("type=CreateUser", vec!["three"]),
        ("type=CreateUser,CheckUser&status=succeeded", vec!["one", "two", "three"]),
        ("status=rejected", vec!["four"]),
        ("batch=spring", vec!["two"]),
        ("caller_id=b", vec!["two"]),
    ] {
        let mut events = gateway.completions(&format!("?from=beginning&{query}"), "both").await;
        assert_eq!(ids(&mut events, wanted.len()).await, wanted, "{query}");
    }
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_alone_gets_no_personal_data_and_a_merchant_its_own() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let mut job = with(create("made", "ada@example.com"), "caller_id", "203.0.113.9");
    job["meta"] = json!({"cart": "Sesamkringel"});
    let whole: Value = rig.complete(job).await;
    rig.complete(with(check("other", "c"), "merchant_id", OTHER_MERCHANT)).await;
    rig.complete(with(check("own", "c"), "merchant_id", MERCHANT)).await;
    let mut both = gateway.completions("?from=beginning", "both").await;
    assert_eq!(both.next().await.unwrap().data, whole);
    let mut reader = gateway.completions("?from=beginning", "reader").await;
    for wanted in ["made", "other", "own"] {
        let text = reader.next().await.unwrap().data.to_string();
        assert!(text.contains(wanted));
        for personal in ["ada@", "203.0.113.9", "Sesamkringel"] {
            assert!(!text.contains(personal), "{personal}: {text}");
        }
    }
    let mut merchant = gateway.completions("?from=beginning", "merchant").await;
    assert_eq!(ids(&mut merchant, 1).await, ["other"]);
    // Nothing follows: the next is of this merchant again.
    rig.complete(check("default", "c")).await;
    rig.complete(with(check("other2", "c"), "merchant_id", OTHER_MERCHANT)).await;
    assert_eq!(ids(&mut merchant, 1).await, ["other2"]);
    drop((both, reader, merchant));
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_completions_are_a_gap() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    enqueue(&mut rig, 0..5).await;
    rig.wait_for(5).await;
    let mut events = gateway.completions("?from=beginning", "both").await;
    let first = events.next().await.unwrap();
    drop(events);
    let completions = rig.key("completions");
    let _: u64 =
        redis::cmd("XTRIM").arg(&completions).arg("MAXLEN").arg(2).query_async(&mut rig.connection).await.unwrap();
    let entries: redis::streams::StreamRangeReply = rig.connection.xrange_all(&completions).await.unwrap();
    // The first gateway may still have them in memory.
    let second = TestGateway::start(&rig).await;
    let request = second.request(Method::GET, "/v1/completions", "both").header("last-event-id", &first.id);
    let mut events = second.events(request).await;
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), &gap.data["partition"]), ("gap", &json!(0)), "{gap:?}");
    assert_eq!(gap.data["lost_before"], entries.ids[0].id);
    assert_eq!(ids(&mut events, 2).await.len(), 2);
    drop(events);
    second.end().await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_broken_by_comments() {
    let rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let mut events = gateway.completions("", "reader").await;
    assert!(events.block().await.unwrap().rest.starts_with("retry"));
    let comment = events.block().await.unwrap();
    assert!(comment.name.is_empty() && comment.rest.starts_with(':'), "{comment:?}");
    drop(events);
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_delays_no_other() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let mut stalled = gateway.connect().await;
    let head = "GET /v1/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret-of-both\r\n\r\n";
    stalled.write_all(head.as_bytes()).await.unwrap();
    let mut reader = gateway.completions("", "both").await;
    // Each about 2 KiB: more than the system buffers for the stalled reader.
    let padding = "p".repeat(1_900);
    let jobs = (0..6_000).map(|n| with(check(&format!("n{n}"), &format!("c{n}")), "meta", json!({"padding": padding})));
    let following = async { ids(&mut reader, 6_000).await };
    let (seen, ()) = tokio::join!(following, rig.enqueue_all(xco_worker::contract::Lane::Interactive, jobs));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 6_000);
    drop((reader, stalled));
    gateway.end().await;
    rig.wait_for(6_000).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_xco_wrote_about_a_person_is_masked_wherever_read_alone_looks() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let title = "ada.unusual@example.com is refused";
    rig.sandbox.order(Fault::status(422).body(json!({"type": "https://xco.example/problems/bad", "title": title})));
    rig.complete(check("refused", "203.0.113.9")).await;
    let paths = ["/v1/jobs/refused", "/v1/dead-letters", "/v1/dead-letters/refused"];
    let mut feed = gateway.completions("?from=beginning", "reader").await;
    let seen = feed.next().await.unwrap().data;
    assert_eq!(seen["error"]["kind"], "validation", "{seen}");
    let message = seen["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("XCO answered 422 to ") && message.ends_with(": xxx.xxxxxxx@xxxxxxx.xxx xx xxxxxxx"),
        "{message}"
    );
    assert_eq!(seen["error"]["problem"]["type"], "https://xco.example/problems/bad");
    for text in [seen.to_string()].into_iter().chain(texts(&gateway, &paths, "reader").await) {
        assert!(!text.contains("unusual") && !text.contains("203.0.113.9"), "{text}");
    }
    // Who sent the data sees it whole; letters are masked for everybody.
    let mut feed = gateway.completions("?from=beginning", "both").await;
    assert!(feed.next().await.unwrap().data["error"]["message"].as_str().unwrap().ends_with(title));
    let whole = texts(&gateway, &paths, "both").await;
    assert_eq!(whole.iter().map(|text| text.contains("unusual")).collect::<Vec<_>>(), [true, false, false]);
    // Nor is it left where the completion is gone, and the letter remains.
    let completions = rig.key("completions");
    let () = rig.connection.del(completions).await.unwrap();
    let text = gateway.get("/v1/jobs/refused", "reader").await.text;
    assert!(text.contains("\"dead\"") && !text.contains("unusual"), "{text}");
    drop(feed);
    gateway.end().await;
    rig.end().await;
}

async fn texts(gateway: &TestGateway, paths: &[&str], token: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for path in paths {
        let answer = gateway.get(path, token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        texts.push(answer.text);
    }
    texts
}

/// Writes completions as workers do, without calls.
async fn write_completions(rig: &mut Rig, numbers: std::ops::Range<usize>, padding: &str) {
    let key = rig.key("completions");
    let mut pipeline = redis::pipe();
    for number in numbers {
        let id = format!("n{number}");
        let event = json!({"v": 1, "id": id, "type": "CheckUser", "status": "succeeded", "outcome": "absent", "meta": {"p": padding}});
        let fields =
            [("id", id.as_str()), ("type", "CheckUser"), ("status", "succeeded"), ("event", &event.to_string())];
        pipeline.xadd(&key, "*", &fields);
    }
    let () = pipeline.query_async(&mut rig.connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_is_told_and_resumes_without_a_loss() {
    const COUNT: usize = 2_000;
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let socket = TcpSocket::new_v4().unwrap();
    // A small window: the gateway notices soon that nothing is read.
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut slow = socket.connect(gateway.address).await.unwrap();
    // In HTTP/1.0 the answer is not cut into chunks.
    let head = "GET /v1/completions HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer secret-of-both\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    let mut first = 0;
    // It follows: what is written from then on, it gets at once.
    while !String::from_utf8_lossy(&text).contains("event: completion") {
        write_completions(&mut rig, first..first + 1, "").await;
        first += 1;
        let read = timeout(Duration::from_millis(500), slow.read(&mut chunk)).await;
        text.extend_from_slice(&chunk[..read.map_or(0, Result::unwrap)]);
    }
    let mut other = gateway.completions("", "both").await;
    write_completions(&mut rig, first..COUNT, &"p".repeat(4_000)).await;
    // The gateway has read all of them while the slow reader reads nothing.
    loop {
        if other.next().await.unwrap().data["id"] == format!("n{}", COUNT - 1) {
            break;
        }
    }
    let reading = async { while let Ok(1..) = slow.read_buf(&mut text).await {} };
    timeout(Duration::from_secs(60), reading).await.expect("the stream ends");
    let text = String::from_utf8(text).unwrap();
    let (before, told) = text.split_once("event: too-slow\ndata: ").expect("it is told");
    let resume: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    let seen = before.matches("event: completion").count();
    assert!(seen < COUNT, "{seen}");
    let last = before.rsplit("\"id\":\"").next().unwrap().split('"').next().unwrap().to_owned();
    let request = gateway.request(Method::GET, "/v1/completions", "both");
    let mut again = gateway.events(request.header("last-event-id", resume["resume"].as_str().unwrap())).await;
    let next: usize = last.strip_prefix('n').unwrap().parse::<usize>().unwrap() + 1;
    let wanted: Vec<_> = (next..COUNT).map(|number| format!("n{number}")).collect();
    assert_eq!(ids(&mut again, wanted.len()).await, wanted);
    drop((other, again));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_queue_is_gone_and_a_time_before_the_first_entry_is_a_gap() {
    let mut rig = Setup::default().without_worker().await;
    write_completions(&mut rig, 0..10, "").await;
    let gateway = TestGateway::start(&rig).await;
    let cursor = gateway.completions("?from=beginning", "both").await.next().await.unwrap().id;
    assert!(cursor.starts_with("c1."));
    // The first is one of a queue with 21 partitions, with two bytes for each.
    for (from, status, kind) in [
        (format!("c1.{}", "A".repeat(56)), 410, "cursor-trimmed"),
        ("c1.".to_owned(), 400, "bad-request"),
        ("c1.!".to_owned(), 400, "bad-request"),
        ("c2.AAAA".to_owned(), 400, "bad-request"),
    ] {
        let answer = gateway.get(&format!("/v1/completions?from={from}"), "both").await;
        answer.problem(status, kind);
    }
    let key = rig.key("completions");
    let _: u64 = redis::cmd("XTRIM").arg(&key).arg("MAXLEN").arg(3).query_async(&mut rig.connection).await.unwrap();
    let entries: redis::streams::StreamRangeReply = rig.connection.xrange_all(&key).await.unwrap();
    let second = TestGateway::start(&rig).await;
    let mut events = second.completions("?from=2020-01-01T00:00:00Z", "both").await;
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), &gap.data["lost_before"]), ("gap", &json!(entries.ids[0].id)), "{gap:?}");
    assert_eq!(ids(&mut events, 3).await, ["n7", "n8", "n9"]);
    drop(events);
    second.end().await;
    gateway.end().await;
}
