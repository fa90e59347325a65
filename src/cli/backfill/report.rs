//! What became of a batch: a summary, and `FILE.results.csv`.

use super::{
    feeder::tell_lost,
    files::{self, Results},
    lost::{self, Lost},
    plan::Plan,
};
use crate::{
    backfill::{Collector, Counts, Row, RowResult, Rows, Tally, Verdict},
    cli::{Context, Exit, HintExt, print_json, print_line, redis_access, say},
    queue::{
        Keys, Link,
        backfill::{self, Mark, RESULT_BYTES},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Rows whose results are fetched at once.
const PAGE_ROWS: u64 = 16 * 1024;

/// How far a batch is.
struct Standing {
    /// What its files hold, once they were read to the end.
    counts: Option<Counts>,
    /// By partition.
    marks: Vec<Mark>,
    tally: Tally,
}

impl Standing {
    fn enqueued(&self) -> u64 {
        self.marks.iter().map(|mark| mark.fed).sum()
    }

    /// Whether every valid row has ended.
    fn is_complete(&self) -> bool {
        self.counts.is_some_and(|counts| counts.valid == self.tally.total())
    }
}

/// `backfill report BATCH`
pub(super) async fn run(batch: &str, context: &Context) -> anyhow::Result<Exit> {
    let mut link = redis_access::connect(&context.config.redis).await?;
    conclude(&mut link, batch, context).await
}

/// Collects what there is to collect, writes the result files and prints the summary.
pub(super) async fn conclude(link: &mut Link, batch: &str, context: &Context) -> anyhow::Result<Exit> {
    let redis = &context.config.redis;
    let failed = |error| redis_access::unreachable(redis, &error);
    let keys: Vec<Keys> = (0..redis.partitions.max(1)).map(|number| Keys::new(&redis.namespace, number)).collect();
    let Some((held, counts)) = backfill::plan(link, &keys[0], batch).await.map_err(failed)? else {
        let unknown: anyhow::Result<Exit> = Err(anyhow::anyhow!("no batch {batch} is known"));
        return unknown.hint("a backfill is remembered for 30 days after its last sign of life");
    };
    let mut collector = Collector::start(link, keys.clone(), batch).await.map_err(failed)?;
    while collector.step(link).await.map_err(failed)? {}
    let again = Plan::again(batch, &held.what, &held.fingerprint, redis.partitions);
    if collector.has_missed()
        && let Ok(plan) = &again
    {
        let mut lost = Lost::default();
        lost.look(link, &keys, plan).await?;
        tokio::time::sleep(lost::LOOK_EVERY).await;
        while collector.step(link).await.map_err(failed)? {}
        tell_lost(lost.look(link, &keys, plan).await?);
    }

    let mut marks = Vec::with_capacity(keys.len());
    for keys in &keys {
        marks.push(backfill::mark(link, keys, batch).await.map_err(failed)?);
    }
    let counts = counts.and_then(|counts| serde_json::from_str(&counts).ok());
    let tally = tally(link, &keys[0], batch, &marks).await.map_err(failed)?;
    let standing = Standing { counts, marks, tally };
    if standing.is_complete() {
        for keys in &keys {
            backfill::release(link, keys, batch).await.map_err(failed)?;
        }
    }
    let written = match again {
        Ok(plan) => {
            write_results(link, &keys[0], &plan, &standing, context).await?;
            Some(plan)
        }
        Err(why) => {
            say(&format!("no result file was written: {why}"));
            None
        }
    };
    print(batch, &standing, written.as_ref(), context.json)?;
    Ok(if standing.is_complete() { Exit::Done } else { Exit::Failed })
}

async fn tally(link: &mut Link, first: &Keys, batch: &str, marks: &[Mark]) -> redis::RedisResult<Tally> {
    let last = marks.iter().map(|mark| mark.row).max().unwrap_or(0);
    let mut tally = Tally::default();
    let mut from = 1;
    while from <= last {
        let count = PAGE_ROWS.min(last - from + 1);
        tally.add(&backfill::results(link, first, batch, from, count).await?);
        from += count;
    }
    Ok(tally)
}

/// Reads the files once more and joins each valid row with its result.
async fn write_results(
    link: &mut Link,
    first: &Keys,
    plan: &Plan,
    standing: &Standing,
    context: &Context,
) -> anyhow::Result<()> {
    let redis = &context.config.redis;
    let mut rows = Rows::open(plan.files.clone(), plan.layout.clone(), plan.target(redis.partitions), Arc::default())?;
    let (sender, mut chunks) = mpsc::channel::<Vec<Row>>(2);
    let reader = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let mut chunk = Vec::new();
        loop {
            let row = rows.next()?;
            let ended = row.is_none();
            chunk.extend(row.map(without_job));
            if (ended || chunk.len() as u64 == PAGE_ROWS) && sender.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return Ok(());
            }
            if ended {
                return Ok(());
            }
        }
    });
    let mut files = plan.files.iter().map(|path| Results::create(path)).collect::<anyhow::Result<Vec<_>>>()?;
    while let Some(chunk) = chunks.recv().await {
        let (Some(from), Some(to)) = (chunk.first(), chunk.last()) else { continue };
        let (from, count) = (from.number, to.number - from.number + 1);
        let results = backfill::results(link, first, &plan.batch, from, count).await;
        let results = results.map_err(|error| redis_access::unreachable(redis, &error))?;
        let mut results = results.chunks(RESULT_BYTES);
        for row in chunk {
            let result = RowResult::decode(results.next().unwrap_or_default());
            if let (Verdict::Valid { reference, partition, .. }, Some(file)) = (&row.verdict, files.get_mut(row.file)) {
                let mark = standing.marks.get(usize::from(*partition));
                let enqueued = mark.is_some_and(|mark| row.number <= mark.row);
                let outcome = if enqueued { result.outcome.as_str() } else { "not_enqueued" };
                let error = result.error.map_or("", crate::contract::ErrorKind::as_str);
                file.write(reference, outcome, error, result.attempts)?;
            }
        }
    }
    reader.await??;
    files.into_iter().try_for_each(Results::finish)
}

fn without_job(mut row: Row) -> Row {
    if let Verdict::Valid { job, .. } = &mut row.verdict {
        *job = String::new();
    }
    row
}

fn print(batch: &str, standing: &Standing, written: Option<&Plan>, json: bool) -> anyhow::Result<()> {
    let Standing { counts, tally, .. } = standing;
    let (enqueued, ended) = (standing.enqueued(), tally.total());
    let files: Vec<_> = written.into_iter().flat_map(|plan| &plan.files).collect();
    if json {
        let files = files
            .iter()
            .map(|file| json!({"file": file, "rejected": files::rejected(file), "results": files::results(file)}));
        return print_json(&json!({
            "batch": batch, "complete": standing.is_complete(), "rows": counts.map(|counts| counts.rows),
            "valid": counts.map(|counts| counts.valid), "rejected": counts.map(|counts| counts.rejected),
            "duplicates": counts.map(|counts| counts.duplicates),
            "lookalikes": counts.map(|counts| counts.lookalikes), "enqueued": enqueued, "ended": ended,
            "pending": enqueued.saturating_sub(ended), "outcomes": tally.outcomes, "errors": tally.errors,
            "files": files.collect::<Vec<Value>>(),
        }));
    }
    print_line(&format!("batch {batch}"))?;
    if let Some(counts) = counts {
        print_counts(counts)?;
    }
    figure("enqueued", enqueued)?;
    for (outcome, count) in &tally.outcomes {
        figure(&format!("  {outcome}"), *count)?;
    }
    if enqueued > ended {
        figure("  pending", enqueued - ended)?;
    }
    if !tally.errors.is_empty() {
        print_line("errors")?;
        for (error, count) in &tally.errors {
            figure(&format!("  {error}"), *count)?;
        }
    }
    for file in files {
        print_line(&format!("results in {}", files::results(file).display()))?;
        print_line(&format!("rejected rows in {}", files::rejected(file).display()))?;
    }
    match counts {
        None => say("not every row has been enqueued: give the command that began it, once more"),
        Some(_) if !standing.is_complete() => say("not every row has ended"),
        Some(_) => {}
    }
    Ok(())
}

fn print_counts(counts: &Counts) -> anyhow::Result<()> {
    figure("rows", counts.rows)?;
    figure("  rejected", counts.rejected)?;
    figure("  duplicates", counts.duplicates)?;
    figure("  valid", counts.valid)?;
    if counts.lookalikes > 0 { figure("  look alike", counts.lookalikes) } else { Ok(()) }
}

fn figure(what: &str, count: u64) -> anyhow::Result<()> {
    print_line(&format!("{what:<18}{count:>10}"))
}

/// Of a run that enqueued nothing.
pub(super) fn dry_run(plan: &Plan, counts: Counts, json: bool) -> anyhow::Result<()> {
    if json {
        let files = plan.files.iter().map(|file| json!({"file": file, "rejected": files::rejected(file)}));
        return print_json(&json!({
            "batch": plan.batch, "dry_run": true, "rows": counts.rows, "valid": counts.valid,
            "rejected": counts.rejected, "duplicates": counts.duplicates,
            "lookalikes": counts.lookalikes, "files": files.collect::<Vec<Value>>(),
        }));
    }
    print_line(&format!("batch {} (nothing was enqueued)", plan.batch))?;
    print_counts(&counts)?;
    for file in &plan.files {
        print_line(&format!("rejected rows in {}", files::rejected(file).display()))?;
    }
    Ok(())
}
