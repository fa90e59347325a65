//! A `redis-server` whose clock a test can step, as NTP or a failover to another host does.

use super::RedisServer;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    time::Duration,
};

const SHIM: &str = include_str!("clock_shim.c");

/// A server's clock. Dropping it leaves the clock as it was set last.
#[derive(Debug)]
pub(crate) struct ServerClock {
    offset: File,
    _folder: tempfile::TempDir,
}

/// Offset of a server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// No offset.
    None,
    Back(Duration),
    Forward(Duration),
}

impl ServerClock {
    /// Sets the offset of the server's clock.
    pub(crate) fn step(&self, to: Step) {
        let us = |by: Duration| i64::try_from(by.as_micros()).unwrap();
        let offset_us = match to {
            Step::None => 0,
            Step::Back(by) => -us(by),
            Step::Forward(by) => us(by),
        };
        self.offset.write_all_at(&offset_us.to_ne_bytes(), 0).unwrap();
    }
}

impl RedisServer {
    /// A server with its own clock. Prints a note and returns `None` if the machine has no C compiler or does not
    /// support preloaded libraries.
    pub(crate) fn own_with_clock(options: &[&str]) -> Option<(Self, ServerClock)> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("clock_shim.c"), SHIM).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([at("clock_shim.so"), at("clock_shim.c")])
            .stdin(Stdio::null())
            .output();
        match compiled {
            Ok(output) if output.status.success() => {}
            Ok(output) => panic!("cc: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("SKIPPED: no C compiler, so no clock can be stepped: cc: {error}");
                return None;
            }
        }
        std::fs::write(at("offset"), 0_i64.to_ne_bytes()).unwrap();
        let offset = File::options().write(true).open(at("offset")).unwrap();
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        let env = [("LD_PRELOAD", text("clock_shim.so")), ("CLOCK_SHIM", text("offset"))];
        let server = Self::own_with_env(options, &env);
        let clock = ServerClock { offset, _folder: folder };
        if !is_stepped(&server, &clock) {
            eprintln!("SKIPPED: redis-server takes no preloaded library, so its clock cannot be stepped");
            return None;
        }
        Some((server, clock))
    }
}

/// Whether the server follows a step, and its end.
fn is_stepped(server: &RedisServer, clock: &ServerClock) -> bool {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut seconds = || redis::cmd("TIME").query::<(i64, i64)>(&mut connection).unwrap().0;
    let before = seconds();
    clock.step(Step::Forward(Duration::from_secs(3600)));
    let stepped = seconds();
    clock.step(Step::None);
    (3590..3650).contains(&(stepped - before))
}
