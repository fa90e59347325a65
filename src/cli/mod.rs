//! The command line: one file for each command. Data goes to stdout, messages go to stderr. An error has a hint if one is known.

mod audit;
mod backfill;
mod cancel;
mod completions;
mod confirm;
mod context;
mod dead;
mod demo;
mod doctor;
mod enqueue;
mod erase;
mod exit;
mod gateway;
mod hangup;
mod jobs;
mod limits;
mod local_redis;
mod open_files;
mod operator;
mod output;
mod pause;
mod rows;
mod run;
mod sandbox;
mod search_progress;
mod shell_completions;
mod status;
mod style;
mod values;
mod why;
mod width;

pub use audit::AuditArgs;
pub use backfill::BackfillArgs;
pub use cancel::CancelArgs;
pub use completions::CompletionsArgs;
pub use context::Context;
pub use dead::DeadArgs;
pub use demo::DemoArgs;
pub use doctor::DoctorArgs;
pub use enqueue::EnqueueArgs;
pub use erase::EraseArgs;
pub use exit::{Exit, Hint, HintExt, UsageError, conclude};
pub use gateway::GatewayArgs;
pub use jobs::JobsArgs;
pub use limits::LimitsArgs;
use output::say;
pub use output::{StdoutClosed, print_json, print_line};
pub use pause::{PauseArgs, PauseSelection, ResumeArgs};
pub use run::RunArgs;
pub use sandbox::SandboxArgs;
pub use shell_completions::ShellCompletionsArgs;
pub use status::StatusArgs;
pub use values::{DurationRange, JsonArgument, MetaEntry, StartFrom};
pub use why::WhyArgs;

use crate::config::Sources;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// A persistent job queue between a merchant's signup pages and Purse Express Checkout (XCO)
///
/// Your systems XADD jobs to Redis; a worker calls XCO with retry, backoff and rate limits for each caller; every job
/// ends in exactly one completion.
///
/// Start with `xco-worker demo`: everything on this machine, no credentials needed.
#[derive(Parser)]
#[command(
    name = "xco-worker",
    version,
    max_term_width = 120,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.\n\
                  Every key of the configuration can be set as XCO_WORKER__SECTION__KEY, \
                  such as XCO_WORKER__REDIS__URL."
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The configuration file [default: config/xco-worker.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print data as JSON, one object a line; `run` writes its log as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Address of Redis, instead of `redis.url`: redis://, rediss:// or redis+sentinel://
    #[arg(long, global = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// Prefix of every Redis key, instead of `redis.namespace`
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run a worker: take jobs from Redis and call XCO, until a signal stops it
    ///
    /// Takes jobs until SIGTERM, SIGINT or SIGHUP. Then it finishes the calls in flight within `worker.shutdown_grace`, hands the
    /// other jobs back to the queue, and exits 0. A second SIGTERM or SIGINT ends it at once.
    Run(RunArgs),
    /// Serve web tiers and operators over HTTP, until a signal stops it
    ///
    /// Enqueues jobs, waits for them, streams completions, and does what the other commands do. `/openapi.json` describes it.
    /// Without `gateway.tokens` it serves only this machine.
    Gateway(GatewayArgs),
    /// Run a demo on this machine: Redis, a simulated XCO, a worker and sample signups
    ///
    /// Uses the configured Redis with a separate namespace, or starts its own Redis. Starts a simulated XCO and a worker, and
    /// enqueues sample signups. Without --once, it then adds a signup from time to time until Ctrl-C, so that you can try other
    /// commands. It needs no credentials, uses no real customers, and removes its data at the end (except with --keep).
    Demo(DemoArgs),
    /// Simulate the XCO API over HTTP, with faults on request
    ///
    /// Answers like the public XCO API, including its token endpoint, and keeps customers and codes in memory. Flags choose the
    /// behaviour where XCO's public pages leave it open.
    Sandbox(SandboxArgs),
    /// Enqueue one job from flags, or many from NDJSON
    ///
    /// Checks the job, enqueues it and prints its id. Other users of this machine can see the flags of a command: for real
    /// customers, use a file or stdin.
    Enqueue(Box<EnqueueArgs>),
    /// Bring existing customers into XCO, from CSV or NDJSON
    ///
    /// Checks each row. Jobs in the bulk lane then look the customer up and, if XCO has no such customer, create it. Rows with
    /// faults are written to FILE.rejected.csv, and the run continues. The results of all other rows are written to
    /// FILE.results.csv. After an interruption, run the same command again: it continues where it stopped, checks no customer
    /// twice and misses none.
    Backfill(Box<BackfillArgs>),
    /// Print completions as jobs end
    ///
    /// Reads the completion streams of all partitions and waits for more. With --group, each completion is acknowledged after it
    /// was printed, and the next reader of the group continues from there.
    Completions(CompletionsArgs),
    /// Look at dead letters, replay them, discard them
    ///
    /// Jobs that failed for good or were rejected are kept for `queue.dead_retention`.
    Dead(DeadArgs),
    /// Show queue lengths, ages and rates, delayed jobs and reasons, errors, limits, rules in force and workers
    Status(StatusArgs),
    /// Pause a lane, a job type, a caller, or everything
    ///
    /// Waits up to 3 s until the pause is in force on every running worker. It also applies to workers that start later. It ends
    /// with `resume`, or after the time of --for. Calls in flight are not interrupted. Deadlines keep running.
    Pause(PauseArgs),
    /// End a pause: its jobs continue in their order
    Resume(ResumeArgs),
    /// Cancel jobs that are already enqueued: by id, batch, lane, type, caller or customer
    ///
    /// Counts the jobs that fit and asks for confirmation. Delayed jobs and jobs in a paused lane end at once, others when their
    /// turn comes. Their completions have the status `cancelled`. A call in flight is not interrupted. A job whose call may have
    /// taken effect ends as `in_doubt`. Exit 1 if no job fits.
    Cancel(CancelArgs),
    /// List and search jobs: by state, type, lane, batch, caller, customer or email
    Jobs(JobsArgs),
    /// Show where a job is, what it waits for, and until when
    Why(WhyArgs),
    /// Erase what Redis holds about one customer: by reference, email or phone number
    ///
    /// Counts what is found and asks for confirmation. Waiting and delayed jobs are cancelled, and each still ends in a completion. Then
    /// completions, replies, dead letters and records of edits are deleted; readers of the completions see a gap. Jobs in flight are
    /// not touched. Prints what remains, and until when. Exit 1 if nothing fits, or if something is left: then erase again.
    /// Other users of this machine can see the flags of a command.
    Erase(EraseArgs),
    /// List, set and reset limits and concurrency while workers run
    Limits(LimitsArgs),
    /// List the actions of operators
    Audit(AuditArgs),
    /// Check the configuration, Redis, the access token and XCO
    ///
    /// Also checks Redis's version, persistence, eviction policy and role. Prints a remedy for each fault. Exit 1 if a fault
    /// would stop a worker.
    Doctor(DoctorArgs),
    /// Print a completion script for your shell
    ShellCompletions(ShellCompletionsArgs),
}

impl Cli {
    /// The sources of this command's configuration. `env` are the environment variables of the process.
    pub fn sources(&self, env: impl IntoIterator<Item = (String, String)>) -> Sources {
        // The demo tells itself what happens; a log is for who asks for it, which the later variable does.
        let quiet = ("XCO_WORKER__TELEMETRY__LOG".to_owned(), "error".to_owned());
        let quiet = matches!(self.command, Command::Demo(_)).then_some(quiet);
        let mut flags = Vec::new();
        let mut flag = |key: &str, value: Option<String>, name: &str| {
            flags.extend(value.map(|value| (key.to_owned(), value, name.to_owned())));
        };
        flag("redis.url", self.global.redis_url.clone(), "--redis-url");
        flag("redis.namespace", self.global.namespace.clone(), "--namespace");
        if let Command::Run(run) = &self.command {
            flag("worker.concurrency", run.concurrency.clone(), "--concurrency");
            flag("http.listen", run.listen.clone(), "--listen");
            flag("telemetry.format", self.global.json.then(|| "json".to_owned()), "--json");
        }
        if let Command::Gateway(gateway) = &self.command {
            flag("gateway.listen", gateway.listen.clone(), "--listen");
            flag("telemetry.format", self.global.json.then(|| "json".to_owned()), "--json");
        }
        Sources { file: self.global.config.clone(), env: quiet.into_iter().chain(env).collect(), flags }
    }
}

impl Command {
    /// Whether the command does its work without any configuration.
    pub const fn needs_no_config(&self) -> bool {
        matches!(self, Self::ShellCompletions(_))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The reason why the command failed. [`conclude`] turns it into an exit code and a message.
    pub async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self {
            Self::Run(args) => run::run(args, context).await,
            Self::Gateway(args) => gateway::run(args, context).await,
            Self::Demo(args) => demo::run(args, context).await,
            Self::Sandbox(args) => sandbox::run(args, context).await,
            Self::Enqueue(args) => Box::pin(enqueue::run(*args, context)).await,
            Self::Backfill(args) => Box::pin(backfill::run(*args, context)).await,
            Self::Completions(args) => completions::run(args, context).await,
            Self::Dead(args) => Box::pin(dead::run(args, context)).await,
            Self::Status(args) => status::run(args, context).await,
            Self::Pause(args) => pause::pause(args, context).await,
            Self::Resume(args) => pause::resume(args, context).await,
            Self::Cancel(args) => cancel::run(args, context).await,
            Self::Jobs(args) => Box::pin(jobs::run(args, context)).await,
            Self::Why(args) => why::run(args, context).await,
            Self::Erase(args) => Box::pin(erase::run(args, context)).await,
            Self::Limits(args) => limits::run(args, context).await,
            Self::Audit(args) => audit::run(args, context).await,
            Self::Doctor(args) => Box::pin(doctor::run(args, context)).await,
            Self::ShellCompletions(args) => shell_completions::run(&args, Cli::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::load;
    use clap::CommandFactory;
    use secrecy::ExposeSecret;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_configuration() {
        let args = "xco-worker run --redis-url redis://h:1 --concurrency 7 --listen off --namespace n";
        let cli = Cli::try_parse_from(args.split(' ')).ok().unwrap();
        let env = [("XCO_WORKER__WORKER__CONCURRENCY".to_owned(), "9".to_owned())];
        let config = load(&cli.sources(env)).unwrap();
        assert_eq!((config.worker.concurrency, config.http.listen), (7, None));
        assert_eq!((config.redis.url[0].expose_secret(), config.redis.namespace.as_str()), ("redis://h:1", "n"));
        let cli = Cli::try_parse_from(["xco-worker", "--json", "run"]).ok().unwrap();
        assert_eq!(load(&cli.sources([])).unwrap().telemetry.format, crate::config::LogFormat::Json);
        let cli = Cli::try_parse_from(["xco-worker", "run", "--concurrency", "many"]).ok().unwrap();
        assert_eq!(load(&cli.sources([])).unwrap_err().0[0].origin, "--concurrency");
    }

    #[test]
    fn enqueue_takes_flags_or_a_file() {
        let parse = |args: &str| Cli::try_parse_from(format!("xco-worker enqueue {args}").split(' '));
        assert!(parse("--type CheckUser --email a@b.example --meta k=v --meta l=w --ttl 2m --wait 10s").is_ok());
        assert!(parse("--file -").is_ok());
        assert!(parse("--file - --lane bulk").is_ok());
        for wrong in [
            "",
            "--type Nothing",
            "--type CheckUser --file -",
            "--file - --wait 1s",
            "--type CheckUser --ttl 2",
            "--type CheckUser --meta k",
            "--type CheckUser --run-at tomorrow",
            "--type CheckUser --email a --phone-number b",
            "--type CreateUser --user {",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operators_say_which_jobs() {
        let parse = |args: &str| Cli::try_parse_from(format!("xco-worker {args}").split(' ')).is_ok();
        for good in [
            "pause --all --for 10m",
            "pause --lane bulk --type StartOtp",
            "resume --caller c",
            "cancel a b",
            "cancel --batch b --lane bulk --dry-run",
            "cancel a --yes",
            "status --watch --every 2s",
            "why a",
            "jobs list",
            "jobs list --state delayed,ended --type CreateUser --customer c --limit 7 --look-at 1000 --json",
            "jobs list --state running,in_flight --since 2h --id a",
            "erase --customer-reference c --dry-run",
            "erase --email ada@example.com --phone-number +33612345678 --job a --job b --yes --wait 1s",
            "audit --count 5",
            "limits list",
            "limits set caller.rate 20/s",
            "limits set total.rate off total.burst 5 --reason r",
            "limits reset total.rate",
            "limits reset --all",
        ] {
            assert!(parse(good), "{good}");
        }
        for wrong in [
            "pause --all --lane bulk",
            "pause --lane slow",
            "pause --for soon",
            "resume --for 1m",
            "cancel a --batch b",
            "cancel a --yes --dry-run",
            "cancel --type Nothing",
            "status --every 1",
            "why",
            "jobs",
            "jobs list --state gone",
            "jobs list --limit 0",
            "jobs list --cursor x",
            "jobs list --since soon",
            "erase",
            "erase --dry-run",
            "erase --email=",
            "erase --email a@example.com --yes --dry-run",
            "audit --count 0",
            "limits",
            "limits set caller.rate",
            "limits reset",
            "limits reset --all total.rate",
        ] {
            assert!(!parse(wrong), "{wrong}");
        }
    }

    #[test]
    fn completions_and_sandbox_read_their_values() {
        let parse = |args: &str| Cli::try_parse_from(format!("xco-worker {args}").split(' ')).map(|cli| cli.command);
        for good in
            ["completions", "completions --from 5-1", "completions --from beginning --group g --consumer c --count 1"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        for wrong in ["completions --from tomorrow", "completions --consumer c", "completions --status done"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let Ok(Command::Sandbox(args)) = parse("sandbox --latency 20ms..80ms --caller-limit 5/s") else {
            panic!("a sandbox")
        };
        assert_eq!((args.latency.min.as_millis(), args.latency.max.as_millis()), (20, 80));
        for wrong in ["--latency 80ms..20ms", "--latency x", "--caller-limit 5", "--wrong-code-status 500"] {
            assert!(parse(&format!("sandbox {wrong}")).is_err(), "{wrong}");
        }
    }
}
