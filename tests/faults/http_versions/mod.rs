//! Over HTTP/2 and HTTP/1.1, a server reports requests that it did not process, and connections fall silent. Only
//! requests that may have been processed are in doubt.

mod server;

use super::{
    kills::rig,
    ledger::{all_complete, of},
    process::{Process, Settings},
    support::{Rig, free_port},
};
use serde_json::{Value, json};
use server::{Act, Asked, CANCEL, HTTP_1_1_REQUIRED, INTERNAL_ERROR, REFUSED_STREAM, Server};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Mutex,
    time::Duration,
};
use tokio::time::sleep;

const HTTP2_ALONE: &[&str] = &["h2"];
const BOTH: &[&str] = &["h2", "http/1.1"];

fn start(id: &str) -> Value {
    json!({"id": id, "type": "StartOtp", "caller_id": id, "args": {"email": format!("{id}@example.com")}})
}

fn verify(id: &str) -> Value {
    json!({"id": id, "type": "VerifyOtp", "caller_id": id,
        "args": {"email": format!("{id}@example.com"), "verification_code": "123456"}})
}

async fn worker(rig: &Rig, server: &Server, extra: &[(&str, &str)]) -> Process {
    let base_url = format!("https://localhost:{}", server.address.port());
    let mut settings = vec![("XCO__BASE_URL", base_url.as_str()), ("WORKER__LEASE", "15s")];
    settings.extend(extra);
    Settings::new(rig, &settings).with_env("SSL_CERT_FILE", server.certificate()).spawn().once_ready().await
}

/// Enqueues jobs and waits for their completions.
async fn all_end(rig: &mut Rig, jobs: &[Value], seconds: u64) -> BTreeSet<String> {
    for job in jobs {
        rig.enqueue(job).await;
    }
    let all: BTreeSet<String> = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
    all_complete(rig, &all, seconds).await;
    all
}

fn assert_done_once(rig: &Rig, server: &Server, id: &str) {
    let event = of(rig, id);
    assert_eq!(event["status"], "succeeded", "{event:#}");
    assert_eq!(server.done(&format!("\"{id}@")), 1, "{id}");
}

/// `act` for the first request with each body, and a normal answer for the others.
fn first_each(act: Act) -> impl Fn(&Asked) -> Act + Send + Sync {
    let seen = Mutex::new(HashSet::new());
    move |asked| if seen.lock().unwrap().insert(asked.body.clone()) { act } else { Act::Answer }
}

/// The server reports that it did not process the request: it is repeated, and nothing is in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_did_not_process_is_made_again() {
    let mut rig = rig().await;
    let server = Server::start(HTTP2_ALONE, |_| Act::Answer).await;
    let _worker = worker(&rig, &server, &[]).await;
    for (name, act) in [("refused", Act::Reset(REFUSED_STREAM)), ("below", Act::GoAwayBelow)] {
        server.decide(first_each(act));
        for job in [start(&format!("s-{name}")), verify(&format!("v-{name}"))] {
            let id = job["id"].as_str().unwrap().to_owned();
            all_end(&mut rig, &[job], 10).await;
            assert_done_once(&rig, &server, &id);
            assert_eq!(of(&rig, &id)["attempts"], 2);
        }
    }
    // However often this happens, it spends no try of the customer's code, only an attempt of the job.
    server.decide(|asked| if asked.body.contains("busy") { Act::Reset(REFUSED_STREAM) } else { Act::Answer });
    all_end(&mut rig, &[start("busy")], 20).await;
    assert_eq!(of(&rig, "busy")["error"]["kind"], "network", "{:#}", of(&rig, "busy"));
    // From now on the server speaks only HTTP/1.1, and says so.
    assert!(server.versions().iter().all(|version| *version == "2"));
    let deciding = server.clone();
    let refused = Mutex::new(HashSet::new());
    server.decide(move |asked| {
        deciding.offer(&["http/1.1"]);
        if refused.lock().unwrap().insert(asked.body.clone()) { Act::Reset(HTTP_1_1_REQUIRED) } else { Act::Answer }
    });
    all_end(&mut rig, &[start("s-older")], 10).await;
    assert_done_once(&rig, &server, "s-older");
    assert_eq!(of(&rig, "s-older")["attempts"], 2, "the one that was refused is a call, too");
    assert_eq!(server.versions().last(), Some(&"1.1"));
}

/// Requests that the server may have processed stay in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_may_have_processed_is_in_doubt() {
    let mut rig = rig().await;
    for (offers, protocol) in [(HTTP2_ALONE, "2"), (BOTH, "1.1")] {
        let server = Server::start(offers, |_| Act::Answer).await;
        let _worker = worker(&rig, &server, &[]).await;
        for (name, act) in
            [("cancel", Act::Reset(CANCEL)), ("internal", Act::Reset(INTERNAL_ERROR)), ("at", Act::GoAwayAt)]
        {
            server.decide(first_each(act));
            // One after the other: requests after the last stream were not processed.
            for job in [start(&format!("s-{name}-{protocol}")), verify(&format!("v-{name}-{protocol}"))] {
                for id in all_end(&mut rig, &[job], 10).await {
                    let event = of(&rig, &id);
                    let said = (&event["error"]["kind"], &event["attempts"]);
                    assert_eq!(said, (&json!("in_doubt"), &json!(1)), "{event:#}");
                }
            }
        }
        assert!(server.versions().iter().all(|version| *version == protocol), "{:?}", server.versions());
    }
}

/// A server that closes each connection after fifty requests, as nginx does, leaves nothing in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end_after_fifty_requests_leave_nothing_in_doubt() {
    let mut rig = rig().await;
    for offers in [HTTP2_ALONE, BOTH] {
        let server = Server::start(offers, |asked| if asked.number == 49 { Act::Last } else { Act::Answer }).await;
        let _worker = worker(&rig, &server, &[("WORKER__CONCURRENCY", "32")]).await;
        let jobs: Vec<_> = (0..600).map(|n| start(&format!("s{n}-{}", offers.len()))).collect();
        for id in all_end(&mut rig, &jobs, 60).await {
            assert_done_once(&rig, &server, &id);
        }
        assert!(server.versions().len() >= 12, "{:?}", server.versions());
    }
}

/// One connection falls silent during a sequence of calls.
async fn silent_connection(offers: &'static [&'static str]) -> (usize, usize) {
    let mut rig = rig().await;
    let server =
        Server::start(
            offers,
            |asked| {
                if asked.connection == 0 && asked.number >= 5 { Act::Silence } else { Act::Answer }
            },
        )
        .await;
    let _worker = worker(&rig, &server, &[("XCO__TIMEOUT", "10s")]).await;
    let mut all = BTreeSet::new();
    for n in 0..60 {
        let job = start(&format!("s{n}"));
        rig.enqueue(&job).await;
        all.insert(format!("s{n}"));
        sleep(Duration::from_millis(100)).await;
    }
    all_complete(&mut rig, &all, 30).await;
    let doubts = all.iter().filter(|id| of(&rig, id)["error"]["kind"] == "in_doubt").count();
    (doubts, all.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_leaves_at_most_two_calls_in_doubt() {
    let (doubts, jobs) = silent_connection(BOTH).await;
    assert!((1..=2).contains(&doubts), "{doubts} of {jobs}");
}

/// Over HTTP/2 all calls share the connection. Pings detect the silence within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_http2_connection_is_given_up_within_seconds() {
    let (doubts, jobs) = silent_connection(HTTP2_ALONE).await;
    println!("HTTP/2: {doubts} of {jobs} in doubt");
    assert!((1..jobs - 5).contains(&doubts), "{doubts} of {jobs}");
}

/// Answers with many header fields are accepted, so their requests are not in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn answers_with_many_header_fields_are_read() {
    let mut rig = rig().await;
    for offers in [HTTP2_ALONE, BOTH] {
        let server = Server::start(offers, |_| Act::Answer).await;
        let _worker = worker(&rig, &server, &[]).await;
        for (total, each) in [(27_000, 9_000), (27_000, 1_000), (27_000, 100), (60_000, 20_000)] {
            server.decide(move |_| Act::Headers(total, each));
            let id = format!("h-{total}-{each}-{}", offers.len());
            all_end(&mut rig, &[start(&id)], 10).await;
            assert_done_once(&rig, &server, &id);
        }
    }
}

/// An unreachable server is no reason to change the version, nor is an untrusted certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_both_is_spoken_to_in_http1() {
    let mut rig = rig().await;
    let server = Server::start(BOTH, |_| Act::Answer).await;
    let nobody = format!("https://localhost:{}", free_port());
    let mut lost = worker(&rig, &server, &[("XCO__BASE_URL", &nobody)]).await;
    rig.enqueue(&start("a")).await;
    lost.stop().await;
    let _worker = worker(&rig, &server, &[]).await;
    all_end(&mut rig, &[start("b")], 20).await;
    assert_done_once(&rig, &server, "b");
    assert!(server.versions().iter().all(|version| *version == "1.1"), "{:?}", server.versions());
}

/// Each of the two servers may speak only HTTP/2, and change that.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_spoken_to_in_its_version() {
    let mut rig = rig().await;
    let server = Server::start(HTTP2_ALONE, |_| Act::Answer).await;
    let url = format!("https://localhost:{}/token", server.address.port());
    let _worker = worker(&rig, &server, &[("XCO__TOKEN_URL", &url)]).await;
    all_end(&mut rig, &[start("a")], 10).await;
    assert_done_once(&rig, &server, "a");
    assert_eq!(of(&rig, "a")["attempts"], 1);
    assert_eq!(server.done("grant_type"), 1);
    server.offer(&["http/1.1"]);
    server.decide(|_| Act::Last);
    all_end(&mut rig, &[start("b")], 10).await;
    server.decide(|_| Act::Answer);
    all_end(&mut rig, &[start("c")], 10).await;
    for id in ["b", "c"] {
        assert_done_once(&rig, &server, id);
    }
    assert_eq!(server.versions().last(), Some(&"1.1"));
}
