//! `dead discard`

use super::{
    confirm::confirm,
    filter::FilterArgs,
    plan::letters as so_many,
    scan::{Enough, Letters, Places, TRIES, backoff},
};
use crate::{
    cli::{Context, Exit, UsageError, print_json, print_line, run::stop_on_signal, say},
    contract::{EntryId, ErrorKind, JobType},
    dead_letters::{Facts, Filter},
    queue::{
        Keys, Link,
        dead::{self, Order},
        is_transient,
    },
};
use clap::Args;
use redis::RedisError;
use serde_json::json;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// Letters of one removal.
const STEP: usize = 500;

/// Flags of `dead discard`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker dead discard --error invalid_code --older-than 7d --dry-run\n  \
    xco-worker dead discard --id signup-42 --yes")]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// All letters: wanted where no filter is given
    #[arg(long)]
    all: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Counts, asks, removes for good.
pub(super) async fn run(args: DiscardArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    if filter.is_empty() && !args.all {
        return Err(UsageError("say which letters (`--older-than 7d`, …), or --all".to_owned()).into());
    }
    let json = context.json;
    let mut letters = Letters::open(context).await?;
    let places = letters.places(&filter).await?;
    let mut kinds: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut scan = letters.scan(&places, Order::OldestFirst);
    scan.for_each(&letters, &filter, |facts| {
        let job_type = JobType::from_name(&facts.letter.job_type).map_or("-", JobType::as_str);
        *kinds.entry((job_type, facts.error_kind().map_or("-", ErrorKind::as_str))).or_default() += 1;
        Ok(Enough::No)
    })
    .await?;
    let count = kinds.values().sum();
    if json {
        let kinds: Vec<_> =
            kinds.iter().map(|((of, error), count)| json!({"type": of, "error": error, "count": count})).collect();
        print_json(&json!({"plan": {"discard": count, "kinds": kinds}}))?;
    } else {
        print_line(&format!("{} to be removed for good", so_many(count)))?;
        for ((job_type, error), count) in &kinds {
            print_line(&format!("  {count:>9}  {job_type:<15}  {error}"))?;
        }
    }
    if count == 0 {
        return Ok(Exit::Failed);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !confirm(args.yes, &format!("remove {} for good?", so_many(count)))? {
        return Ok(Exit::Failed);
    }
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let what = json!({"filter": filter.recorded(letters.now_ms)});
    letters.record("dead discard", &what, count).await?;
    let mut removed = 0;
    let result = remove(&letters, &places, &filter, &stop, &mut removed).await;
    let ended = letters.record("dead discard ended", &what, removed).await;
    if json {
        print_json(&json!({"result": {"discarded": removed, "interrupted": stop.is_cancelled()}}))?;
    } else {
        print_line(&format!("{} removed", so_many(removed)))?;
    }
    result?;
    ended?;
    if stop.is_cancelled() {
        say("interrupted: the same command goes on with what is left");
    }
    Ok(if stop.is_cancelled() || removed == 0 { Exit::Failed } else { Exit::Done })
}

async fn remove(
    letters: &Letters,
    places: &Places,
    filter: &Filter,
    stop: &CancellationToken,
    removed: &mut u64,
) -> anyhow::Result<()> {
    let mut link = letters.link();
    let mut scan = letters.scan(places, Order::OldestFirst);
    while let Some(page) = scan.next(letters).await? {
        let Some(keys) = page.first().and_then(|letter| letters.keys.get(usize::from(letter.partition))) else {
            continue;
        };
        let fitting: Vec<EntryId> =
            page.iter().filter(|letter| filter.wants(&Facts::new(letter))).map(|letter| letter.entry).collect();
        for step in fitting.chunks(STEP) {
            if stop.is_cancelled() {
                return Ok(());
            }
            *removed += patiently(&mut link, keys, step).await.map_err(|error| letters.error(&error))?;
        }
    }
    Ok(())
}

/// How many were removed. After a lost answer, all that are gone: by whom cannot be told.
async fn patiently(link: &mut Link, keys: &Keys, step: &[EntryId]) -> Result<u64, RedisError> {
    let mut tries = 0;
    loop {
        match dead::discard(link, keys, step).await {
            Ok(removed) if tries == 0 => return Ok(removed),
            Ok(_) => return Ok(u64::try_from(step.len()).unwrap_or(u64::MAX)),
            Err(error) if is_transient(&error) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(backoff(tries)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
