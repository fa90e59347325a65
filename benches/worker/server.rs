//! Redis for a measurement, and the CPU time of it and this process.

use crate::redis_server::RedisServer;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::time::{Duration, Instant};

/// Persistence as in production: acknowledged writes are on disk within a second. Snapshots are off, because one during
/// a measurement would be measured, too. Rewrites of the append-only file stay on.
pub(crate) const PERSISTENCE: &str = "appendonly yes, appendfsync everysec, save \"\"";

pub(crate) fn start() -> (RedisServer, redis::Connection) {
    let server = RedisServer::own(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    let connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    (server, connection)
}

/// A number in the reply to `INFO`.
pub(crate) fn info(connection: &mut redis::Connection, section: &str, name: &str) -> f64 {
    let text: String = redis::cmd("INFO").arg(section).query(connection).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO {section} has no {name}")).trim().parse().unwrap()
}

pub(crate) fn info_text(connection: &mut redis::Connection, section: &str, name: &str) -> String {
    let text: String = redis::cmd("INFO").arg(section).query(connection).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("?").trim().to_owned()
}

/// CPU seconds so far, user and system: of Redis (without the children that rewrite its file), and of this process.
pub(crate) struct Meter {
    began: Instant,
    redis_s: f64,
    own_s: f64,
}

/// Cost of a measured period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) elapsed: Duration,
    pub(crate) redis_s: f64,
    pub(crate) own_s: f64,
}

impl Meter {
    pub(crate) fn start(connection: &mut redis::Connection) -> Self {
        Self { redis_s: redis_cpu(connection), own_s: own_cpu(), began: Instant::now() }
    }

    pub(crate) fn stop(&self, connection: &mut redis::Connection) -> Cost {
        let elapsed = self.began.elapsed();
        let own_s = own_cpu() - self.own_s;
        Cost { elapsed, redis_s: redis_cpu(connection) - self.redis_s, own_s }
    }
}

fn redis_cpu(connection: &mut redis::Connection) -> f64 {
    info(connection, "cpu", "used_cpu_user") + info(connection, "cpu", "used_cpu_sys")
}

fn own_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
