//! Admission asked again: its first answer was lost, and things have changed meanwhile.

use super::support::{Setup, start, with};
use redis::AsyncCommands;
use rstest::rstest;
use std::time::Duration;
use xco_worker::{
    contract::{JobType, Lane},
    limits::{Limits, Spender},
    queue::{self, Admission, AdmissionRequest, Connector, Deferral, Held, Keys, Source},
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
    let mut admit = async |request: &AdmissionRequest| {
        let requests = std::slice::from_ref(request);
        queue::admit(&mut link, &keys, &stream, "me", window, requests).await.unwrap().verdicts[0]
    };
    assert_eq!(admit(&request).await, Admission::Admitted);
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
            queue::defer(&mut link, &keys, Lane::Interactive, Source::Jobs, &deferral).await.unwrap();
        }
    }
    let again = admit(&request).await;
    match change {
        Change::Nothing => assert_eq!(again, Admission::Admitted),
        Change::Deadline => assert_eq!(again, Admission::Expired),
        Change::Closure => assert!(matches!(again, Admission::Limited { .. }), "{again:?}"),
    }
    let marked: bool = rig.connection.hexists(rig.key("begun"), &request.token).await.unwrap();
    assert_eq!(marked, begun);
}
