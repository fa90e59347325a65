//! A worker as an operator runs it: a separate process, configured with environment variables.

use super::support::{MERCHANT, Rig, free_port};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use xco_worker::sandbox::SandboxConfig;

/// The environment in which a worker is started.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    env: Vec<(String, String)>,
    /// Shell command that runs before the worker.
    before: Option<String>,
    /// Where the worker writes its log lines.
    log: Log,
}

/// Where a worker writes its log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// Nowhere, unless `FAULTS_LOG` names a filter.
    Nowhere,
    /// Into a pipe that is read after the worker has ended.
    Kept,
}

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Settings {
    /// Settings for the rig's Redis and sandbox. `extra` contains keys such as `WORKER__LEASE`.
    pub(crate) fn new(rig: &Rig, extra: &[(&str, &str)]) -> Self {
        let defaults = SandboxConfig::default();
        let mut env = Vec::new();
        let mut set = |key: &str, value: &str| env.push((format!("XCO_WORKER__{key}"), value.to_owned()));
        set("REDIS__URL", &rig.redis.url_as("worker"));
        set("REDIS__NAMESPACE", &rig.config.redis.namespace);
        set("XCO__BASE_URL", rig.sandbox.base_url().as_str());
        set("XCO__TOKEN_URL", rig.sandbox.token_url().as_str());
        set("XCO__CLIENT_ID", &defaults.client_id);
        set("XCO__CLIENT_SECRET", &defaults.client_secret);
        set("XCO__MERCHANT_ID", MERCHANT);
        set("XCO__TIMEOUT", "30s");
        set("WORKER__LEASE", "1s");
        set("RETRY__BASE", "20ms");
        set("RETRY__CAP", "200ms");
        // The 429s here are random and do not follow from a limit, so there is nothing to learn from them.
        set("LIMITS__LEARN", "false");
        for (key, value) in extra {
            set(key, value);
        }
        Self { env, before: None, log: Log::Nowhere }
    }

    /// Sets another value of a key, for workers spawned from now on.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        // The last value counts.
        self.env.push((format!("XCO_WORKER__{key}"), value.to_owned()));
    }

    /// Starts the worker in a shell that first runs `command`, such as `ulimit -n 64`.
    pub(crate) fn after(self, command: &str) -> Self {
        Self { before: Some(command.to_owned()), ..self }
    }

    /// Adds an environment variable that is not a configuration key.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the log lines into a pipe that is not read while the worker runs.
    pub(crate) fn into_a_pipe(self) -> Self {
        Self { log: Log::Kept, ..self }
    }

    pub(crate) fn spawn(&self) -> Process {
        let port = free_port();
        let worker = env!("CARGO_BIN_EXE_xco-worker");
        let mut command = match &self.before {
            None => Command::new(worker),
            Some(before) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{before} && exec \"$0\" \"$@\"")).arg(worker);
                shell
            }
        };
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.env("XCO_WORKER__HTTP__LISTEN", format!("127.0.0.1:{port}"));
        // FAULTS_LOG=info shows the workers' log lines.
        let log = std::env::var("FAULTS_LOG").ok();
        if let Some(filter) = &log {
            command.env("XCO_WORKER__TELEMETRY__LOG", filter);
        }
        let stderr = match self.log {
            Log::Kept => Stdio::piped(),
            Log::Nowhere if log.is_some() => Stdio::inherit(),
            Log::Nowhere => Stdio::null(),
        };
        let child = command.arg("run").stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Process { child, port }
    }
}

impl Process {
    pub(crate) fn spawn(rig: &Rig, extra: &[(&str, &str)]) -> Self {
        Settings::new(rig, extra).spawn()
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn ready(rig: &Rig, extra: &[(&str, &str)]) -> Self {
        Self::spawn(rig, extra).once_ready().await
    }

    /// Waits until the worker is ready.
    pub(crate) async fn once_ready(mut self) -> Self {
        self.until_status("/readyz", 200, Duration::from_secs(20)).await;
        self
    }

    /// The unread content of the log pipe, after the worker has ended.
    pub(crate) fn log(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Kills the worker, like a crash.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Whether the worker is running.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The exit status, if the worker has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Processor time used so far, if the system reports it.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // After the name, which may contain spaces, state is the first field, and user and system time are the 12th and
        // 13th.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // Linux counts in hundredths of a second on every machine.
        Some(Duration::from_millis(ticks * 10))
    }

    /// Memory in KiB, if the system reports it: resident now, and the maximum so far.
    pub(crate) fn memory_kib(&self) -> Option<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()
        };
        Some((figure("VmRSS")?, figure("VmHWM")?))
    }

    /// Waits for the end of the process.
    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the worker in order.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.exit(Duration::from_secs(20)).await;
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// `GET` of the worker's endpoint: status and body, or `None` without an answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            let status = text.split(' ').nth(1)?.parse().ok()?;
            Some((status, text))
        };
        timeout(Duration::from_secs(2), answer).await.ok().flatten()
    }

    /// Waits until `path` answers `status`, and returns the time that took.
    pub(crate) async fn until_status(&mut self, path: &str, status: u16, within: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let answer = self.get(path).await;
            if answer.as_ref().is_some_and(|(got, _)| *got == status) {
                return begun.elapsed();
            }
            assert!(self.lives(), "the worker ended");
            assert!(begun.elapsed() < within, "{path} is not {status} within {within:?}, but {answer:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// A counter of `/metrics`, summed over all labels.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .map(|value| format!("{value:.0}").parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
