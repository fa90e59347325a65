//! Callers' buckets in the hashes `recent`: they count wherever they are, however often they move.

use super::support::{Rig, Setup};
use redis::AsyncCommands;
use std::time::Duration;
use xco_worker::{
    contract::{EntryId, Lane},
    limits::Bucket,
    queue::{
        self, Admission, AdmissionBatch, AdmissionRequest, BucketPlace, Connector, Deferral, IdIndex, Keys, Link,
        Source,
    },
};

const INDEX: IdIndex = IdIndex::new(Duration::from_secs(60), Duration::ZERO);

/// Three calls at once, then one in a long time; or, with a short interval, one that is recent.
fn bucket(name: &str, interval_us: u64) -> Bucket {
    Bucket {
        name: format!("caller:{name}"),
        interval_us,
        tolerance_us: 2 * interval_us,
        slack_us: 2 * interval_us,
        shared: None,
    }
}

fn request(bucket: &Bucket) -> AdmissionRequest {
    let entry = EntryId { ms: 1, seq: 0 };
    AdmissionRequest {
        entry,
        token: format!("interactive:0:{entry}"),
        reserve_id: None,
        count_in_batch: None,
        bucket: (bucket.clone(), None),
        total: None,
        bulk_age: None,
        deadline_ms: None,
        run_at_ms: None,
        mark: None,
        aside: false,
    }
}

struct Asking {
    link: Link,
    keys: Keys,
}

impl Asking {
    async fn start(rig: &Rig) -> Self {
        let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
        let keys = Keys::new(&rig.config.redis.namespace, 0);
        queue::ensure_group(&mut link, &keys).await.unwrap();
        Self { link, keys }
    }

    async fn admit(&mut self, place: BucketPlace, buckets: &[&Bucket]) -> Vec<Admission> {
        let requests: Vec<_> = buckets.iter().map(|bucket| request(bucket)).collect();
        let stream = self.keys.stream(Lane::Interactive, Source::Jobs).to_owned();
        let batch = AdmissionBatch { stream: &stream, consumer: "me", asking: 1, place, requests: &requests };
        queue::admit(&mut self.link, &self.keys, INDEX, batch).await.unwrap().verdicts
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_counts_all_calls_wherever_they_were_written() {
    use BucketPlace::{OwnKey, Recent};
    let mut rig = Setup::default().without_worker().await;
    let mut asking = Asking::start(&rig).await;
    for (number, places) in
        [[Recent; 3], [OwnKey; 3], [Recent, OwnKey, Recent], [OwnKey, Recent, OwnKey]].into_iter().enumerate()
    {
        // The fourth call waits for more than two seconds: no test is that slow between two lines.
        let limited = bucket(&number.to_string(), 3_000_000);
        for place in places {
            assert_eq!(asking.admit(place, &[&limited]).await, [Admission::Admitted], "{places:?}");
        }
        for place in places {
            let verdict = asking.admit(place, &[&limited]).await[0];
            assert!(matches!(verdict, Admission::Limited { .. }), "{places:?}: {verdict:?}");
        }
    }
    // Several calls in one batch.
    let limited = bucket("batch", 3_000_000);
    let verdicts = asking.admit(Recent, &[&limited; 5]).await;
    assert_eq!(verdicts[..3], [Admission::Admitted; 3]);
    assert!(verdicts[3..].iter().all(|verdict| matches!(verdict, Admission::Limited { .. })), "{verdicts:?}");
    // A bucket that is further away than a hash lives has its own key.
    let slow = bucket("slow", 60_000_000);
    assert_eq!(asking.admit(Recent, &[&slow]).await, [Admission::Admitted]);
    assert!(rig.connection.exists::<_, bool>(rig.key("limit:caller:slow")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_outlives_the_change_to_the_other_hash() {
    let mut rig = Setup::default().without_worker().await;
    let mut asking = Asking::start(&rig).await;
    let limited = bucket("one", 3_000_000);
    let recent = [rig.key("recent:0"), rig.key("recent:1")];
    for _ in 0..3 {
        assert_eq!(asking.admit(BucketPlace::Recent, &[&limited]).await, [Admission::Admitted]);
        assert!(!rig.connection.exists::<_, bool>(rig.key("limit:caller:one")).await.unwrap());
        // The hash in use is more than half over: the next call writes to the other one.
        for hash in &recent {
            let left_ms: i64 = rig.connection.pttl(hash).await.unwrap();
            assert_ne!(left_ms, -1, "every hash expires");
            if left_ms > 9_000 {
                let () = rig.connection.pexpire(hash, 9_000).await.unwrap();
            } else if left_ms > 0 {
                // And what was written before that has had its time, as far as it is not there as well.
                let () = rig.connection.del(hash).await.unwrap();
            }
        }
    }
    let verdict = asking.admit(BucketPlace::Recent, &[&limited]).await[0];
    assert!(matches!(verdict, Admission::Limited { .. }), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_without_expiry_or_of_another_type_is_put_right() {
    let mut rig = Setup::default().without_worker().await;
    let mut asking = Asking::start(&rig).await;
    let recent = [rig.key("recent:0"), rig.key("recent:1")];
    for hash in &recent {
        let () = rig.connection.set(hash, "foreign").await.unwrap();
    }
    let limited = bucket("one", 3_000_000);
    assert_eq!(asking.admit(BucketPlace::Recent, &[&limited]).await, [Admission::Admitted]);
    for hash in &recent {
        let _: bool = rig.connection.persist(hash).await.unwrap();
    }
    assert_eq!(asking.admit(BucketPlace::Recent, &[&limited; 2]).await, [Admission::Admitted; 2]);
    let verdict = asking.admit(BucketPlace::Recent, &[&limited]).await[0];
    assert!(matches!(verdict, Admission::Limited { .. }), "{verdict:?}");
    let expires =
        [rig.connection.pttl(&recent[0]).await.unwrap(), rig.connection.pttl::<_, i64>(&recent[1]).await.unwrap()];
    assert!(expires.iter().any(|left_ms| (1..=20_000).contains(left_ms)), "{expires:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_closes_a_recent_bucket() {
    let mut rig = Setup::default().without_worker().await;
    let mut asking = Asking::start(&rig).await;
    let limited = bucket("one", 3_000_000);
    assert_eq!(asking.admit(BucketPlace::Recent, &[&limited; 2]).await, [Admission::Admitted; 2]);
    let deferral = Deferral {
        entry: EntryId { ms: 1, seq: 0 },
        origin: "interactive:0:1-0".to_owned(),
        bucket: limited.clone(),
        retry_after: Some(Duration::from_secs(60)),
        learn: true,
        deadline_ms: None,
        state: "{}".to_owned(),
        place: None,
        job: b"{}".to_vec(),
    };
    queue::defer(&mut asking.link, &asking.keys, Lane::Interactive, Source::Jobs, "me", &deferral).await.unwrap();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    match asking.admit(BucketPlace::Recent, &[&limited]).await[0] {
        Admission::Limited { due_us, .. } => assert!(due_us >= (seconds + 58) * 1_000_000, "{due_us}"),
        other => panic!("{other:?}"),
    }
}
