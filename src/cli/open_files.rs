//! How many files and connections this process may have open at once (`RLIMIT_NOFILE`), and what a worker needs.

use crate::{config::Config, operations::health_checks::HealthCheck, worker::connections};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write as _;

/// Maximum number of open files to ask for: enough for any worker. Some systems refuse a limit that is "infinite".
const ENOUGH: u64 = 65_536;
/// Files that are open in any case: standard streams, those of the runtime, signals and timers; and for short times
/// certificates and the resolver's files.
const OWN: u64 = 20;
/// Minimum and maximum number of connections to the HTTP endpoint.
const ENDPOINT: (u64, u64) = (4, 256);

/// The remedy for a limit that is too low.
pub(super) const REMEDY: &str = "raise the limit of open files: LimitNOFILE= in a systemd unit, --ulimit nofile= of a container, ulimit -n in a shell";

/// Limits of the number of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// The limit that the kernel enforces now.
    pub(super) now: u64,
    /// The limit that this process may raise it to.
    pub(super) most: u64,
}

/// How the open files are divided, after Redis has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Number of calls to XCO at once: `worker.concurrency`, or fewer if the limit is too low.
    pub(super) concurrency: usize,
    /// Maximum number of calls to XCO at once that the limit allows, whatever `worker.concurrency` is.
    pub(super) most_concurrency: usize,
    /// Maximum number of connections to the HTTP endpoint.
    pub(super) endpoint: usize,
    /// Number of open files that `worker.concurrency` needs.
    pub(super) needed: u64,
}

impl OpenFiles {
    /// Reads the limits of this process. `None` if the system does not report them.
    pub(super) fn read() -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(Self { now: soft, most: hard.min(ENOUGH).max(soft) })
    }

    /// Raises the limit as far as allowed. Returns the limit that is then in force.
    pub(super) fn raise(self) -> u64 {
        if self.now >= self.most {
            return self.now;
        }
        let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return self.now };
        if setrlimit(Resource::RLIMIT_NOFILE, self.most, hard).is_ok() { self.most } else { self.now }
    }
}

impl Share {
    /// Divides `files`: Redis and the endpoint come first, and XCO gets the rest.
    pub(super) fn of(config: &Config, files: u64) -> Self {
        let endpoint = if config.http.listen.is_some() { (files / 16).clamp(ENDPOINT.0, ENDPOINT.1) } else { 0 };
        let nodes = u64::try_from(config.redis.url.len()).unwrap_or(u64::MAX).max(1);
        let others = OWN.saturating_add(connections(config).saturating_mul(nodes));
        let wanted = u64::try_from(config.worker.concurrency).unwrap_or(u64::MAX);
        // A ninth of those for XCO is for connections that are being replaced.
        let for_calls = |calls: u64| calls.saturating_add(calls.div_ceil(8));
        let left = files.saturating_sub(others).saturating_sub(endpoint);
        let fitting = left.saturating_sub(left.div_ceil(9)).max(1);
        let most_concurrency = usize::try_from(fitting).unwrap_or(usize::MAX);
        let concurrency = config.worker.concurrency.min(most_concurrency);
        // The endpoint's share is a sixteenth of all.
        let without_endpoint = others.saturating_add(for_calls(wanted));
        let needed = if endpoint == 0 {
            without_endpoint
        } else {
            let share = (without_endpoint / 15).saturating_add(1).clamp(ENDPOINT.0, ENDPOINT.1);
            without_endpoint.saturating_add(share)
        };
        Self { concurrency, most_concurrency, endpoint: usize::try_from(endpoint).unwrap_or(usize::MAX), needed }
    }

    /// Describes the shortage. `None` if there are enough open files for `worker.concurrency`.
    pub(super) fn complaint(&self, config: &Config, files: u64) -> Option<String> {
        let wanted = config.worker.concurrency;
        if self.concurrency >= wanted {
            return None;
        }
        let mut said = format!("{files} open files are too few for worker.concurrency {wanted}");
        let _ = write!(said, ": it takes {}; with these there are {} calls at once", self.needed, self.concurrency);
        Some(said)
    }
}

/// The check of `doctor`. `None` where the system does not report its limits.
pub(super) fn check(config: &Config) -> Option<HealthCheck> {
    // A worker asks for the maximum: that counts, and not what this shell has now.
    OpenFiles::read().map(|files| check_of(config, files.most))
}

fn check_of(config: &Config, most: u64) -> HealthCheck {
    const NAME: &str = "open files";
    let share = Share::of(config, most);
    match share.complaint(config, most) {
        None => HealthCheck::ok(NAME, format!("{most} at once, {} are needed", share.needed)),
        Some(said) => HealthCheck::warn(NAME, said, REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::health_checks::HealthStatus;

    fn config(concurrency: usize) -> Config {
        let mut config = Config::default();
        config.worker.concurrency = concurrency;
        config
    }

    #[test]
    fn what_is_needed_is_just_enough() {
        for concurrency in [1, 2, 7, 64, 300, 1000, 4096] {
            let config = config(concurrency);
            let needed = Share::of(&config, 0).needed;
            assert_eq!(Share::of(&config, needed).concurrency, concurrency, "{needed}");
            assert_eq!(Share::of(&config, needed).complaint(&config, needed), None);
        }
    }

    #[test]
    fn too_few_open_files_are_reported_with_a_remedy() {
        let config = Config::default();
        assert_eq!(check_of(&config, 1024).status, HealthStatus::Ok);
        let few = check_of(&config, 64);
        assert_eq!(few.status, HealthStatus::Warn);
        assert!(few.remedy.is_some_and(|remedy| remedy.contains("LimitNOFILE=")), "{}", few.detail);
    }

    #[test]
    fn too_few_files_leave_fewer_calls_but_one() {
        let config = config(300);
        let at = |files| Share::of(&config, files).concurrency;
        assert!((1..64).contains(&at(64)), "{}", at(64));
        assert!(at(64) < at(256) && at(256) < 300, "{} {}", at(64), at(256));
        assert_eq!((at(0), at(u64::MAX)), (1, 300));
        let said = Share::of(&config, 64).complaint(&config, 64);
        assert!(said.is_some_and(|said| said.starts_with("64 open files are too few for worker.concurrency 300")));
    }
}
