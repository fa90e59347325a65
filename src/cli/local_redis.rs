//! Starts a Redis server for the demo, on a free port and in a temporary folder.

use super::HintExt;
use crate::{config::RedisConfig, operations::Backend};
use anyhow::{Context as _, anyhow, bail};
use secrecy::SecretString;
use std::{io, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// The server programs to try. The first that is installed is used.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// Maximum time until a new server answers.
const STARTING: Duration = Duration::from_secs(10);
/// Number of attempts to start. Another program may take the port after it was chosen.
const TRIES: usize = 5;

/// A running server. Dropping it kills the server and removes its folder, unless it was started with `keep`.
#[derive(Debug)]
pub(super) struct LocalRedis {
    child: Child,
    folder: Folder,
    port: u16,
    program: &'static str,
}

#[derive(Debug)]
enum Folder {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl LocalRedis {
    /// Starts a server with an append-only file, and waits until it answers. With `keep` it outlives this process.
    pub(super) async fn start(keep: bool) -> anyhow::Result<Self> {
        let mut last = anyhow!("it did not start");
        for _ in 0..TRIES {
            match Self::try_start(keep).await? {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last).context("a Redis of our own cannot be started")
    }

    /// The outer error is final. After the inner error, another attempt may succeed.
    async fn try_start(keep: bool) -> anyhow::Result<anyhow::Result<Self>> {
        let folder = TempDir::with_prefix("xco-worker-redis-").context("a temporary folder cannot be made")?;
        let port = free_port().context("no free port")?;
        let (mut child, program) = spawn(&folder, port, keep)?;
        if let Err(error) = ready(&mut child, program, port, &folder).await {
            let _ = child.kill().await;
            return Ok(Err(error));
        }
        let folder = if keep { Folder::Kept(folder.keep()) } else { Folder::Temporary(folder) };
        Ok(Ok(Self { child, folder, port, program }))
    }

    /// Where it listens, on 127.0.0.1.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// `redis.url`
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `redis-server` or `valkey-server`.
    pub(super) const fn program(&self) -> &'static str {
        self.program
    }

    /// The folder of its data.
    pub(super) fn folder(&self) -> &std::path::Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }

    /// Ends the server and removes its folder, unless it was started with `keep`.
    pub(super) async fn stop(mut self) {
        if matches!(self.folder, Folder::Temporary(_)) {
            // Its data are not wanted: no need to ask it to save them.
            let _ = self.child.kill().await;
        }
    }
}

/// Waits until the server answers.
async fn ready(child: &mut Child, program: &str, port: u16, folder: &TempDir) -> anyhow::Result<()> {
    let config = RedisConfig {
        url: vec![SecretString::from(format!("redis://127.0.0.1:{port}"))],
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..RedisConfig::default()
    };
    let deadline = Instant::now() + STARTING;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("{program} ended at once ({status})");
        }
        if let Ok(mut server) = Backend::connect(&config).await
            && let Ok(theirs) = server.data_folder().await
        {
            // Another server on that port would answer too, but keep its data in another folder.
            if std::fs::canonicalize(&theirs).ok() == std::fs::canonicalize(folder.path()).ok() {
                return Ok(());
            }
            bail!("another program took port {port}");
        }
        if Instant::now() >= deadline {
            bail!("{program} does not answer on port {port}");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(folder: &TempDir, port: u16, keep: bool) -> anyhow::Result<(Child, &'static str)> {
    for program in PROGRAMS {
        let spawned = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "yes", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(!keep)
            // A Ctrl-C in the terminal is for us: Redis must outlive the worker that writes its last words there.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => return Ok((child, program)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{program} cannot be started")),
        }
    }
    Err(anyhow!("neither redis-server nor valkey-server is installed")).hint(
        "`make setup` installs it, or: apt-get install redis-server, or: brew install redis; \
         or name one that runs: --redis-url redis://127.0.0.1:6379",
    )
}
