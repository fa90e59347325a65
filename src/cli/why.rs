//! `xco-worker why`: where a job is, what it waits for, and until when.

mod because;
mod holds;

use super::{
    Context, Exit,
    ages::age,
    cancel::progress,
    locate::{Ahead, Found, Live, Locator, Place, Searched},
    print_json, print_line,
    redis_access::{connect, unreachable},
    rows::printable,
};
use crate::{
    contract::{format_ms, look_into},
    queue::{Keys, Link, Source, control},
};
use clap::Args;
use redis::RedisResult;
use serde_json::{Map, Value, json};

/// Flags of `why`.
#[derive(Args)]
#[command(
    after_long_help = "Examples:\n  xco-worker why signup-42\n  xco-worker why interactive:0:1732265000000-0 --json"
)]
pub struct WhyArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What is known of a job: sentences for people, and the same as data.
#[derive(Debug, Default)]
struct Report {
    lines: Vec<String>,
    data: Map<String, Value>,
}

impl Report {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.data.insert(name.to_owned(), value.into());
    }
}

/// Explains a job; exit 1 where nothing is known of it.
pub(super) async fn run(args: WhyArgs, context: Context) -> anyhow::Result<Exit> {
    let redis = &context.config.redis;
    let mut link = connect(redis).await?;
    let (report, known) = explain(&mut link, &args.id, &context).await.map_err(|error| unreachable(redis, &error))?;
    if context.json {
        print_json(&report.data)?;
    } else {
        for line in &report.lines {
            print_line(&printable(line))?;
        }
    }
    Ok(if known { Exit::Done } else { Exit::Failed })
}

async fn explain(link: &mut Link, id: &str, context: &Context) -> RedisResult<(Report, bool)> {
    let mut report = Report::default();
    report.set("id", id);
    let mut progress = progress();
    let mut locator = Locator::new(link, &context.config.redis, id, &mut progress);
    let found = locator.anywhere().await?;
    let searched = std::mem::take(&mut locator.searched);
    let now_ms = control::now_ms(link).await?;
    let Some(Found { partition, place }) = found else {
        unknown(&mut report, id, &searched);
        return Ok((report, false));
    };
    report.set("partition", partition);
    let keys = Keys::new(&context.config.redis.namespace, partition);
    match place {
        Place::Waiting { live, source, ahead } => {
            let (count, about) = match ahead {
                Ahead::Exactly(count) => (count, ""),
                Ahead::AtLeast(count) => (count, "at least "),
            };
            let of = if source == Source::Due { " that come back" } else { "" };
            report.say(format!("{id}: waits in the {} lane, behind {about}{count} jobs{of}", live.lane));
            report.set("place", "waiting");
            report.set("ahead", count);
            report.set("ahead_is_exact", about.is_empty());
            live_job(&mut report, &live, now_ms);
            holds::tell(&mut report, link, context, &live, now_ms).await?;
        }
        Place::Adrift { live } => {
            report.say(format!(
                "{id}: was delivered, and nobody holds it: something else than a worker deleted its consumer, acknowledged \
                 it or set the group ahead. A worker takes it up again within about two leases"
            ));
            report.set("place", "adrift");
            live_job(&mut report, &live, now_ms);
            holds::tell(&mut report, link, context, &live, now_ms).await?;
        }
        Place::InFlight { live, pending } => {
            report.say(format!(
                "{id}: worker {} has it, since {} ago or longer",
                pending.consumer,
                age(pending.idle_ms)
            ));
            report.set("place", "in_flight");
            report.set("worker", pending.consumer.as_str());
            report.set("deliveries", pending.deliveries);
            report.set("idle_ms", pending.idle_ms);
            if pending.deliveries > 1 {
                report.say(format!("it was delivered {} times: workers were lost with it", pending.deliveries));
            }
            live_job(&mut report, &live, now_ms);
            holds::tell(&mut report, link, context, &live, now_ms).await?;
        }
        Place::Parked { live, due_ms } => {
            report.set("place", "parked");
            because::tell(&mut report, link, &keys, context, &live, (due_ms, now_ms)).await?;
            live_job(&mut report, &live, now_ms);
            holds::tell(&mut report, link, context, &live, now_ms).await?;
        }
        Place::Ended { event, letter } => ended(&mut report, id, &event, letter),
        Place::Dead { letter } => {
            let field = |name: &str| letter.get(name).map_or("", String::as_str);
            let error: Value = look_into(field("error")).unwrap_or_default();
            let kind = error["kind"].as_str().unwrap_or("unknown").to_owned();
            report.say(format!("{id}: failed at {} ({kind}); its letter is among the dead", field("at")));
            report.set("place", "dead");
            report.set("at", field("at"));
            report.set("error", error);
            report.set("replayable", field("replayable") == "true");
        }
    }
    Ok((report, true))
}

fn unknown(report: &mut Report, id: &str, searched: &Searched) {
    report.set("place", "unknown");
    report.set("searched", json!({"live": searched.live, "ended": searched.ended, "everything": !searched.partly}));
    let scope = if searched.partly { "there is more than was looked at" } else { "that is all there is" };
    report.say(format!(
        "{id}: not known. Looked through {} waiting or parked jobs and {} completions and dead letters: {scope}",
        searched.live, searched.ended
    ));
}

fn live_job(report: &mut Report, live: &Live, now_ms: u64) {
    let enqueued_at_ms = live.origin.entry.ms;
    let waited_ms = now_ms.saturating_sub(enqueued_at_ms);
    report.set("lane", live.lane.as_str());
    report.set("origin", live.origin.to_string());
    report.set("enqueued_at", format_ms(enqueued_at_ms));
    report.say(format!("enqueued {} ago, at {}", age(waited_ms), format_ms(enqueued_at_ms)));
    let Some(state) = &live.state else { return };
    report.set("attempts", state.attempts);
    report.set("in_doubt", state.doubt);
    if state.attempts > 0 {
        report.say(format!("{} calls so far, {} of them failed", state.attempts, state.failures));
    }
    if state.doubt {
        report.say("a call before may have taken effect");
    }
    if state.cancelled {
        report.say("an operator cancelled it: it ends when it comes up");
    }
    report.set("cancelled", state.cancelled);
}

fn ended(report: &mut Report, id: &str, event: &Value, letter: bool) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    report.set("place", "ended");
    report.set("dead_letter", letter);
    // The event may hold a customer's profile: what is asked for here is how the job went.
    for name in ["status", "outcome", "attempts", "enqueued_at", "started_at", "completed_at", "timings_ms", "batch"] {
        if !event[name].is_null() {
            report.set(name, event[name].clone());
        }
    }
    let error = &event["error"];
    let how = if error.is_object() { &error["kind"] } else { &event["outcome"] };
    report.say(format!("{id}: {} ({}) at {}", text(&event["status"]), text(how), text(&event["completed_at"])));
    if error.is_object() {
        report.set("error", json!({"kind": error["kind"], "message": error["message"]}));
        report.say(text(&error["message"]));
    }
    let attempts = &event["attempts"];
    report.say(format!("{attempts} {} XCO", if *attempts == 1 { "call to" } else { "calls to" }));
    if letter {
        report.say("its letter is among the dead");
    }
}
