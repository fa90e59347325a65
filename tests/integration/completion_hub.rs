//! The hub: one reader of the completions for many requests and many followers.

use super::support::{RedisServer, Rig, Setup, check};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use xco_worker::{
    completions::{CompletionHub, Expected, Feed, FeedCursor, FeedEvent, FeedStart, Filter, HubError},
    contract::{EntryId, JobType, Partitions, format_ms},
};

const LONG: Duration = Duration::from_secs(60);

/// Writes completions as workers write them, without a worker.
async fn write(connection: &mut MultiplexedConnection, key: &str, ids: impl IntoIterator<Item = String>) {
    let mut pipe = redis::pipe();
    for id in ids {
        let event =
            json!({ "v": 1, "id": id, "type": "CheckUser", "status": "succeeded", "batch": "b", "caller_id": "c" });
        let fields =
            [("id", id.as_str()), ("type", "CheckUser"), ("status", "succeeded"), ("event", &event.to_string())];
        pipe.xadd(key, "*", &fields).ignore();
    }
    pipe.query_async::<()>(connection).await.unwrap();
}

fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| format!("j{n}"))
}

fn start(rig: &Rig) -> CompletionHub {
    CompletionHub::start(&rig.redis_as("reader")).unwrap()
}

async fn next(feed: &mut Feed) -> FeedEvent {
    timeout(LONG, feed.next()).await.expect("in time").unwrap()
}

async fn next_id(feed: &mut Feed) -> String {
    match next(feed).await {
        FeedEvent::Completion { completion, .. } => completion.id.clone(),
        other => panic!("{other:?}"),
    }
}

/// The next `count` events, which must all be completions: their ids.
async fn ids(feed: &mut Feed, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(next_id(feed).await);
    }
    ids
}

/// Number of connections of a user.
async fn connections(rig: &mut Rig, user: &str) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut rig.connection).await.unwrap();
    clients.lines().filter(|line| line.contains(&format!("user={user} "))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_feed_is_told_and_delays_none_of_two_thousand() {
    const FEEDS: usize = 2000;
    const ROUNDS: usize = 10;
    const ROUND: usize = 60;
    let mut rig = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() }.without_worker().await;
    let before = connections(&mut rig, "reader").await;
    let hub = start(&rig);
    let key = rig.key("completions");
    let mut stalled = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
    // It follows live, and then takes nothing.
    write(&mut rig.connection, &key, numbered(0..1)).await;
    assert_eq!(next_id(&mut stalled).await, "j0");
    let (taken, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut feeds = JoinSet::new();
    for _ in 0..FEEDS {
        let mut feed = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
        let (taken, done) = (Arc::clone(&taken), Arc::clone(&done));
        feeds.spawn(async move {
            for n in 1..=ROUNDS * ROUND {
                assert_eq!(next_id(&mut feed).await, format!("j{n}"));
                if (taken.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(FEEDS * ROUND) {
                    done.notify_one();
                }
            }
        });
    }
    for round in 0..ROUNDS {
        write(&mut rig.connection, &key, numbered(1 + round * ROUND..1 + (round + 1) * ROUND)).await;
        timeout(LONG, done.notified()).await.expect("all feeds have taken this round");
    }
    while let Some(feed) = feeds.join_next().await {
        feed.unwrap();
    }
    // One connection for reading, one for older completions.
    assert!(connections(&mut rig, "reader").await <= before + 3, "connections grow with feeds");

    // The stalled feed gets what its buffer holds, then the cursor, and nothing after it.
    let buffered = ids(&mut stalled, 256).await;
    assert_eq!(buffered, numbered(1..257).collect::<Vec<_>>());
    let FeedEvent::TooSlow { resume } = next(&mut stalled).await else { panic!("a feed without a bound") };
    assert!(matches!(next(&mut stalled).await, FeedEvent::TooSlow { .. }));
    let resume: FeedCursor = resume.to_string().parse().unwrap();
    let mut resumed = hub.follow(FeedStart::After(resume), Filter::default()).await.unwrap();
    assert_eq!(ids(&mut resumed, 600 - 256).await, numbered(257..601).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_large_completions_is_bounded_in_bytes() {
    let mut rig = Setup::default().without_worker().await;
    let hub = start(&rig);
    let key = rig.key("completions");
    let mut feed = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
    let mut other = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
    write(&mut rig.connection, &key, numbered(0..1)).await;
    assert_eq!((next_id(&mut feed).await, next_id(&mut other).await), ("j0".to_owned(), "j0".to_owned()));
    let large = |n: usize| format!("{n}-{}", "x".repeat(300_000));
    for n in 1..=8 {
        // Its event has the id, and so its size.
        write(&mut rig.connection, &key, [large(n)]).await;
        assert_eq!(next_id(&mut other).await, large(n));
    }
    for n in 1..=3 {
        assert_eq!(next_id(&mut feed).await, large(n));
    }
    assert!(matches!(next(&mut feed).await, FeedEvent::TooSlow { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_feed_gets_every_completion_once_and_in_order() {
    const COUNT: usize = 1500;
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(3).unwrap();
    let mut rig = setup.without_worker().await;
    let keys: Vec<String> = (0..3).map(|partition| rig.key_in(partition, "completions")).collect();
    let hub = start(&rig);
    for n in 0..COUNT / 2 {
        write(&mut rig.connection, &keys[n % 3], [format!("j{n}")]).await;
    }
    let mut connection = rig.connection.clone();
    let writer = tokio::spawn(async move {
        for n in COUNT / 2..COUNT {
            write(&mut connection, &keys[n % 3], [format!("j{n}")]).await;
        }
    });
    let mut cursor: Option<String> = None;
    let mut seen: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    while count < COUNT {
        let from = match &cursor {
            None => FeedStart::Beginning,
            Some(text) => text.parse().unwrap(),
        };
        let mut feed = hub.follow(from, Filter::default()).await.unwrap();
        // Each feed is dropped after another number of events, at any stage.
        for _ in 0..(1 + count * 7 % 191).min(COUNT - count) {
            match next(&mut feed).await {
                FeedEvent::Completion { cursor: after, completion } => {
                    cursor = Some(after.to_string());
                    assert_eq!(after, feed.cursor());
                    seen.entry(completion.partition).or_default().push(completion.id[1..].parse().unwrap());
                    count += 1;
                }
                FeedEvent::TooSlow { resume } => {
                    cursor = Some(resume.to_string());
                    break;
                }
                gap @ FeedEvent::Gap { .. } => panic!("{gap:?}"),
            }
        }
    }
    writer.await.unwrap();
    for (partition, numbers) in &seen {
        let wanted: Vec<usize> = (0..COUNT).filter(|n| n % 3 == usize::from(*partition)).collect();
        assert_eq!(numbers, &wanted, "partition {partition}");
    }
    assert_eq!(seen.len(), 3);
    // Nothing comes after the last one.
    let mut feed = hub.follow(cursor.unwrap().parse().unwrap(), Filter::default()).await.unwrap();
    assert!(timeout(Duration::from_millis(200), feed.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_for_as_many_partitions_or_fewer() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.without_worker().await;
    let keys: Vec<String> = (0..2).map(|partition| rig.key_in(partition, "completions")).collect();
    for n in 0..6 {
        write(&mut rig.connection, &keys[n % 2], [format!("j{n}")]).await;
    }
    let two = start(&rig);
    let mut redis = rig.redis_as("reader");
    redis.partitions = Partitions::ONE;
    let one = CompletionHub::start(&redis).unwrap();
    let mut feed = one.follow(FeedStart::Beginning, Filter::default()).await.unwrap();
    assert_eq!(ids(&mut feed, 2).await, ["j0", "j2"]);
    // The queue has grown: what the new partition holds is new.
    let mut grown = two.follow(FeedStart::After(feed.cursor()), Filter::default()).await.unwrap();
    assert_eq!(
        ids(&mut grown, 4).await.into_iter().collect::<BTreeSet<_>>(),
        ["j1", "j3", "j4", "j5"].map(String::from).into()
    );
    let refused = one.follow(FeedStart::After(grown.cursor()), Filter::default()).await;
    assert_eq!(refused.err(), Some(HubError::ForeignCursor { cursor: 2, queue: 1 }));
}

/// Adds completions and trims all but the last `keep`, in one step.
async fn write_and_trim(rig: &mut Rig, from: usize, count: usize, keep: usize) {
    let script = "for n = ARGV[1], ARGV[1] + ARGV[2] - 1 do
            local id = string.format('j%d', n)
            redis.call('XADD', KEYS[1], '*', 'id', id, 'type', 'CheckUser', 'status', 'succeeded', 'event', '{\"id\":\"' .. id .. '\"}')
        end
        return redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[3])";
    let key = rig.key("completions");
    let script = redis::Script::new(script);
    script.key(key).arg(from).arg(count).arg(keep).invoke_async::<()>(&mut rig.connection).await.unwrap();
}

async fn first_kept(rig: &mut Rig) -> EntryId {
    let key = rig.key("completions");
    let kept: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
        .arg(key)
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(1)
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    kept.ids[0].id.parse().unwrap()
}

async fn assert_gap(feed: &mut Feed, wanted: EntryId) {
    match next(feed).await {
        FeedEvent::Gap { partition: 0, lost_before } => assert_eq!(lost_before, wanted),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_trimmed_unread_are_a_gap() {
    let mut rig = Setup::default().without_worker().await;
    let key = rig.key("completions");
    let hub = start(&rig);
    let mut live = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
    let mut expected = hub.expect("j25").unwrap();
    write(&mut rig.connection, &key, numbered(0..10)).await;
    let old = ids(&mut live, 1).await;
    assert_eq!(old, ["j0"]);
    let cursor = live.cursor();
    assert_eq!(ids(&mut live, 9).await.len(), 9);
    // j10 to j29 are written, and only the last five are kept: 15 were never read.
    write_and_trim(&mut rig, 10, 20, 5).await;
    let kept = first_kept(&mut rig).await;
    assert_gap(&mut live, kept).await;
    assert_eq!(ids(&mut live, 5).await, ["j25", "j26", "j27", "j28", "j29"]);
    let deadline = Instant::now() + LONG;
    let told = [expected.completion(deadline).await, expected.completion(deadline).await];
    assert!(told.iter().any(|told| matches!(told, Expected::Gap)), "{told:?}");
    assert!(told.iter().any(|told| matches!(told, Expected::Completion(c) if c.id == "j25")), "{told:?}");

    // A second hub has nothing in memory: the gap is found in Redis.
    let other = start(&rig);
    for from in [FeedStart::After(cursor), format_ms(kept.ms - 60_000).parse().unwrap()] {
        let mut feed = other.follow(from, Filter::default()).await.unwrap();
        assert_gap(&mut feed, kept).await;
        let resumed = feed.cursor();
        assert_eq!(next_id(&mut feed).await, "j25");
        // A gap is reported once, also to a reader that comes back.
        let mut feed = other.follow(FeedStart::After(resumed), Filter::default()).await.unwrap();
        assert_gap_or(&mut feed, "j25").await;
    }
    let mut feed = other.follow(FeedStart::Beginning, Filter::default()).await.unwrap();
    assert_eq!(next_id(&mut feed).await, "j25", "the beginning is what is kept");
    let mut feed = other.follow(FeedStart::Since { ms: kept.ms + 3_600_000 }, Filter::default()).await.unwrap();
    write(&mut rig.connection, &key, numbered(30..31)).await;
    assert!(timeout(Duration::from_millis(200), feed.next()).await.is_err(), "before its time");
}

/// At the very edge of what is kept, Redis cannot say whether more was lost.
async fn assert_gap_or(feed: &mut Feed, id: &str) {
    match next(feed).await {
        FeedEvent::Gap { .. } => assert_eq!(next_id(feed).await, id),
        FeedEvent::Completion { completion, .. } => assert_eq!(completion.id, id),
        other @ FeedEvent::TooSlow { .. } => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_and_the_json_is_one_line() {
    let mut rig = Setup::default().without_worker().await;
    let key = rig.key("completions");
    write(&mut rig.connection, &key, numbered(0..3)).await;
    let hub = start(&rig);
    for (filter, fits) in [
        (Filter { job_types: vec![JobType::CreateUser, JobType::CheckUser], ..Filter::default() }, true),
        (Filter { job_types: vec![JobType::CreateUser], ..Filter::default() }, false),
        (Filter { caller_id: Some("c".to_owned()), ..Filter::default() }, true),
        (Filter { caller_id: Some("d".to_owned()), ..Filter::default() }, false),
    ] {
        let mut feed = hub.follow(FeedStart::Beginning, filter.clone()).await.unwrap();
        if fits {
            let FeedEvent::Completion { completion, .. } = next(&mut feed).await else { panic!("no completion") };
            assert_eq!(completion.id, "j0");
            assert!(!completion.json().contains('\n'));
            assert_eq!(serde_json::from_str::<serde_json::Value>(completion.json()).unwrap(), completion.event);
        } else {
            assert!(timeout(Duration::from_millis(100), feed.next()).await.is_err(), "{filter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_wait_on_one_connection() {
    const WAITERS: usize = 10_000;
    let mut rig = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() }.without_worker().await;
    let before = connections(&mut rig, "reader").await;
    let hub = start(&rig);
    assert!(hub.is_reading(LONG).await);
    let deadline = Instant::now() + LONG;
    let mut waiters = JoinSet::new();
    // Two requests wait for each job.
    for n in 0..WAITERS {
        let mut expectation = hub.expect(&format!("j{}", n / 2)).unwrap();
        waiters.spawn(async move {
            match expectation.completion(deadline).await {
                Expected::Completion(completion) => assert_eq!(completion.id, expectation.id()),
                other => panic!("{other:?}"),
            }
        });
    }
    assert_eq!(hub.expect("one more").err(), Some(HubError::TooManyExpectations));
    let key = rig.key("completions");
    for chunk in 0..10 {
        write(&mut rig.connection, &key, numbered(chunk * 500..(chunk + 1) * 500)).await;
    }
    while let Some(waiter) = waiters.join_next().await {
        waiter.unwrap();
    }
    assert!(connections(&mut rig, "reader").await <= before + 3);
    assert_eq!(hub.expectations(), 0, "dropping an expectation ends it");
    let mut late = hub.expect("late").unwrap();
    assert!(matches!(late.completion(Instant::now()).await, Expected::TimedOut));
    drop(late);

    // The reader ends with the last handle.
    let clone = hub.clone();
    drop(hub);
    assert!(clone.is_reading(Duration::ZERO).await);
    drop(clone);
    rig.eventually("the hub's connections end", async |rig| connections(rig, "reader").await == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_outlasts_redis_and_misses_nothing() {
    let redis = RedisServer::own(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let mut rig = Setup { redis, ..Setup::default() }.start().await;
    rig.complete(check("first", "192.0.2.0")).await;
    let hub = start(&rig);
    let mut feed = hub.follow(FeedStart::Now, Filter::default()).await.unwrap();
    rig.complete(check("before", "192.0.2.1")).await;
    assert_eq!(next_id(&mut feed).await, "before");
    let mut expectation = hub.expect("after").unwrap();
    rig.redis.kill();
    // What is older than the hub needs Redis: the feed waits for it.
    let mut older = hub.follow(FeedStart::Beginning, Filter::default()).await.unwrap();
    assert!(timeout(Duration::from_millis(300), older.next()).await.is_err());
    rig.redis.restart();
    let url = rig.redis.url().to_owned();
    rig.connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    rig.complete(check("after", "192.0.2.2")).await;
    match expectation.completion(Instant::now() + LONG).await {
        Expected::Completion(completion) => assert_eq!(completion.event["outcome"], "absent"),
        other => panic!("{other:?}"),
    }
    assert_eq!(next_id(&mut feed).await, "after");
    assert_eq!(ids(&mut older, 3).await, ["first", "before", "after"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_starts_while_redis_is_away() {
    let mut redis = RedisServer::own(&["--save", ""]);
    redis.kill();
    let mut config = xco_worker::config::RedisConfig { url: vec![redis.url().into()], ..Setup::default().config.redis };
    config.connect_timeout = Duration::from_millis(100);
    config.response_timeout = Duration::from_millis(100);
    let hub = CompletionHub::start(&config).unwrap();
    let mut expectation = hub.expect("early").unwrap();
    assert!(!hub.is_reading(Duration::ZERO).await);
    let refused = hub.follow(FeedStart::Now, Filter::default()).await;
    assert_eq!(refused.err(), Some(HubError::NotReading));
    redis.restart();
    assert!(hub.is_reading(LONG).await);
    // It may have ended before the hub began to read.
    assert!(matches!(expectation.completion(Instant::now() + LONG).await, Expected::Gap));
}
