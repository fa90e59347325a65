//! `enqueue --file`: NDJSON into the lanes.

use super::render::{announce, report};
use crate::{
    cli::{Context, Exit, HintExt, say},
    contract::Lane,
    operations::{
        Backend,
        enqueue::{JobChecker, NdjsonEnqueue, NdjsonError},
    },
};
use anyhow::Context as _;
use std::path::Path;
use tokio::io::{AsyncRead, BufReader};

pub(super) async fn run(path: &Path, lane: Lane, context: &Context) -> anyhow::Result<Exit> {
    let input: Box<dyn AsyncRead + Unpin + Send> = if path == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let opened = tokio::fs::File::open(path).await;
        Box::new(opened.with_context(|| format!("{} cannot be opened", path.display()))?)
    };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let input = BufReader::with_capacity(64 * 1024, input);
    let mut lines = NdjsonEnqueue::new(input, JobChecker::new(&context.config), lane);
    let (mut enqueued, mut skipped) = (0_u64, 0_u64);
    while let Some(results) = lines.next(&mut backend).await.or_else(|error| failed(error, path))? {
        for line in results {
            match line.result {
                Ok(job) => {
                    enqueued += 1;
                    announce(&job, context.json)?;
                }
                Err(invalid) => {
                    skipped += 1;
                    report(&invalid, &format!("line {}: ", line.line));
                }
            }
        }
    }
    let lines = if skipped == 1 { "line" } else { "lines" };
    let skips = if skipped > 0 { format!(", {skipped} {lines} skipped") } else { String::new() };
    say(&format!("{enqueued} {} enqueued{skips}", if enqueued == 1 { "job" } else { "jobs" }));
    Ok(if skipped > 0 { Exit::Failed } else { Exit::Done })
}

fn failed<T>(error: NdjsonError, path: &Path) -> anyhow::Result<T> {
    match error {
        NdjsonError::Input(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        error @ (NdjsonError::NoJobs(_) | NdjsonError::Queue { .. }) => {
            let remedy = error.remedy().unwrap_or_default();
            Err(error).hint(remedy)
        }
    }
}
