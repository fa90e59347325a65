//! NDJSON into the lanes, in bounded pipelined batches.

use super::{
    announce,
    lines::Lines,
    prepare::{Ready, line},
    report,
};
use crate::{
    cli::{Context, Exit, HintExt, redis_access, say},
    contract::{Fault, Lane},
    queue::{Keys, Link, is_transient},
};
use anyhow::Context as _;
use redis::{RedisError, pipe};
use std::{path::Path, time::Duration};
use tokio::io::{AsyncRead, BufReader};

/// A batch ends with either.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// How often a batch is sent whose jobs all have ids: 0.2, 0.4 … 6.4 s in between, time for a failover.
const TRIES: u32 = 7;

/// A prepared job and the line it stood in.
struct Numbered {
    number: u64,
    ready: Ready,
}

pub(super) async fn run(path: &Path, lane: Lane, context: &Context) -> anyhow::Result<Exit> {
    let input: Box<dyn AsyncRead + Unpin + Send> = if path == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let opened = tokio::fs::File::open(path).await;
        Box::new(opened.with_context(|| format!("{} cannot be opened", path.display()))?)
    };
    let mut link = redis_access::connect(&context.config.redis).await?;
    let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, input));
    let mut batch: Vec<Numbered> = Vec::new();
    let mut bytes = 0;
    let (mut enqueued, mut skipped) = (0_u64, 0_u64);
    while let Some(read) = lines.next().await.with_context(|| format!("{} cannot be read", path.display()))? {
        let text = read.text.as_deref().map(std::str::from_utf8);
        let ready = match text {
            Some(Ok(text)) => line(text, lane, &context.config),
            Some(Err(_)) => Err(whole("must be UTF-8")),
            None => Err(whole("must be at most 65536 bytes")),
        };
        match ready {
            Ok(ready) => {
                bytes += ready.json.len();
                batch.push(Numbered { number: read.number, ready });
            }
            Err(faults) => {
                skipped += 1;
                report(&faults, &format!("line {}: ", read.number));
            }
        }
        if batch.len() >= BATCH_JOBS || bytes >= BATCH_BYTES {
            enqueued += send(&mut link, &mut batch, enqueued, context).await?;
            bytes = 0;
        }
    }
    enqueued += send(&mut link, &mut batch, enqueued, context).await?;
    let lines = if skipped == 1 { "line" } else { "lines" };
    let skips = if skipped > 0 { format!(", {skipped} {lines} skipped") } else { String::new() };
    say(&format!("{enqueued} {} enqueued{skips}", if enqueued == 1 { "job" } else { "jobs" }));
    Ok(if skipped > 0 { Exit::Failed } else { Exit::Done })
}

fn whole(detail: &str) -> Vec<Fault> {
    vec![Fault { pointer: String::new(), detail: detail.to_owned() }]
}

/// Sends a batch and prints its ids; empties it.
async fn send(link: &mut Link, batch: &mut Vec<Numbered>, before: u64, context: &Context) -> anyhow::Result<u64> {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(0) };
    let (first, last) = (first.number, last.number);
    // An id makes it safe to send a job again whose first sending may have worked.
    let repeatable = batch.iter().all(|job| job.ready.id.is_some());
    let mut tries = 0;
    let entries = loop {
        tries += 1;
        match add(link, batch, &context.config.redis.namespace).await {
            Ok(entries) => break entries,
            Err(error) if repeatable && tries < TRIES && is_transient(&error) => {
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
            }
            Err(error) => {
                let what = if repeatable {
                    "run it again: jobs with an id that are there already are dropped".to_owned()
                } else {
                    format!(
                        "it is not known which jobs of lines {first} to {last} are there; give each an `id`, and \
                             running it again does no harm"
                    )
                };
                let failed = Err(redis_access::unreachable(&context.config.redis, &error));
                return failed.context(format!("{before} jobs were enqueued, before line {first}")).hint(what);
            }
        }
    };
    for (job, entry) in batch.iter().zip(&entries) {
        announce(&job.ready, entry, context.json)?;
    }
    let count = batch.len() as u64;
    batch.clear();
    Ok(count)
}

/// One pipeline a partition: in a cluster a pipeline goes to one node. The entries' ids, in the order of the batch.
async fn add(link: &mut Link, batch: &[Numbered], namespace: &str) -> Result<Vec<String>, RedisError> {
    let mut entries = vec![String::new(); batch.len()];
    let mut partitions: Vec<u16> = batch.iter().map(|job| job.ready.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    for partition in partitions {
        let keys = Keys::new(namespace, partition);
        let mut adds = pipe();
        let mut places = Vec::new();
        for (place, Numbered { ready, .. }) in
            batch.iter().enumerate().filter(|(_, job)| job.ready.partition == partition)
        {
            adds.cmd("XADD").arg(keys.jobs(ready.lane)).arg("*").arg("job").arg(&ready.json);
            places.push(place);
        }
        let added: Vec<String> = link.pipeline(&adds).await?;
        for (place, entry) in places.into_iter().zip(added) {
            entries[place] = entry;
        }
    }
    Ok(entries)
}
