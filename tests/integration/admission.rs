//! Call markers after lost answers: admission is repeated, after changes in between, or given up.

use super::support::{Setup, check, start, with};
use redis::AsyncCommands;
use rstest::rstest;
use std::time::Duration;
use xco_worker::{
    contract::{EntryId, JobType, Lane, Partitions},
    limits::{Bucket, Limits, Spender},
    queue::{
        self, Admission, AdmissionBatch, AdmissionRequest, BucketPlace, Connector, Deferral, Finish, FinishOp,
        Finished, IdIndex, Keys, MarkerRemoval, Source,
    },
};

const INDEX: IdIndex = IdIndex::new(Duration::from_secs(60), Duration::ZERO);

/// Why an admitted job is no longer admitted.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Deadline,
    Closure,
}

/// Requests of the consumer `me`.
fn batch<'a>(stream: &'a str, asking: u32, requests: &'a [AdmissionRequest]) -> AdmissionBatch<'a> {
    AdmissionBatch { stream, consumer: "me", asking, place: BucketPlace::Recent, requests }
}

/// The first admission request of a new job, with the limit of `bucket` alone.
fn request(entry: EntryId, id: &str, bucket: &Bucket) -> AdmissionRequest {
    AdmissionRequest {
        entry,
        token: format!("interactive:0:{entry}"),
        reserve_id: Some(id.to_owned()),
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

#[rstest]
#[case(Change::Nothing, true)]
#[case(Change::Deadline, false)]
#[case(Change::Closure, false)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_the_second_time_has_not_begun(#[case] change: Change, #[case] begun: bool) {
    let mut rig = Setup::default().without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    queue::ensure_group(&mut link, &keys).await.unwrap();
    rig.enqueue(&with(start("otp", "ip", "a@example.com"), "ttl_ms", 60_000)).await;
    rig.enqueue(&start("other", "ip", "b@example.com")).await;
    let entries = queue::read_lane(&mut link, &keys, Lane::Interactive, "me", 2, None).await.unwrap();
    let bucket = Limits::new(rig.config.limits.clone(), Partitions::ONE).bucket(JobType::StartOtp, Spender::Client);
    let mut request = request(entries[0].id, "otp", &bucket);
    request.mark = Some("me:1".to_owned());
    let stream = keys.stream(Lane::Interactive, Source::Jobs).to_owned();
    let window = INDEX;
    let mut admit = async |asking: u32, request: &AdmissionRequest| {
        let requests = std::slice::from_ref(request);
        queue::admit(&mut link, &keys, window, batch(&stream, asking, requests)).await.unwrap().verdicts[0]
    };
    assert_eq!(admit(2, &request).await, Admission::Admitted);
    match change {
        Change::Nothing => {}
        Change::Deadline => request.deadline_ms = Some(1),
        Change::Closure => {
            let deferral = Deferral {
                entry: entries[1].id,
                origin: "interactive:0:1-2".to_owned(),
                bucket,
                retry_after: Some(Duration::from_secs(60)),
                learn: true,
                deadline_ms: None,
                state: "{}".to_owned(),
                place: None,
                job: b"{}".to_vec(),
            };
            let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
            queue::defer(&mut link, &keys, Lane::Interactive, Source::Jobs, "me", &deferral).await.unwrap();
        }
    }
    // A request that was given up arrives now: the call is running and keeps its marker.
    let earlier = admit(1, &request).await;
    assert_eq!(earlier, Admission::Begun);
    let marked: bool = rig.connection.hexists(rig.key("begun"), &request.token).await.unwrap();
    assert!(marked);
    let again = admit(3, &request).await;
    match change {
        Change::Nothing => assert_eq!(again, Admission::Admitted),
        Change::Deadline => assert_eq!(again, Admission::Expired),
        Change::Closure => assert!(matches!(again, Admission::Limited { .. }), "{again:?}"),
    }
    let marked: bool = rig.connection.hexists(rig.key("begun"), &request.token).await.unwrap();
    assert_eq!(marked, begun);
}

/// A worker that gives up its request removes its own call marker, if it has one, and not that of another worker, whose
/// call has an unknown result.
#[rstest]
#[case("me:1", false)]
#[case("me:11", true)]
#[case("other:1", true)]
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_takes_no_other_mark_off(#[case] found: &str, #[case] stays: bool) {
    let mut rig = Setup::default().without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    queue::ensure_group(&mut link, &keys).await.unwrap();
    rig.enqueue(&start("otp", "ip", "a@example.com")).await;
    let entries = queue::read_lane(&mut link, &keys, Lane::Interactive, "me", 1, None).await.unwrap();
    let origin = format!("interactive:0:{}", entries[0].id);
    let () = rig.connection.hset(rig.key("begun"), &origin, format!("{found}/3")).await.unwrap();
    let op = FinishOp::Requeue { state: format!(r#"{{"o":"{origin}"}}"#), job: entries[0].job.clone() };
    let unmark = MarkerRemoval::Own("me:1".to_owned());
    let handed_back = Finish { entry: entries[0].id, origin: origin.clone(), unmark, op };
    let life = Duration::from_secs(60);
    let ended = queue::finish(&mut link, &keys, Lane::Interactive, Source::Jobs, ("me", life, INDEX), &[handed_back])
        .await
        .unwrap();
    assert_eq!(ended.each, [queue::Finished::Ended]);
    let marked: bool = rig.connection.hexists(rig.key("begun"), &origin).await.unwrap();
    assert_eq!(marked, stays);
    let back: u64 = rig.connection.xlen(rig.key("due:interactive")).await.unwrap();
    assert_eq!(back, 1);
}

/// After a failover a worker still has deliveries that the new primary has never seen. Their jobs may have been
/// enqueued again meanwhile. A delivery that Redis does not know must not take the id away from those.
#[rstest]
#[case::all_lost(&[0, 1])]
#[case::the_youngest_lost(&[1])]
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_redis_has_lost_reserves_no_id(#[case] lost: &[usize]) {
    let mut rig = Setup::default().without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    queue::ensure_group(&mut link, &keys).await.unwrap();
    let stream = keys.stream(Lane::Interactive, Source::Jobs).to_owned();
    let bucket = Limits::new(rig.config.limits.clone(), Partitions::ONE).bucket(JobType::CheckUser, Spender::Client);
    let window = INDEX;
    let mut requests = Vec::new();
    for id in ["a", "b"] {
        rig.enqueue(&check(id, "192.0.2.1")).await;
        let entries = queue::read_lane(&mut link, &keys, Lane::Interactive, "me", 1, None).await.unwrap();
        requests.push(request(entries[0].id, id, &bucket));
    }
    for place in lost {
        let entry = requests[*place].entry.to_string();
        let _: i64 = rig.connection.xack(&stream, "workers", &[&entry]).await.unwrap();
        let _: i64 = rig.connection.xdel(&stream, &[&entry]).await.unwrap();
    }
    let answers = queue::admit(&mut link, &keys, window, batch(&stream, 1, &requests)).await.unwrap();
    for (place, verdict) in answers.verdicts.iter().enumerate() {
        let expected = if lost.contains(&place) { Admission::NotOurs } else { Admission::Admitted };
        assert_eq!(*verdict, expected, "of {place}");
    }
    for place in lost {
        let reserved = rig.reserved(["a", "b"][*place]).await;
        assert!(reserved.is_empty(), "{place}: {reserved:?}");
    }
    // Enqueued again, they are not duplicates.
    for place in lost {
        rig.enqueue(&check(["a", "b"][*place], "192.0.2.1")).await;
        let entries = queue::read_lane(&mut link, &keys, Lane::Interactive, "me", 1, None).await.unwrap();
        let request = request(entries[0].id, ["a", "b"][*place], &bucket);
        let answers = queue::admit(&mut link, &keys, window, batch(&stream, 1, &[request])).await.unwrap();
        assert_eq!(answers.verdicts, [Admission::Admitted]);
    }
}

/// Only a delivery's own call marker shows that it has not ended. By the time an end is repeated, the job may have come
/// back and be running again.
#[rstest]
#[case::before_its_lane_was_deleted("me:1/1", true)]
#[case::by_the_jobs_next_delivery("another:7/1", false)]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_counts_where_its_own_mark_was_set(#[case] mark: &str, #[case] ours: bool) {
    let mut rig = Setup::default().without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    queue::ensure_group(&mut link, &keys).await.unwrap();
    rig.enqueue(&start("otp", "ip", "a@example.com")).await;
    let entry = queue::read_lane(&mut link, &keys, Lane::Interactive, "me", 1, None).await.unwrap()[0].id;
    let origin = format!("interactive:0:{entry}");
    let _: u64 = rig.connection.del(keys.jobs(Lane::Interactive)).await.unwrap();
    let () = rig.connection.hset(&keys.begun, &origin, mark).await.unwrap();
    let end = |unmark| Finish {
        entry,
        origin: origin.clone(),
        unmark,
        op: FinishOp::Park { due_us: 1_000, place: None, state: "{}".to_owned(), job: b"{}".to_vec() },
    };
    for unmark in
        [MarkerRemoval::Any, MarkerRemoval::Called("me:1".to_owned()), MarkerRemoval::Called("me:1".to_owned())]
    {
        let first = unmark != MarkerRemoval::Any && rig.connection.hexists(&keys.begun, &origin).await.unwrap();
        let whose = ("me", Duration::from_secs(60), INDEX);
        let finishes =
            queue::finish(&mut link, &keys, Lane::Interactive, Source::Jobs, whose, &[end(unmark)]).await.unwrap();
        let wanted = if ours && first { Finished::Ended } else { Finished::NotOurs };
        assert_eq!(finishes.each, [wanted]);
    }
    let left: bool = rig.connection.hexists(&keys.begun, &origin).await.unwrap();
    assert_eq!(left, !ours);
    let parked: u64 = rig.connection.zcard(&keys.delayed).await.unwrap();
    assert_eq!(parked, u64::from(ours));
}
