//! Backfills: `backfill_enqueue.lua`, `backfill_record.lua`.

use super::{Facts, Scene, Snapshot, Stage};
use rand::Rng;
use xco_worker::{
    contract::Lane,
    queue::{
        Link,
        backfill::{self, ResultUpdate, RowsEnqueued},
    },
};

const BATCH: &str = "import";
const RUN: &str = "run-1";

/// Enqueues rows as jobs.
#[derive(Debug)]
pub(crate) struct Feeding {
    rows: Vec<String>,
}

impl Scene for Feeding {
    async fn prepare(stage: &mut Stage) -> Self {
        let rows = (0..stage.rng.random_range(1..5)).map(|row| format!(r#"{{"id":"row{row}"}}"#)).collect();
        let mut set = redis::cmd("HSET");
        set.arg(stage.keys.backfill(BATCH)).arg("run").arg(RUN).arg("mark").arg(10).arg("fed").arg(10);
        stage.run::<()>(&set).await;
        stage.run::<()>(redis::cmd("EXPIRE").arg(stage.keys.backfill(BATCH)).arg(600)).await;
        Self { rows }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let rows: Vec<&str> = self.rows.iter().map(String::as_str).collect();
        let fed = backfill::enqueue_rows(link, &stage.keys, BATCH, RUN, (10, 20), &rows).await;
        fed.map(|fed| fed == RowsEnqueued::Done).map_err(|error| error.to_string())
    }

    fn more_facts(&self, snapshot: &Snapshot, facts: &mut Facts) {
        for row in &self.rows {
            let times = snapshot.count(&format!("jobs:{}", Lane::Bulk), "job", row);
            facts.note("", &format!("times enqueued {row}"), &times);
        }
    }

    /// Expiries are set again with the next rows.
    fn may_be_lost(fact: &str) -> bool {
        fact.starts_with("expires backfill:")
    }

    fn check(&self, calm: &Facts) {
        for row in &self.rows {
            assert_eq!(calm.get("", &format!("times enqueued {row}")), "1");
        }
    }
}

/// Records completions.
#[derive(Debug)]
pub(crate) struct Recording {
    updates: Vec<ResultUpdate>,
    ended: Option<backfill::EndedRows>,
}

impl Scene for Recording {
    const RESUMES: bool = true;

    async fn prepare(stage: &mut Stage) -> Self {
        let updates = (1..=stage.rng.random_range(1..5))
            .map(|row| {
                // Rows that completed, well or not, and rows that were only checked.
                let outcome = [b'c', b'f', b'a'][stage.rng.random_range(0..3)];
                ResultUpdate {
                    row,
                    code: [outcome, b' '],
                    checks: Some(1),
                    creates: stage.rng.random_bool(0.5).then_some(2),
                }
            })
            .collect();
        Self { updates, ended: None }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let ended = backfill::record_results(link, &stage.keys, BATCH, &self.updates).await;
        self.ended = Some(ended.map_err(|error| error.to_string())?);
        Ok(true)
    }

    /// Expiries are set again with the next rows.
    fn may_be_lost(fact: &str) -> bool {
        fact.starts_with("expires backfill:")
    }

    fn check(&self, calm: &Facts) {
        let ended = self.updates.iter().filter(|update| update.code[0] != b'a').count();
        let counted = calm.get("", &format!("backfill:{BATCH}"));
        assert!(counted.contains(&format!(r#""ended": "{ended}""#)), "{counted}");
    }
}
