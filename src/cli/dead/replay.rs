//! `dead replay`: first the plan, then letter by letter back into the bulk lane.

use super::{
    confirm::confirm,
    editor::in_editor,
    filter::FilterArgs,
    mover::{Mover, Tally},
    outcomes::Outcomes,
    plan::{self, Plan, Spending, letters as so_many},
    scan::{Enough, Letters, Places},
};
use crate::{
    cli::{Context, Exit, UsageError, print_json, print_line, redis_access::queue_error, run::stop_on_signal, say},
    config::{Rate, parse_duration, parse_rate},
    dead_letters::{Allowed, Assignment, Changes, Facts, Filter, judge, parse_pointer},
    queue::dead::{self, Letter, Order},
};
use clap::Args;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Flags of `dead replay`.
#[derive(Args)]
#[command(
    after_long_help = "A letter moves in one step: it is either a dead letter or a job, whatever is killed. Interrupted \
    and started again with the same flags, a replay goes on with what is left. Letters that are written while it runs are \
    not part of it.\n\nExamples:\n  \
    xco-worker dead replay --error upstream,timeout --dry-run\n  \
    xco-worker dead replay --error upstream --since 2h --rate 100/s --wait 10m --yes\n  \
    xco-worker dead replay --id signup-42 --set /args/user/phone_number=+33612345678\n  \
    xco-worker dead replay --id signup-42 --edit"
)]
#[allow(clippy::struct_excessive_bools, reason = "independent flags")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// All letters: wanted where no filter is given
    #[arg(long)]
    all: bool,
    /// The most letters to replay, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How fast letters go back into the queue
    #[arg(long, value_name = "RATE", default_value = "50/s", value_parser = parse_rate)]
    rate: Rate,
    /// Wait so long for the replayed jobs to end, and say how they did
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Replay even jobs that send a code, although nobody may be waiting for it any more
    #[arg(long)]
    force: bool,
    /// Replay even jobs that may have taken effect
    #[arg(long)]
    accept_doubt: bool,
    /// Change the jobs: a JSON Pointer and JSON or text. Other users of this machine can see it: for real customers --edit
    #[arg(long, value_name = "POINTER=VALUE")]
    set: Vec<Assignment>,
    /// Take a member out of the jobs
    #[arg(long, value_name = "POINTER", value_parser = parse_pointer)]
    unset: Vec<String>,
    /// Change the job of a single letter in $VISUAL or $EDITOR
    #[arg(long, conflicts_with_all = ["set", "unset"])]
    edit: bool,
}

/// What a run does, and with which letters.
pub(super) struct Task {
    pub(super) filter: Filter,
    pub(super) places: Places,
    pub(super) changes: Changes,
    pub(super) allowed: Allowed,
    pub(super) rate: Rate,
    /// No more letters than the plan counted.
    pub(super) most: u64,
}

/// Plans, asks, replays, reports.
pub(super) async fn run(args: ReplayArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    if filter.is_empty() && !args.all {
        return Err(UsageError("say which letters (`--error upstream`, …), or --all".to_owned()).into());
    }
    let json = context.json;
    let allowed = Allowed {
        codes: args.force,
        doubt: args.accept_doubt,
        missing_caller: context.config.limits.allow_missing_caller_id,
    };
    let mut letters = Letters::open(context).await?;
    let places = letters.places(&filter).await?;
    let mut changes = Changes { set: args.set, unset: args.unset, whole: None };
    if args.edit {
        let letter = the_only(&letters, &places, &filter).await?;
        let before = letter.job.clone();
        changes.whole = tokio::task::spawn_blocking(move || in_editor(&before)).await??;
        if changes.whole.is_none() {
            say("nothing was changed in the job");
        }
    }
    let most = args.limit.unwrap_or(u64::MAX);
    let mut task = Task { filter, places, changes, allowed, rate: args.rate, most };

    let (plan, spending) = planned(&letters, &task).await?;
    let (time, limited_by) = estimate(&mut letters, &task, &plan, &spending).await?;
    if json {
        print_json(&json!({"plan": plan.json(time, limited_by)}))?;
    } else {
        print_line(&plan.text(time, limited_by))?;
    }
    if plan.ready == 0 {
        say("nothing can be replayed");
        return Ok(Exit::Failed);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !confirm(args.yes, &format!("replay {}?", so_many(plan.ready)))? {
        return Ok(Exit::Failed);
    }
    task.most = plan.ready;
    execute(letters, &task, args.wait).await
}

/// The only letter that fits.
async fn the_only(letters: &Letters, places: &Places, filter: &Filter) -> anyhow::Result<Letter> {
    let mut found = Vec::new();
    let mut scan = letters.scan(places, Order::OldestFirst);
    scan.for_each(letters, filter, |facts| {
        found.push(facts.letter.clone());
        Ok(if found.len() > 1 { Enough::Yes } else { Enough::No })
    })
    .await?;
    match (found.pop(), found.pop()) {
        (Some(letter), None) => Ok(letter),
        (None, _) => anyhow::bail!("no dead letter fits"),
        (Some(_), Some(_)) => {
            Err(UsageError("--edit is for a single letter, and more than one fits: add --id".to_owned()).into())
        }
    }
}

async fn planned(letters: &Letters, task: &Task) -> anyhow::Result<(Plan, Spending)> {
    let mut plan = Plan::default();
    let mut spending = Spending::new(&letters.context.config);
    let mut scan = letters.scan(&task.places, Order::OldestFirst);
    scan.for_each(letters, &task.filter, |facts| {
        let judged = judge(facts, &task.changes, task.allowed);
        plan.count(facts, &judged);
        if let Ok(ready) = &judged {
            spending.book(facts.letter.partition, ready);
        }
        Ok(if plan.ready == task.most { Enough::Yes } else { Enough::No })
    })
    .await?;
    Ok((plan, spending))
}

/// At least how long it will take, as the buckets stand now, and because of what.
async fn estimate(
    letters: &mut Letters,
    task: &Task,
    plan: &Plan,
    spending: &Spending,
) -> anyhow::Result<(Duration, &'static str)> {
    let mut times = Vec::new();
    for (partition, class, bucket, calls) in spending.busiest() {
        let Some(keys) = letters.keys.get(usize::from(partition)).cloned() else { continue };
        let state = dead::peek(&mut letters.link, &keys, bucket).await.map_err(|error| letters.error(&error))?;
        times.push((class, plan::in_bucket(calls, bucket.tolerance_us, state)));
    }
    Ok(plan::longest(plan.ready, task.rate, times.into_iter()))
}

async fn execute(mut letters: Letters, task: &Task, wait: Option<Duration>) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let what = recorded(task, letters.now_ms);
    letters.record("dead replay", &what, task.most).await?;
    let redis = &letters.context.config.redis;
    let outcomes = match wait {
        Some(_) => Some(Outcomes::follow(redis).await.map_err(|error| queue_error(redis, error))?),
        None => None,
    };
    let begun = Instant::now();
    let mut mover = Mover::new(&letters, task, stop.clone(), outcomes);
    let result = replay(&letters, task, &mut mover).await;
    let took = begun.elapsed();
    let interrupted = stop.is_cancelled();
    let (tally, mut outcomes) = mover.finish();
    // What was done is told whether or not it came to the end; without Redis it cannot be recorded as well.
    let ended = letters.record("dead replay ended", &what, tally.replayed).await;
    if let (Some(outcomes), Some(longest), Ok(())) = (&mut outcomes, wait, &result) {
        if !letters.context.json {
            say(&format!("{} replayed; waiting for them to end …", so_many(tally.replayed)));
        }
        tokio::select! {
            () = outcomes.wait(longest) => {}
            () = stop.cancelled(), if !interrupted => {}
        }
    }
    report(letters.context.json, tally, interrupted, took, outcomes.as_ref())?;
    if let Err(error) = result {
        return Err(
            error.context(format!("after {}; the same command goes on with what is left", so_many(tally.replayed)))
        );
    }
    ended?;
    let unfinished = outcomes.is_some_and(|outcomes| outcomes.outstanding() > 0);
    Ok(if interrupted || unfinished || tally.replayed == 0 { Exit::Failed } else { Exit::Done })
}

async fn replay(letters: &Letters, task: &Task, mover: &mut Mover) -> anyhow::Result<()> {
    let mut scan = letters.scan(&task.places, Order::OldestFirst);
    let mut chosen = 0;
    while let Some(page) = scan.next(letters).await? {
        for letter in &page {
            let judged = {
                let facts = Facts::new(letter);
                task.filter.wants(&facts).then(|| judge(&facts, &task.changes, task.allowed))
            };
            let Some(Ok(ready)) = judged else { continue };
            chosen += 1;
            mover.push(letter.partition, ready.replay).await.map_err(|error| letters.error(&error))?;
            if mover.stopped() {
                return Ok(());
            }
            if chosen == task.most {
                return mover.flush().await.map_err(|error| letters.error(&error));
            }
        }
    }
    mover.flush().await.map_err(|error| letters.error(&error))
}

/// For the audit stream: without the values of an edit.
fn recorded(task: &Task, now_ms: u64) -> Value {
    let mut what = json!({"filter": task.filter.recorded(now_ms)});
    if !task.changes.is_empty() {
        what["changed"] = json!(task.changes.pointers());
        what["edited"] = task.changes.whole.is_some().into();
    }
    for (flag, given) in [("force", task.allowed.codes), ("accept_doubt", task.allowed.doubt)] {
        if given {
            what[flag] = true.into();
        }
    }
    what
}

fn report(
    json: bool,
    tally: Tally,
    interrupted: bool,
    took: Duration,
    outcomes: Option<&Outcomes>,
) -> anyhow::Result<()> {
    let Tally { replayed, gone, superseded } = tally;
    if json {
        let mut result = json!({
            "replayed": replayed, "gone": gone, "superseded": superseded, "interrupted": interrupted,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(outcomes) = outcomes {
            result["outcomes"] = json!(outcomes.counts());
            result["outstanding"] = outcomes.outstanding().into();
        }
        return print_json(&json!({"result": result}));
    }
    let cut = if interrupted { ", interrupted: the same command goes on with what is left" } else { "" };
    print_line(&format!("{} replayed in {}{cut}", so_many(replayed), plan::spoken(took)))?;
    if gone > 0 {
        print_line(&format!("{gone} were there no more"))?;
    }
    if superseded > 0 {
        print_line(&format!("{superseded} left where they are: another job has their id by now"))?;
    }
    if let Some(outcomes) = outcomes {
        for (outcome, count) in outcomes.counts() {
            print_line(&format!("{count:>9}  {outcome}"))?;
        }
        if outcomes.outstanding() > 0 {
            print_line(&format!("{:>9}  still under way", outcomes.outstanding()))?;
        }
    }
    Ok(())
}
