//! `xco-worker why`: where a job is, what it waits for, and until when.

use super::{
    Context, Exit, attempts::attempt_lines, print_json, print_line, rows::printable, search_progress::SearchProgress,
};
use crate::operations::{
    Backend, age,
    jobs::{self, DeadLetterSummary, DelayReason, EndedJob, Explanation, Hold, JobPlace, LiveJob, Searched},
};
use clap::Args;
use serde_json::json;

/// Flags of `why`.
#[derive(Args)]
#[command(
    after_long_help = "Examples:\n  xco-worker why signup-42\n  xco-worker why interactive:0:1732265000000-0 --json"
)]
pub struct WhyArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Explains the state of a job. Exit 1 if the job is unknown.
pub(super) async fn run(args: WhyArgs, context: Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let progress = SearchProgress::on_stderr();
    let explanation = jobs::explain(&mut backend, &context.config, &args.id, &progress).await?;
    if context.json {
        print_json(&json!(explanation))?;
    } else {
        for line in lines(&explanation) {
            print_line(&printable(&line))?;
        }
    }
    Ok(if explanation.is_known() { Exit::Done } else { Exit::Failed })
}

fn lines(explanation: &Explanation) -> Vec<String> {
    let id = &explanation.id;
    match &explanation.place {
        JobPlace::Waiting { ahead, ahead_is_exact, came_back, job } => {
            let at_least = if *ahead_is_exact { "" } else { "at least " };
            let of = if *came_back { " that come back" } else { "" };
            let place = format!("{id}: waits in the {} lane, behind {at_least}{ahead} jobs{of}", job.lane);
            live(vec![place], job)
        }
        JobPlace::Adrift { job } => {
            let place = format!(
                "{id}: was delivered, and no consumer holds it: something else than a worker deleted its consumer, acknowledged \
                 it or set the group ahead. A worker takes it up again within about two leases"
            );
            live(vec![place], job)
        }
        JobPlace::InFlight { worker, deliveries, idle_ms, job } => {
            let mut lines = vec![format!("{id}: worker {worker} has it, since {} ago or longer", age(*idle_ms))];
            if *deliveries > 1 {
                lines.push(format!("it was delivered {deliveries} times: workers were lost with it"));
            }
            live(lines, job)
        }
        JobPlace::Delayed { waits_for: DelayReason::Cancelled, job, .. } => {
            live(vec![format!("{id}: delayed, and cancelled: it ends now")], job)
        }
        JobPlace::Delayed { until, until_in_ms, because, job, .. } => {
            let until = match (until, until_in_ms) {
                (Some(until), Some(ms)) => format!("until {until} (in {})", age(*ms)),
                _ => "until an operator resumes it".to_owned(),
            };
            live(vec![format!("{id}: delayed {until}: waits for {because}")], job)
        }
        JobPlace::Ended(ended) => lines_of_ended(id, ended),
        JobPlace::Dead(DeadLetterSummary { at, error, .. }) => {
            let kind = error["kind"].as_str().unwrap_or("unknown");
            vec![format!("{id}: failed at {at} ({kind}); its dead letter is kept")]
        }
        JobPlace::Unknown { searched: Searched { live, ended, everything } } => {
            let scope = if *everything { "that is all there is" } else { "there is more than was looked at" };
            vec![format!(
                "{id}: not known. Looked through {live} waiting or delayed jobs and {ended} completions and dead letters: {scope}"
            )]
        }
    }
}

fn live(mut lines: Vec<String>, job: &LiveJob) -> Vec<String> {
    lines.push(format!("enqueued {} ago, at {}", age(job.waited_ms), job.enqueued_at));
    if let Some(history) = &job.history {
        if history.attempts > 0 {
            lines.push(format!("{} calls so far, {} of them failed", history.attempts, history.failures));
        }
        lines.extend(attempt_lines(&job.past_attempts));
        if history.in_doubt {
            lines.push("an earlier call may have taken effect".to_owned());
        }
        if history.cancelled {
            lines.push("an operator cancelled it: it ends as soon as a worker takes it".to_owned());
        }
    }
    lines.extend(job.holds.iter().map(sentence));
    lines
}

fn sentence(hold: &Hold) -> String {
    match hold {
        Hold::NoWorker => "no worker is running".to_owned(),
        Hold::Breaker { open_for_ms, is_refused } => {
            let why = if *is_refused {
                "XCO refuses this client (401, 403; see the worker's log)"
            } else {
                "XCO cannot be reached"
            };
            format!("{why}: no job is taken for another {}", age(*open_for_ms))
        }
        Hold::RouteBreaker(route) => format!("XCO fails {route} calls, which it would make next: such jobs wait"),
        Hold::LanePaused { lane, until, who, from } => {
            let until = until.as_deref().unwrap_or("`resume`");
            format!("the {lane} lane is paused until {until}, by {who} from {from}")
        }
        Hold::Cancelled { who, from } => {
            format!("cancelled by {who} from {from}: it ends when it comes up")
        }
    }
}

fn lines_of_ended(id: &str, ended: &EndedJob) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let how = ended.error.as_ref().map_or(&ended.outcome, |error| &error.kind);
    let mut lines = vec![format!("{id}: {} ({}) at {}", text(&ended.status), text(how), text(&ended.completed_at))];
    if let Some(error) = &ended.error {
        lines.push(text(&error.message));
    }
    let attempts = ended.attempts.unwrap_or(0);
    lines.push(format!("{attempts} {} XCO", if attempts == 1 { "call to" } else { "calls to" }));
    if ended.dead_letter {
        lines.push("its dead letter is kept".to_owned());
    }
    lines
}
