//! A backfill through `operations`, without the binary.

use super::{
    backfill::{lines, plain},
    support::{Setup, gateway::TestGateway},
};
use reqwest::redirect::Policy;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;
use xco_worker::contract::Partitions;
use xco_worker::operations::{
    Actor, Backend, NoProgress, Progress,
    backfill::{
        Backfill, BackfillError, BackfillProgress, BackfillState, Ending, FeedLimits, Identity, RowSource, report,
    },
    status::SnapshotCollector,
};

const LIMITS: FeedLimits = FeedLimits { window: Some(10_000), rate: None, max_rejected: None, again: false };

#[derive(Debug, Default)]
struct Counted {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Counted {
    fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }
}

impl BackfillProgress for Counted {
    fn show(&self, state: &BackfillState) {
        assert!(state.ended <= 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_runs_and_reports_without_a_terminal() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.csv");
    fs::write(&file, plain(50) + "c51,nobody\n").unwrap();
    let source = RowSource { files: vec![file.clone()], batch: Some("b".to_owned()), ..RowSource::default() };
    let identity = Identity::new(source.clone(), Partitions::ONE).unwrap();
    let checked = Backfill::open(identity.clone()).unwrap().check(Arc::new(NoProgress)).await.unwrap();
    assert_eq!((checked.counts.rows, checked.counts.valid, checked.counts.rejected), (51, 50, 1));

    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    let unknown = report(&mut backend, "b", &NoProgress).await;
    assert!(matches!(unknown, Err(BackfillError::UnknownBatch(_))), "{unknown:?}");
    let (ada, progress) = (Actor::new("ada", "a test"), Arc::new(Counted::default()));
    let stopped = CancellationToken::new();
    stopped.cancel();
    let start = Backfill::open(identity.clone()).unwrap().start(&mut backend, &ada, LIMITS, progress.clone());
    let ending = start.await.unwrap().run(&mut backend, stopped).await.unwrap();
    assert_eq!(ending, Ending::Stopped { outstanding: 0 });
    let mut collector = SnapshotCollector::start(&mut backend, 10).await.unwrap();
    let status = collector.collect(&mut backend).await.unwrap();
    let [figures] = &status.backfills[..] else { panic!("{:?}", status.backfills) };
    assert_eq!((figures.batch.as_str(), figures.valid, figures.ended, figures.pending), ("b", Some(50), 0, Some(50)));
    let start = Backfill::open(identity).unwrap().start(&mut backend, &ada, LIMITS, progress.clone());
    let ending = start.await.unwrap().run(&mut backend, CancellationToken::new()).await.unwrap();
    assert_eq!(ending, Ending::Complete);
    let status = collector.collect(&mut backend).await.unwrap();
    assert!(status.backfills.is_empty(), "it has ended: {:?}", status.backfills);
    assert_eq!((progress.total.load(Ordering::Relaxed), progress.done.load(Ordering::Relaxed)), (50, 50));
    let report = report(&mut backend, "b", &NoProgress).await.unwrap();
    assert_eq!((report.complete, report.enqueued, report.pending, report.outcomes["created"]), (true, 50, 0, 50));
    assert_eq!(lines(report.files[0].results.as_ref().unwrap()).len(), 51);

    // The same over HTTP, by row: Redis keeps no reference.
    let gateway = TestGateway::start(&rig).await;
    let answer = gateway.get("/v1/backfills/b/results", "reader").await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"results.csv\"");
    let rows: Vec<_> = answer.text.lines().collect();
    assert_eq!(
        (rows.len(), rows[0], rows[1], rows[50]),
        (51, "row,outcome,error,attempts", "1,created,,2", "50,created,,2")
    );
    assert_eq!(gateway.get("/v1/backfills/b", "reader").await.json()["ended"], 50);
    // The console's page links to the same.
    let browser = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let at = |path: &str| format!("http://{}{path}", gateway.address);
    let login = browser.post(at("/console/login")).header("sec-fetch-site", "same-origin");
    let login = login.form(&[("token", "secret-of-reader"), ("person", "ada")]).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let get =
        async |path: &str| browser.get(at(path)).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    assert!(get("/console/batches").await.contains("href=\"/console/batches/b/results\""));
    assert_eq!(get("/console/batches/b/results").await, answer.text);
    drop(browser);
    gateway.end().await;

    fs::write(&file, plain(49)).unwrap();
    let other = Backfill::open(Identity::new(source, Partitions::ONE).unwrap()).unwrap();
    let refused = other.start(&mut backend, &ada, LIMITS, Arc::new(NoProgress)).await.err().unwrap();
    assert!(matches!(refused, BackfillError::OtherBackfill { .. }) && refused.is_usage(), "{refused}");
    rig.end().await;
}
