//! A Redis for one test. `REDIS_URL` if it is set; a container if `REDIS_CONTAINER=1`; otherwise the test's own
//! `redis-server` (or `valkey-server`) on a free port, with its own folder, which starts fastest.

use super::{
    container::RedisContainer,
    ports::free_port,
    users::{acl_file, as_user, create_users},
};
use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct RedisServer {
    url: String,
    /// Whether the users of `deploy/redis/users.acl` can log in.
    has_users: bool,
    own: Option<Own>,
    _container: Option<RedisContainer>,
}

#[derive(Debug)]
struct Own {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    options: Vec<String>,
    env: Vec<(String, String)>,
}

impl RedisServer {
    /// The server of `REDIS_URL`, otherwise an own one without persistence.
    pub(crate) fn start() -> Self {
        match std::env::var("REDIS_URL") {
            Ok(url) if !url.is_empty() => {
                // Credentials in the URL leave no room for others.
                let has_users = !url.contains('@') && create_users(&url);
                if !has_users {
                    eprintln!("REDIS_URL lets no users be created: everything here is done as one user");
                }
                Self { url, has_users, own: None, _container: None }
            }
            _ if std::env::var_os("REDIS_CONTAINER").is_some() => Self::contained().expect("a Redis in a container"),
            _ => Self::own(&["--save", "", "--appendonly", "no"]),
        }
    }

    /// A server in a container, if that is possible.
    pub(crate) fn contained() -> Result<Self, String> {
        let container = RedisContainer::start()?;
        let url = container.url().to_owned();
        Ok(Self { has_users: create_users(&url), url, own: None, _container: Some(container) })
    }

    /// The program that runs a server or a Sentinel.
    pub(crate) fn program() -> &'static str {
        ["redis-server", "valkey-server"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok())
            .expect("redis-server is needed: `make setup` installs it")
    }

    /// Always the test's own server, for tests that break it.
    pub(crate) fn own(options: &[&str]) -> Self {
        Self::own_with_env(options, &[])
    }

    /// As [`Self::own`], with these environment variables.
    pub(super) fn own_with_env(options: &[&str], env: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let env: Vec<(String, String)> = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let child = spawn(port, folder.path(), &options, &env);
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            has_users: true,
            own: Some(Own { child, port, folder, options, env }),
            _container: None,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it has the users of `deploy/redis/users.acl`.
    pub(crate) fn has_users(&self) -> bool {
        self.has_users
    }

    /// The URL with one of the users of `deploy/redis/users.acl`, if the server has them.
    pub(crate) fn url_as(&self, user: &str) -> String {
        if self.has_users { as_user(&self.url, user) } else { self.url.clone() }
    }

    /// Port of the test's own server.
    pub(crate) fn port(&self) -> u16 {
        self.own.as_ref().expect("a server of our own").port
    }

    /// Kills the server, like a crash.
    pub(crate) fn kill(&mut self) {
        let own = self.own.as_mut().expect("a server of our own");
        own.child.kill().unwrap();
        own.child.wait().unwrap();
    }

    /// Starts the server again on the same port and folder.
    pub(crate) fn restart(&mut self) {
        let own = self.own.as_mut().expect("a server of our own");
        own.child = spawn(own.port, own.folder.path(), &own.options, &own.env);
    }

    /// Process id of the test's own server.
    pub(crate) fn pid(&self) -> u32 {
        self.own.as_ref().expect("a server of our own").child.id()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}

fn spawn(port: u16, folder: &std::path::Path, options: &[String], env: &[(String, String)]) -> Child {
    let users = folder.join("users.acl");
    if !users.exists() {
        std::fs::write(&users, acl_file()).unwrap();
    }
    let mut child = Command::new(RedisServer::program())
        .envs(env.iter().map(|(name, value)| (name, value)))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .arg("--aclfile")
        .arg(&users)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "redis-server ended at once");
        assert!(Instant::now() < deadline, "redis-server does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}
