//! The stream of live parts.

use super::{Console, support::check};
use std::time::Duration;
use tokio::time::timeout;

/// A busy machine needs time.
const LONGEST: Duration = Duration::from_secs(30);

/// The next event with this name, of a stream that is read so far.
async fn next(answer: &mut reqwest::Response, text: &mut String, name: &str) -> String {
    let begin = format!("event: {name}\n");
    loop {
        while let Some((event, rest)) = text.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            *text = rest;
            if event.contains(&begin) {
                return event;
            }
        }
        let chunk =
            timeout(LONGEST, answer.chunk()).await.expect("an event in time").unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

/// Everything up to the next tick.
async fn read_until_tick(answer: &mut reqwest::Response, text: &mut String) -> String {
    while !text.contains("event: tick\n") {
        let chunk =
            timeout(LONGEST, answer.chunk()).await.expect("an event in time").unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    std::mem::take(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_comes_again_only_when_it_has_changed() {
    let mut console = Console::start().await;
    let session = console.log_in("reader").await;
    let mut stream = console.get("/console/live?page=overview").header("cookie", &session).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    let mut text = String::new();
    assert!(next(&mut stream, &mut text, "part").await.contains("Nobody waits"));
    next(&mut stream, &mut text, "tick").await;
    // Nothing changes: the second look sends no part but a tick.
    text.clear();
    let second = read_until_tick(&mut stream, &mut text).await;
    assert!(!second.contains("\"verdict\""), "{second}");
    console.rig.enqueue(&check("j1", "c1")).await;
    assert!(next(&mut stream, &mut text, "part").await.contains("1 person waits"));
    drop(stream);
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_needs_a_login_and_ends_when_the_gateway_stops() {
    let console = Console::start().await;
    let anonymous = console.get("/console/live?page=overview").send().await.unwrap();
    assert_eq!(anonymous.status(), 303);
    let session = console.log_in("reader").await;
    let mut stream = console.get("/console/live?page=overview").header("cookie", &session).send().await.unwrap();
    next(&mut stream, &mut String::new(), "tick").await;
    console.end().await;
    let end = async { while let Ok(Some(_)) = stream.chunk().await {} };
    timeout(LONGEST, end).await.expect("the stream ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_when_the_job_or_the_session_has_ended() {
    let mut console = Console::start().await;
    let session = console.log_in("reader").await;
    console.rig.enqueue(&check("j1", "c1")).await;
    let path = "/console/live?page=job&id=j1";
    let mut stream = console.get(path).header("cookie", &session).send().await.unwrap();
    let mut text = String::new();
    next(&mut stream, &mut text, "tick").await;
    console.rig.start_worker();
    next(&mut stream, &mut text, "end").await;
    // The browser of an open page cannot follow a redirect to the login.
    let anonymous = console.get(path).header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(anonymous.status(), 200);
    assert_eq!(anonymous.text().await.unwrap(), "event: session\ndata: {}\n\n");
    console.end().await;
}
