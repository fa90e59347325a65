//! `xco-worker erase`: erases what Redis holds about one customer.

use super::{
    Context, Exit, confirm::confirm, operator::this_operator, output::say, print_json, print_line,
    search_progress::SearchProgress,
};
use crate::{
    config::parse_duration,
    operations::{
        Backend,
        erase::{self, CustomerToErase, EraseCounts, EraseReport},
        printable,
    },
};
use clap::{Args, builder::NonEmptyStringValueParser};
use std::time::Duration;

/// Flags of `erase`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker erase --customer-reference c-1042 --email ada@example.com --dry-run\n  \
    xco-worker erase --customer-reference c-1042 --email ada@example.com --yes")]
pub struct EraseArgs {
    #[command(flatten)]
    customer: CustomerArgs,
    /// Only report what would be erased
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Maximum time to wait for the end of the cancelled jobs
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    wait: Duration,
}

/// Flags that name a customer.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct CustomerArgs {
    /// The customer with that reference
    #[arg(long, value_name = "REFERENCE", value_parser = NonEmptyStringValueParser::new())]
    customer_reference: Option<String>,
    /// The customer with that email address
    #[arg(long, value_name = "EMAIL", value_parser = NonEmptyStringValueParser::new())]
    email: Option<String>,
    /// The customer with that phone number, such as +33612345678
    #[arg(long, value_name = "NUMBER", value_parser = NonEmptyStringValueParser::new())]
    phone_number: Option<String>,
    /// The job with that id, which an earlier run had to leave; may be repeated
    #[arg(long = "job", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    jobs: Vec<String>,
}

/// Counts, asks, and erases. Exit 1 if nothing fits, or if something is left.
pub(super) async fn run(args: EraseArgs, context: Context) -> anyhow::Result<Exit> {
    let EraseArgs { customer, dry_run, yes, wait } = args;
    let CustomerArgs { customer_reference: reference, email, phone_number, jobs } = customer;
    let customer = CustomerToErase { reference, email, phone_number, jobs: jobs.into_iter().collect() };
    let (mut backend, config) = (Backend::connect(&context.config.redis).await?, &context.config);
    let progress = SearchProgress::on_stderr();
    if dry_run || !yes {
        let found = erase::find(&mut backend, config, &customer, &progress).await?;
        if dry_run || found.found.total() == 0 {
            return shown(&found, &context);
        }
        say(&counted(&found.found));
        if !confirm(false, "erase all of it?")? {
            return Ok(Exit::Failed);
        }
    }
    let done = erase::run(&mut backend, &this_operator(), config, &customer, wait, &progress).await?;
    shown(&done, &context)
}

fn shown(report: &EraseReport, context: &Context) -> anyhow::Result<Exit> {
    let is_nothing = report.found.total() == 0;
    if context.json {
        print_json(report)?;
    } else if is_nothing {
        say("nothing fits: Redis holds nothing of this customer under these names");
    } else {
        print_line(&format!("found:  {}", counted(&report.found)))?;
        if !report.dry_run {
            print_line(&format!("erased: {}", counted(&report.erased)))?;
        }
        for id in report.left.iter().filter(|_| !report.dry_run) {
            print_line(&format!("not ended: --job {}", printable(id)))?;
        }
        for remark in &report.remains {
            print_line(&format!("remains: {remark}"))?;
        }
    }
    Ok(if is_nothing || (!report.dry_run && !report.complete) { Exit::Failed } else { Exit::Done })
}

/// `2 waiting jobs, 1 completion`
fn counted(counts: &EraseCounts) -> String {
    let EraseCounts { waiting, delayed, in_flight, completions, replies, dead_letters, edits, .. } = *counts;
    let EraseCounts { replays, fingerprints, rules, .. } = *counts;
    let kinds = [
        (waiting, "waiting job", "waiting jobs"),
        (delayed, "delayed job", "delayed jobs"),
        (in_flight, "job in flight", "jobs in flight"),
        (completions, "completion", "completions"),
        (replies, "unread reply", "unread replies"),
        (dead_letters, "dead letter", "dead letters"),
        (edits, "record of an edit", "records of edits"),
        (replays, "plan or run of a replay", "plans and runs of replays"),
        (fingerprints, "fingerprint in a backfill", "fingerprints in backfills"),
        (rules, "rule", "rules"),
    ];
    let named = kinds.into_iter().filter(|(count, ..)| *count > 0);
    let texts: Vec<_> =
        named.map(|(count, one, more)| format!("{count} {}", if count == 1 { one } else { more })).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}
