//! `xco-worker demo`

mod customers;
mod environment;
mod gateway;
mod narrator;
mod runner;
mod scenarios;
mod summary;

use super::{Context, Exit, print_line, run::readiness_of, sandbox::SAMPLE_MERCHANT};
use crate::{
    completions::{Options, Start, Subscriber},
    config::{Config, Limit, Rate, RedisConfig},
    contract::MerchantId,
    operations::{Backend, Error},
    sandbox::{Latency, Sandbox, SandboxConfig},
    telemetry::{HttpEndpoint, Metrics},
    worker::{Stopped, Worker, XcoClient},
};
use anyhow::Context as _;
use clap::Args;
use customers::Customers;
use environment::Environment;
use gateway::RunningGateway;
use narrator::Narrator;
use runner::Runner;
use scenarios::CALLER_RATE;
use secrecy::SecretString;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Delay between two customers, after the sample.
const TRICKLE: Duration = Duration::from_millis(1500);

/// Flags of `demo`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker demo\n  \
    xco-worker demo --once --signups 100 --seed 7\n  \
    xco-worker demo --redis-url redis://127.0.0.1:6379")]
pub struct DemoArgs {
    /// End after the sample, with a summary; exit 1 if a completion is missing or not as expected
    #[arg(long)]
    pub once: bool,
    /// Number of customers that sign up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub signups: u32,
    /// Keep the data, and the Redis that the demo started, when the demo ends
    #[arg(long)]
    pub keep: bool,
    /// Seed of customers and codes: the same seed gives the same ones
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Plays the sample, then adds a signup from time to time until a signal. With `--once`, plays only the sample.
pub(super) async fn run(args: DemoArgs, context: Context) -> anyhow::Result<Exit> {
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    listen_to_signals(stop.clone(), abort.clone())?;
    let environment = tokio::select! {
        environment = Environment::find(&context.config.redis, args.keep) => environment?,
        () = stop.cancelled() => return Ok(Exit::Failed),
    };
    let result = tokio::select! {
        result = perform(&args, &context, &environment, &stop) => result,
        () = abort.cancelled() => Ok(Exit::Failed),
    };
    let left_behind = environment.left_behind().filter(|_| !context.json);
    // Also after an error, such as a closed stdout.
    environment.leave().await;
    let exit = result?;
    if let Some(left_behind) = left_behind {
        print_line(&format!("\n{left_behind}"))?;
    }
    if !context.json {
        let me = program();
        print_line(&format!(
            "\nThe program is {me}: `{me} --help` lists its commands, `{me} COMMAND --help` explains one."
        ))?;
    }
    Ok(exit)
}

/// The first signal ends the demo in order, the second at once. A closed terminal also counts as a signal, so that the demo
/// removes its data.
fn listen_to_signals(stop: CancellationToken, abort: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        for token in [stop, abort] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(())
}

async fn perform(
    args: &DemoArgs,
    context: &Context,
    environment: &Environment,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let narrator = Narrator::new(context.json);
    let latency = Latency { min: Duration::from_millis(20), max: Duration::from_millis(80) };
    let sandbox = SandboxConfig { seed, latency, ..SandboxConfig::default() };
    let sandbox = Sandbox::start(sandbox).await.context("the simulated XCO cannot listen")?;
    let config = configuration(environment.redis.clone(), &sandbox);
    let redis = &config.redis;
    let subscriber = Subscriber::start(redis, Options { start: Start::Beginning, ..Options::default() });
    let subscriber = subscriber.await.map_err(|error| Error::queue(redis, error))?;
    let backend = Backend::connect(redis).await?;
    let running = RunningWorker::start(&config, context.metrics.clone()).await?;
    let gateway = RunningGateway::start(&config, context.metrics.clone()).await?;
    narrator.heading("xco-worker demo: everything on this machine, no credentials, no real customers")?;
    narrator.say("")?;
    narrator.say(&format!("Redis    {}", environment.describe()))?;
    narrator.say(&format!("XCO      simulated, on {}", sandbox.base_url()))?;
    let slots = config.worker.concurrency;
    narrator.say(&format!("Worker   {slots} calls at once; http://{}/metrics", running.address))?;
    narrator.say(&format!("Gateway  http://{0}; console: http://{0}/console", gateway.address))?;
    narrator.say(&format!("Sample   --seed {seed}"))?;

    let mut runner = Runner::new(sandbox, backend, subscriber, narrator);
    let played = tokio::select! {
        played = show(args, (environment, &running, &gateway), &mut runner, seed) => played.map(Some),
        () = stop.cancelled() => Ok(None),
    };
    if matches!(played, Ok(None)) {
        runner.narrator.say("")?;
        runner.narrator.say("Ending; again Ctrl-C ends it at once.")?;
    }
    gateway.stop();
    let stopped = running.stop().await;
    runner.sandbox.shutdown().await;
    let exit = match played? {
        Some(exit) => exit,
        // Stopped by a signal: with --once, the sample is not complete, and that is a failure.
        None if args.once => Exit::Failed,
        None => Exit::Done,
    };
    Ok(if stopped == (Stopped { cut_off: 0, unwritten: 0, broken: false }) { exit } else { Exit::Failed })
}

/// Plays the sample and prints the summary. Without `--once`, it then adds a customer now and then, without end.
async fn show(
    args: &DemoArgs,
    parts: (&Environment, &RunningWorker, &RunningGateway),
    runner: &mut Runner<'_>,
    seed: u64,
) -> anyhow::Result<Exit> {
    let mut customers = Customers::new(seed);
    scenarios::play(runner, &mut customers, args.signups).await?;
    let tally = runner.tally().await?;
    summary::print(runner, &tally)?;
    if args.once {
        if !args.keep {
            runner.narrator.say("")?;
            let again = format!("Without --once the demo goes on, so that you can look around: {} demo", program());
            runner.narrator.say(&again)?;
        }
        return Ok(if tally.is_good() { Exit::Done } else { Exit::Failed });
    }
    look_around(parts, runner)?;
    loop {
        tokio::time::sleep(TRICKLE).await;
        scenarios::one_more(runner, &mut customers).await?;
    }
}

/// The program as it was called, such as `./target/demo/xco-worker`.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "xco-worker".to_owned())
}

fn look_around(
    (environment, running, gateway): (&Environment, &RunningWorker, &RunningGateway),
    runner: &mut Runner<'_>,
) -> anyhow::Result<()> {
    let me = program();
    let (cli, flags) = (environment.redis_cli(), environment.flags());
    let namespace = &environment.redis.namespace;
    runner.narrator.heading("Look around, from another terminal")?;
    runner.narrator.say("")?;
    for command in [
        format!("http://{}/console    the same in a browser", gateway.address),
        format!("{me} status {flags} --watch"),
        format!("{me} why {flags} signup-0001"),
        format!("{me} dead list {flags}"),
        format!("{cli} XREVRANGE '{{{namespace}:0}}:completions' + - COUNT 1"),
        format!("{cli} XRANGE '{{{namespace}:0}}:dead' - +"),
        format!("{me} completions {flags} --from beginning --status failed --json --count 1"),
        format!("{me} enqueue {flags} --type CheckUser --email you@example.com --caller-id you --wait 5s"),
        format!(
            "curl -H 'Content-Type: application/json' -H 'Prefer: wait=5' -d \
             '{{\"type\":\"CheckUser\",\"caller_id\":\"you\",\"args\":{{\"email\":\"you@example.com\"}}}}' http://{}/v1/jobs",
            gateway.address
        ),
        format!("curl -N http://{}/v1/completions", gateway.address),
        format!("curl http://{}/metrics", running.address),
        format!("curl {}_sandbox/state", runner.sandbox.base_url()),
    ] {
        runner.narrator.say(&command)?;
    }
    runner.narrator.begin("Customers keep coming", &["Ctrl-C ends the demo and takes away what it started."])
}

/// A worker and its endpoint, in this process.
struct RunningWorker {
    address: SocketAddr,
    stop: CancellationToken,
    worker: JoinHandle<Stopped>,
    endpoint_stop: CancellationToken,
    endpoint: JoinHandle<std::io::Result<()>>,
}

impl RunningWorker {
    async fn start(config: &Config, metrics: Metrics) -> anyhow::Result<Self> {
        let api = XcoClient::new(&config.xco)?;
        let worker = Worker::new(config.clone(), Arc::new(api), metrics.clone())?;
        let endpoint = HttpEndpoint::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
        let endpoint = endpoint.context("the worker's endpoint cannot listen")?;
        let address = endpoint.address();
        let (stop, endpoint_stop) = (CancellationToken::new(), CancellationToken::new());
        let readiness = readiness_of(&worker.health(), stop.clone());
        let endpoint = tokio::spawn(endpoint.serve(readiness, metrics, endpoint_stop.clone()));
        let worker = tokio::spawn(worker.run(stop.clone()));
        Ok(Self { address, stop, worker, endpoint_stop, endpoint })
    }

    /// Stops both in order.
    async fn stop(self) -> Stopped {
        self.stop.cancel();
        let stopped = self.worker.await;
        self.endpoint_stop.cancel();
        let _ = self.endpoint.await;
        stopped.unwrap_or(Stopped { cut_off: 0, unwritten: 0, broken: true })
    }
}

/// The worker's configuration. Limits and delays are such that a person can watch them.
fn configuration(redis: RedisConfig, sandbox: &Sandbox) -> Config {
    let credentials = SandboxConfig::default();
    let mut config = Config { redis, ..Config::default() };
    config.xco.base_url = Some(sandbox.base_url());
    config.xco.token_url = Some(sandbox.token_url());
    config.xco.client_id = Some(credentials.client_id);
    config.xco.client_secret = Some(SecretString::from(credentials.client_secret));
    config.xco.merchant_id = Some(MerchantId::from_checked(SAMPLE_MERCHANT));
    config.limits.caller =
        Some(Limit { rate: Rate { interval_us: 1_000_000 / u64::from(CALLER_RATE) }, burst: CALLER_RATE });
    config.retry.base = Some(Duration::from_millis(200));
    config.retry.cap = Some(Duration::from_secs(1));
    // The delays are random and short: this many attempts outlast the outage for certain.
    config.retry.max_attempts = Some(20);
    config.worker.shutdown_grace = Duration::from_secs(5);
    // So few that a backfill of some dozen customers has to wait.
    config.worker.concurrency = 8;
    config.queue.dedupe_window = Duration::from_secs(600);
    config
}
