//! `xco-worker run`

use super::{
    Context, Exit, HintExt, UsageError,
    open_files::{OpenFiles, REMEDY, Share},
};
use crate::{
    config::{Config, HttpConfig},
    operations::health_checks::configuration_warnings,
    telemetry::{HttpEndpoint, Readiness, flush_logs},
    worker::{Health, Worker, XcoClient},
};
use anyhow::Context as _;
use clap::Args;
use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Maximum time to write the last log lines after a second signal.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Flags of `run`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker run\n  \
    xco-worker --config config/purse-sandbox.toml run --concurrency 128\n  \
    XCO_WORKER__REDIS__URL=redis://redis:6379 xco-worker run --listen 0.0.0.0:9464")]
pub struct RunArgs {
    /// Maximum number of calls to XCO at once, 1 to 4096, instead of `worker.concurrency`
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,
    /// Address of /healthz, /readyz and /metrics, or `off`, instead of `http.listen`
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// Runs a worker, and its HTTP endpoint, until a signal.
pub(super) async fn run(_args: RunArgs, context: Context) -> anyhow::Result<Exit> {
    let Context { mut config, metrics, .. } = context;
    // First of all: a signal that comes before this ends the process at once.
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let endpoint_places = share_open_files(&mut config);
    for warning in configuration_warnings(&config) {
        tracing::warn!("{}; {}", warning.detail, warning.remedy.unwrap_or_default());
    }
    let api = XcoClient::new(&config.xco).map_err(|error| UsageError(error.to_string()))?;
    let listen = config.http.listen;
    let worker = Worker::new(config, Arc::new(api), metrics.clone())?;
    let readiness = readiness_of(&worker.health(), stop.clone());
    // The endpoint answers until the last job has ended, so that a probe sees a worker that is stopping.
    let endpoint_stop = CancellationToken::new();
    let endpoint = match listen {
        Some(listen) => bind(listen).await?.map(|bound| {
            tracing::info!(address = %bound.address(), "serving /healthz, /readyz and /metrics");
            tokio::spawn(bound.at_most(endpoint_places).serve(readiness, metrics, endpoint_stop.clone()))
        }),
        None => None,
    };
    let stopped = worker.run(stop).await;
    endpoint_stop.cancel();
    if let Some(endpoint) = endpoint {
        let _ = endpoint.await;
    }
    if stopped.unwritten > 0 {
        tracing::warn!(jobs = stopped.unwritten, "Redis was away: the lease brings these jobs back");
    }
    Ok(if stopped.broken { Exit::Failed } else { Exit::Done })
}

/// Raises the limit of open files. If it is still too low, fewer calls are made at once, so that Redis can always be reached.
/// Returns the maximum number of connections to the endpoint.
fn share_open_files(config: &mut Config) -> usize {
    let Some(files) = OpenFiles::read() else { return usize::MAX };
    let files = files.raise();
    let share = Share::of(config, files);
    config.worker.open_files_allow = Some(share.most_concurrency);
    if let Some(said) = share.complaint(config, files) {
        tracing::warn!(needed = share.needed, "{said}; {REMEDY}");
        config.worker.concurrency = share.concurrency;
        config.xco.pool_idle = config.xco.pool_idle.min(share.concurrency);
    }
    share.endpoint
}

/// The first SIGTERM, SIGINT or SIGHUP cancels `stop`. A second SIGTERM or SIGINT ends the process at once with exit code 1; other
/// workers take over its jobs after the lease.
pub(super) fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => count += 1,
                _ = interrupt.recv() => count += 1,
                // Never a reason to leave at once: a terminal that closes sends several, and some supervisors one after SIGTERM.
                () = next(&mut hangup) => {}
            }
            if count > 1 {
                tracing::warn!("a second signal: leaving at once");
                flush_logs(LAST_LINES);
                std::process::exit(Exit::CODE_FAILED);
            }
            stop.cancel();
        }
    });
    Ok(())
}

async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored, as by `nohup`. It then continues when the terminal is closed.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Opens the endpoint. If the default address is in use, by a second worker on this machine for example, the worker runs without
/// an endpoint and logs a warning. If a configured address is in use, the command fails.
async fn bind(listen: SocketAddr) -> anyhow::Result<Option<HttpEndpoint>> {
    match HttpEndpoint::bind(listen).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse && HttpConfig::default().listen == Some(listen) => {
            tracing::warn!(%listen, "taken, by another worker perhaps: no /metrics here; `--listen` gives another address");
            Ok(None)
        }
        bound => Ok(Some(
            bound
                .with_context(|| format!("http.listen {listen}"))
                .hint("another worker may have it: give this one `--listen`, or `--listen off`")?,
        )),
    }
}

/// Returns a readiness that is updated from the worker's health until `stop`.
pub(super) fn readiness_of(health: &Health, stop: CancellationToken) -> Readiness {
    let readiness = Readiness::default();
    let (mut changes, mut breakers) = (health.watch(), health.breakers());
    let follower = readiness.clone();
    tokio::spawn(async move {
        loop {
            match changes.borrow_and_update().clone() {
                Ok(()) => follower.set_ready(),
                Err(reason) => follower.set_not_ready(reason),
            }
            follower.set_breakers(breakers.borrow_and_update().clone());
            tokio::select! {
                told = changes.changed() => if told.is_err() { return },
                told = breakers.changed() => if told.is_err() { return },
                () = stop.cancelled() => return follower.set_not_ready("stopping"),
            }
        }
    });
    readiness
}
