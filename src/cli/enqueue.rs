//! `xco-worker enqueue`

mod args;
mod file;
mod flags;
mod render;

pub use args::EnqueueArgs;

use super::{
    Context, Exit, HintExt,
    output::print_pretty_json,
    print_json, print_line,
    rows::{Rows, printable},
    say,
};
use crate::{
    config::format_duration,
    contract::{Status, format_ms},
    operations::{
        Backend,
        enqueue::{self, EnqueueRequest, JobChecker, Waited},
    },
};
use render::{announce, report, report_flags};
use serde_json::Value;

pub(super) async fn run(args: EnqueueArgs, context: Context) -> anyhow::Result<Exit> {
    if let Some(path) = &args.file {
        return file::run(path, args.lane, &context).await;
    }
    let id = args.id.clone().or_else(|| args.wait.map(|_| format!("cli-{}", uuid::Uuid::new_v4())));
    let json = flags::job(&args, id).to_string();
    let request = EnqueueRequest { json: &json, lane: args.lane, id: None };
    let job = match JobChecker::new(&context.config).check(request) {
        Ok(job) => job,
        Err(invalid) => {
            if context.json {
                report(&invalid, "");
            } else {
                report_flags(&invalid);
            }
            anyhow::bail!("not enqueued: no valid job");
        }
    };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let Some(longest) = args.wait else {
        announce(&enqueue::add(&mut backend, &job).await?, context.json)?;
        return Ok(Exit::Done);
    };
    let Waited { enqueued, completion, first_ms, after } = enqueue::add_and_wait(&mut backend, &job, longest).await?;
    let id = enqueued.id;
    let Some(event) = completion else {
        if let Some(first_ms) = first_ms {
            let none: Result<Exit, _> = Err(anyhow::anyhow!(
                "not enqueued again: {id} was enqueued at {}, and its completion did not come within {}",
                format_ms(first_ms),
                format_duration(longest)
            ));
            return none.hint(format!(
                "a job that has not ended, or whose completion is no longer kept, does not answer its duplicates: \
                 xco-worker why {id}"
            ));
        }
        let none: Result<Exit, _> =
            Err(anyhow::anyhow!("{id} is enqueued, but has no completion after {}", format_duration(longest)));
        return none.hint(format!(
            "is a worker running? look for it later: \
             xco-worker completions --id {id} --from {after} --count 1"
        ));
    };
    if let Some(first_ms) = first_ms {
        let ended =
            event["completed_at"].as_str().map_or_else(String::new, |at| format!(", and ended at {}", printable(at)));
        say(&format!("not enqueued again: {id} was enqueued at {}{ended}", format_ms(first_ms)));
    }
    print_completion(&event, context.json)?;
    Ok(if event["status"] == Status::Succeeded.as_str() { Exit::Done } else { Exit::Failed })
}

fn print_completion(event: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(event);
    }
    print_line(&Rows::dated().row(event))?;
    for part in ["result", "error"] {
        if event[part].is_object() {
            print_pretty_json(&format!("{part}: "), &event[part])?;
        }
    }
    Ok(())
}
