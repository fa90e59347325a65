//! The client for Rust programs, against a real Redis and a real worker.

use crate::support::{MERCHANT, RedisServer, Rig, Setup, account, check};
use futures::StreamExt;
use redis::AsyncCommands;
use std::{collections::BTreeSet, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use xco_worker::{
    client::{Client, ClientError, CompletionEvent, ContactField, GroupEvent, JobRequest, SubmittedJob, UserFields},
    completions::{FeedCursor, FeedStart, Filter, Membership, Start},
    config::Config,
    contract::{JobType, Lane, Outcome, Status},
};

const LONG: Duration = Duration::from_secs(60);

async fn connect(rig: &Rig, user: &str) -> Client {
    Client::connect(&Config { redis: rig.redis_as(user), ..rig.config.clone() }).await.unwrap()
}

fn email(n: usize) -> ContactField {
    ContactField::email(format!("customer{n}@example.com"))
}

fn check_of(n: usize) -> JobRequest {
    JobRequest::check_user(email(n)).id(format!("c{n}")).caller_id(format!("192.0.2.{n}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signup_goes_through_all_its_types() {
    let mut rig = Setup::default().start().await;
    let client = connect(&rig, "operator").await;
    let mail = || ContactField::email("ada@example.com");
    let user = UserFields { email: "ada@example.com".into(), first_name: Some("Ada".into()), ..UserFields::default() };
    let create = JobRequest::create_user("c-1", &user).id("created");
    let job = JobRequest::check_user(mail()).caller_id("c").merchant_id(MERCHANT).batch("spring").meta("shop", "paris");
    let checked = client.submit_and_wait(&job.next(Outcome::Absent, create), LONG).await.unwrap();
    let completion = checked.completion.unwrap();
    assert_eq!((completion.job_type, completion.status), (Some(JobType::CheckUser), Status::Succeeded));
    assert_eq!(completion.event["meta"]["shop"], "paris");
    assert!(checked.enqueued.id.starts_with("rs-") && checked.first_ms.is_none());
    assert_eq!(rig.completion("created").await["outcome"], "created");

    rig.sandbox.seed_user(&account("bob@example.com"));
    let bob = || ContactField::email("bob@example.com");
    let sent = client.submit_and_wait(&JobRequest::start_otp(bob()).caller_id("c"), LONG).await.unwrap();
    assert_eq!(sent.completion.unwrap().event["outcome"], "otp_sent");
    let code = rig.sandbox.otp("bob@example.com").unwrap();
    let verified = client.submit_and_wait(&JobRequest::verify_otp(bob(), code).caller_id("c"), LONG).await.unwrap();
    let event = &verified.completion.as_ref().unwrap().event;
    assert_eq!(event["outcome"], "verified", "{event:#}");
    let challenge = event["result"]["consent_challenge_id"].as_str().unwrap();
    let consented = client.submit_and_wait(&JobRequest::finalize_consent("c-2", challenge), LONG).await.unwrap();
    assert_eq!(consented.completion.unwrap().event["outcome"], "consented");
    rig.wait_for(5).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_wait_at_once_and_each_gets_its_own() {
    const JOBS: usize = 300;
    let mut rig = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() }.start().await;
    let client = connect(&rig, "operator").await;
    let mut requests = JoinSet::new();
    for n in 0..JOBS {
        let client = client.clone();
        requests.spawn(async move {
            let answer = client.submit_and_wait(&check_of(n), LONG).await.unwrap();
            assert_eq!(answer.completion.unwrap().id, format!("c{n}"));
        });
    }
    // The client's own: requests share four, the hub reads on two more, one makes the feed's pages.
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut rig.connection).await.unwrap();
    let connections = clients.lines().filter(|line| line.contains("user=operator ")).count();
    while let Some(request) = requests.join_next().await {
        request.unwrap();
    }
    assert!(connections <= 10, "{connections} connections");
    assert_eq!(client.hub().expectations(), 0);
    rig.wait_for(JOBS).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_gets_the_known_completion_at_once() {
    let mut rig = Setup::default().start().await;
    let client = connect(&rig, "operator").await;
    let first = client.submit_and_wait(&check_of(1), LONG).await.unwrap();
    let again = client.submit_and_wait(&check_of(1), LONG).await.unwrap();
    assert!(first.first_ms.is_none());
    assert_eq!(again.first_ms, Some(first.enqueued.entry_id.ms));
    assert_eq!(again.completion.unwrap().event, first.completion.unwrap().event);
    // Without the rights to look, it cannot know, and says so in time.
    rig.drain().await;
    let key = rig.key("completions");
    let _: usize = redis::cmd("XTRIM").arg(&key).arg("MAXLEN").arg(0).query_async(&mut rig.connection).await.unwrap();
    let trimmed = timeout(LONG, client.submit_and_wait(&check_of(1), 10 * LONG)).await.expect("no wait for nothing");
    let trimmed = trimmed.unwrap();
    assert!(trimmed.completion.is_none() && trimmed.first_ms.is_some(), "{trimmed:?}");
    rig.drain().await;
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_named_and_nothing_is_enqueued() {
    let mut rig = Setup::default().without_worker().await;
    let client = connect(&rig, "operator").await;
    let faulty = JobRequest::check_user(ContactField::email("ada")).caller_id("");
    let Err(ClientError::Invalid(invalid)) = client.submit(&faulty).await else { panic!("accepted") };
    let pointers: BTreeSet<_> = invalid.faults().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(pointers, ["/args/email", "/caller_id"].map(String::from).into());
    let said = ClientError::Invalid(invalid).to_string();
    assert!(said.contains("/args/email") && !said.contains("ada"), "{said}");
    assert!(client.submit_and_wait(&faulty, LONG).await.is_err());

    let jobs: Vec<JobRequest> =
        (0..600).map(|n| if n == 300 { faulty.clone() } else { check_of(n).lane(Lane::Bulk) }).collect();
    let submitted = client.submit_many(&jobs).await;
    assert!(submitted.error.is_none());
    for (n, job) in submitted.jobs.iter().enumerate() {
        match job {
            SubmittedJob::Enqueued(enqueued) => {
                assert_eq!((enqueued.id.as_str(), enqueued.lane), (format!("c{n}").as_str(), Lane::Bulk));
            }
            other => assert!(n == 300 && matches!(other, SubmittedJob::Invalid(_)), "{n}: {other:?}"),
        }
    }
    let (bulk, interactive) = (rig.key("jobs:bulk"), rig.key("jobs:interactive"));
    let lengths: (usize, usize) =
        (rig.connection.xlen(bulk).await.unwrap(), rig.connection.xlen(interactive).await.unwrap());
    assert_eq!(lengths, (599, 0));
    let none = client.submit_and_wait(&check_of(1000), Duration::from_millis(50)).await.unwrap();
    assert!(none.completion.is_none(), "no worker runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_continues_at_its_cursor() {
    let mut rig = Setup::default().start().await;
    let client = connect(&rig, "operator").await;
    for n in 0..4 {
        client.submit_and_wait(&check_of(n), LONG).await.unwrap();
    }
    let read = async |start: FeedStart, count: usize| {
        let mut events = client.completions(start, Filter::default()).await.unwrap();
        let mut ids = Vec::new();
        let mut last: Option<FeedCursor> = None;
        while ids.len() < count {
            match timeout(LONG, events.next()).await.unwrap().unwrap().unwrap() {
                CompletionEvent::Completion { cursor, completion } => {
                    ids.push(completion.id.clone());
                    last = Some(cursor);
                }
                gap @ CompletionEvent::Gap { .. } => panic!("{gap:?}"),
            }
        }
        (ids, last.unwrap())
    };
    let (ids, cursor) = read(FeedStart::Beginning, 2).await;
    assert_eq!(ids, ["c0", "c1"]);
    let (ids, _) = read(FeedStart::After(cursor.to_string().parse().unwrap()), 2).await;
    assert_eq!(ids, ["c2", "c3"]);
    rig.wait_for(4).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gets_again_what_it_did_not_acknowledge() {
    let mut rig = Setup::default().start().await;
    let client = connect(&rig, "operator").await;
    for n in 0..3 {
        rig.complete(check(&format!("g{n}"), "c")).await;
    }
    let join = async |name: &str| {
        client.group(Membership::new("web", name), Start::Beginning, Filter::default()).await.unwrap()
    };
    let mut one = join("one").await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        match timeout(LONG, one.next()).await.unwrap().unwrap().unwrap() {
            GroupEvent::Completion(completion) => taken.push(completion),
            GroupEvent::Gap(gap) => panic!("{gap}"),
        }
    }
    one.acknowledge(&taken[0]).await.unwrap();
    // What it leaves goes to another member at once.
    one.close().await.unwrap();
    let mut two = join("two").await;
    for wanted in &taken[1..] {
        let GroupEvent::Completion(completion) = timeout(LONG, two.next()).await.unwrap().unwrap().unwrap() else {
            panic!("a gap")
        };
        assert_eq!(completion.id, wanted.id);
        two.acknowledge(&completion).await.unwrap();
    }
    let key = rig.key("completions");
    let pending: redis::streams::StreamPendingReply = rig.connection.xpending(&key, "web").await.unwrap();
    assert_eq!(pending.count(), 0);
    two.close().await.unwrap();
    rig.end().await;
}
