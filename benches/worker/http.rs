//! Compares the worker over real HTTP with a plain loop that makes the same calls: the overhead of the queue.

use crate::{
    jobs::{self, Running},
    server::{self, Cost, Meter, median},
    table::Table,
};
use secrecy::SecretString;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use xco_worker::{
    config::Config,
    sandbox::{Latency, Sandbox, SandboxConfig},
    xco::XcoClient,
};

const CONCURRENCY: usize = 64;
const CALLS: usize = 20_000;
const SANDBOX: &str = "--be-the-sandbox";

/// The simulator in its own process, so that its CPU time is not counted as the worker's.
struct SandboxProcess {
    child: Child,
    base_url: String,
    token_url: String,
}

/// The latency in milliseconds, if this process was started as the sandbox.
pub(crate) fn sandbox_mode() -> Option<u64> {
    let mut words = std::env::args().skip(1);
    (words.next()? == SANDBOX).then(|| words.next().unwrap().parse().unwrap())
}

/// Runs the sandbox until its stdin is closed.
pub(crate) fn be_the_sandbox(latency_ms: u64) {
    let config = SandboxConfig {
        latency: Latency::fixed(Duration::from_millis(latency_ms)),
        record_calls: false,
        token_life: Duration::from_secs(3600),
        ..SandboxConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sandbox = runtime.block_on(Sandbox::start(config)).unwrap();
    println!("{} {}", sandbox.base_url(), sandbox.token_url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

impl SandboxProcess {
    fn start(latency_ms: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([SANDBOX, &latency_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (base_url, token_url) = line.trim().split_once(' ').expect("the sandbox tells its addresses");
        Self { base_url: base_url.to_owned(), token_url: token_url.to_owned(), child }
    }

    fn config(&self, redis_url: &str) -> Config {
        let credentials = SandboxConfig::default();
        let mut config = jobs::config(redis_url, CONCURRENCY);
        config.xco.base_url = Some(self.base_url.parse().unwrap());
        config.xco.token_url = Some(self.token_url.parse().unwrap());
        config.xco.client_id = Some(credentials.client_id);
        config.xco.client_secret = Some(SecretString::from(credentials.client_secret));
        config
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn measure(table: &mut Table, latency_ms: u64, rounds: usize) {
    let sandbox = SandboxProcess::start(latency_ms);
    let (redis, mut connection) = server::start();
    let config = sandbox.config(redis.url());
    // The first round warms both up and is not counted.
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let bare = bare_loop(&sandbox, &mut connection);
        let worker = worker(&config, &mut connection);
        eprintln!(
            "http, {latency_ms} ms: bare {:.0}/s, worker {:.0}/s",
            CALLS as f64 / bare.elapsed.as_secs_f64(),
            CALLS as f64 / worker.elapsed.as_secs_f64()
        );
        if round > 0 {
            pairs.push((bare, worker));
        }
    }
    let of = |figure: fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(figure).collect());
    let ratio = of(|(bare, worker)| bare.elapsed.as_secs_f64() / worker.elapsed.as_secs_f64());
    let what =
        format!("HTTP, XCO answers after {latency_ms} ms, concurrency {CONCURRENCY}: worker / bare reqwest loop");
    table.ratio_at_least(&what, ratio, 0.85);
    table.figure("  worker", of(|(_, worker)| CALLS as f64 / worker.elapsed.as_secs_f64()), "jobs/s");
    table.figure("  bare loop", of(|(bare, _)| CALLS as f64 / bare.elapsed.as_secs_f64()), "calls/s");
    table.figure("  worker CPU a job", of(|(_, worker)| worker.own_s / CALLS as f64 * 1e6), "us");
    table.figure("  bare loop CPU a call", of(|(bare, _)| bare.own_s / CALLS as f64 * 1e6), "us");
    table.figure("  Redis CPU a job", of(|(_, worker)| worker.redis_s / CALLS as f64 * 1e6), "us");
}

fn worker(config: &Config, connection: &mut redis::Connection) -> Cost {
    redis::cmd("FLUSHALL").exec(connection).unwrap();
    jobs::preload(connection, "http", CALLS);
    let meter = Meter::start(connection);
    let running = Running::start(config.clone(), |config| XcoClient::new(&config.xco).unwrap());
    jobs::wait_for(connection, CALLS);
    let cost = meter.stop(connection);
    running.stop();
    jobs::check_all_succeeded(connection, CALLS);
    cost
}

/// Makes the same calls in as many tasks, with the HTTP settings of the worker's client and nothing else.
fn bare_loop(sandbox: &SandboxProcess, connection: &mut redis::Connection) -> Cost {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    xco_worker::xco::install_tls_provider();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(256)
        .pool_idle_timeout(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(3))
        .timeout(Duration::from_secs(10))
        .gzip(true)
        .referer(false)
        .user_agent("bare-loop")
        .build()
        .unwrap();
    drop(entered);
    let base = sandbox.base_url.trim_end_matches('/').to_owned();
    let token_url = sandbox.token_url.clone();
    let meter = Meter::start(connection);
    runtime.block_on(async move {
        let credentials = SandboxConfig::default();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &credentials.client_id),
            ("client_secret", &credentials.client_secret),
            ("scope", "xco-api"),
        ];
        let token: serde_json::Value = client.post(token_url).form(&form).send().await.unwrap().json().await.unwrap();
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CONCURRENCY {
            let (client, base, bearer, next) = (client.clone(), base.clone(), bearer.clone(), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    let (email, caller) = (jobs::email(number).replace('@', "%40"), jobs::caller(number));
                    let answer = client
                        .get(format!("{base}/v1/users/exists?email={email}&caller_id={caller}"))
                        .header("authorization", &bearer)
                        .header("accept", "application/json, application/problem+json")
                        .send()
                        .await
                        .unwrap();
                    assert_eq!(answer.status(), 200);
                    let body: serde_json::Value = answer.json().await.unwrap();
                    assert!(body.is_object());
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    let cost = meter.stop(connection);
    drop(runtime);
    cost
}
