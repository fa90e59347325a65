//! A Redis in a container, if a Docker engine has an image of one or can build one.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, WaitFor},
    runners::AsyncRunner,
};

/// A running container. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct RedisContainer {
    url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    keeper: Option<thread::JoinHandle<()>>,
}

impl RedisContainer {
    /// Starts a container, or returns the reason why that is impossible.
    pub(crate) fn start() -> Result<Self, String> {
        let (name, tag) = image()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (told, ports) = std::sync::mpsc::channel();
        // In its own runtime: tests call this from within theirs, and the container must not outlive its owner.
        let keeper = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let started: Result<ContainerAsync<GenericImage>, _> = GenericImage::new(name, tag)
                    .with_exposed_port(6379.tcp())
                    .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
                    .with_cmd(["redis-server", "--save", "", "--protected-mode", "no"])
                    .start()
                    .await;
                match started {
                    Ok(container) => {
                        let port = container.get_host_port_ipv4(6379.tcp()).await.map_err(|error| error.to_string());
                        told.send(port).unwrap();
                        let _ = stopped.await;
                        let _ = container.rm().await;
                    }
                    Err(error) => told.send(Err(error.to_string())).unwrap(),
                }
            });
        });
        let port = ports.recv().map_err(|error| error.to_string())??;
        Ok(Self { url: format!("redis://127.0.0.1:{port}"), stop: Some(stop), keeper: Some(keeper) })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for RedisContainer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// `redis:7` if the engine has it, otherwise an image made from this machine's own redis-server.
fn image() -> Result<(String, String), String> {
    if !quietly(Command::new("docker").arg("version")) {
        return Err("no Docker engine answers".to_owned());
    }
    for (name, tag) in [("redis", "7"), ("xco-worker-test-redis", "local")] {
        if quietly(Command::new("docker").args(["image", "inspect", &format!("{name}:{tag}")])) {
            return Ok((name.to_owned(), tag.to_owned()));
        }
    }
    let server = which("redis-server").ok_or("neither an image of Redis nor a redis-server to make one of")?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let root = folder.path().join("root");
    for file in std::iter::once(server).chain(libraries("redis-server")) {
        let place = root.join(file.strip_prefix("/").unwrap_or(&file));
        std::fs::create_dir_all(place.parent().unwrap_or(&root)).map_err(|error| error.to_string())?;
        std::fs::copy(&file, &place).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/usr/local/bin\n")
        .map_err(|error| error.to_string())?;
    let name = "xco-worker-test-redis";
    let built =
        quietly(Command::new("docker").args(["build", "-q", "-t", &format!("{name}:local")]).arg(folder.path()));
    if built { Ok((name.to_owned(), "local".to_owned())) } else { Err("the image could not be built".to_owned()) }
}

fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The libraries that the dynamic linker would load.
fn libraries(program: &str) -> Vec<PathBuf> {
    let Some(path) = which(program) else { return Vec::new() };
    let Ok(listed) = Command::new("ldd").arg(path).output() else { return Vec::new() };
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from))
        .filter(|path: &PathBuf| Path::exists(path))
        .collect()
}
