//! Marks of begun calls where answers were lost: admission asked again, things having changed meanwhile, and given up.

use super::support::{Setup, start, with};
use redis::AsyncCommands;
use rstest::rstest;
use std::time::Duration;
use xco_worker::{
    contract::{JobType, Lane},
    limits::{Limits, Spender},
    queue::{self, Admission, AdmissionRequest, Connector, Deferral, Finish, FinishOp, Held, Keys, Source, Unmark},
};

/// Why a job that was admitted is not any more.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Deadline,
    Closure,
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
    let bucket = Limits::new(rig.config.limits.clone(), 1).bucket(JobType::StartOtp, Spender::Client);
    let mut request = AdmissionRequest {
        entry: entries[0].id,
        token: "interactive:0:1-1".to_owned(),
        reserve_id: Some("otp".to_owned()),
        count_in_batch: None,
        bucket: (bucket.clone(), Held::No),
        total: None,
        slot: None,
        bulk_age: None,
        deadline_ms: None,
        run_at_ms: None,
        mark: Some("me:1".to_owned()),
        aside: false,
    };
    let stream = keys.stream(Lane::Interactive, Source::Jobs).to_owned();
    let window = Duration::from_secs(60);
    let mut admit = async |asking: u32, request: &AdmissionRequest| {
        let requests = std::slice::from_ref(request);
        queue::admit(&mut link, &keys, &stream, "me", window, asking, requests).await.unwrap().verdicts[0]
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
    // One that was given up arrives now: the call is under way, and stays marked.
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

/// A worker that gives up asking takes its own mark off, should it have one, and not that of another, whose call nobody knows
/// the end of.
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
    let unmark = Unmark::Own("me:1".to_owned());
    let handed_back = Finish { entry: entries[0].id, origin: origin.clone(), unmark, op };
    let life = Duration::from_secs(60);
    let ended =
        queue::finish(&mut link, &keys, Lane::Interactive, Source::Jobs, ("me", life), &[handed_back]).await.unwrap();
    assert_eq!(ended.each, [queue::Finished::Ended]);
    let marked: bool = rig.connection.hexists(rig.key("begun"), &origin).await.unwrap();
    assert_eq!(marked, stays);
    let back: u64 = rig.connection.xlen(rig.key("due:interactive")).await.unwrap();
    assert_eq!(back, 1);
}
