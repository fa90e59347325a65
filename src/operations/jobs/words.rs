//! An explanation of a job in words.

use super::{
    hold::Hold,
    place::{DeadLetterSummary, EndedJob, JobPlace, LiveJob, Searched},
};
use crate::{
    contract::{DelayReason, printable},
    operations::{age, attempts::attempt_lines},
};

/// What is known of the job `id`, one sentence a line. The lines hold no control characters and no customer's data.
pub(super) fn words(id: &str, place: &JobPlace) -> Vec<String> {
    lines(id, place).iter().map(|line| printable(line)).collect()
}

fn lines(id: &str, place: &JobPlace) -> Vec<String> {
    match place {
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
        JobPlace::Dead(DeadLetterSummary { at, error, past_attempts, .. }) => {
            let kind = error["kind"].as_str().unwrap_or("unknown");
            let mut lines = vec![format!("{id}: failed at {at} ({kind}); its dead letter is kept")];
            lines.extend(attempt_lines(past_attempts));
            lines
        }
        JobPlace::Unknown { searched: Searched { live, ended, everything } } => {
            let scope = if *everything { "that is all there is" } else { "there is more, which was not looked at" };
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
            let calls = if history.attempts == 1 { "call" } else { "calls" };
            // Calls that meet an outage or a limit fail and do not count.
            lines.push(format!(
                "{} {calls} so far, of which {} count as failed attempts",
                history.attempts, history.failures
            ));
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
    lines.extend(attempt_lines(&ended.past_attempts));
    if ended.dead_letter {
        lines.push("its dead letter is kept".to_owned());
    }
    lines
}
