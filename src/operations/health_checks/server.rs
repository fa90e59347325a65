//! What Redis says of itself.

use super::HealthCheck;
use crate::queue::preflight::ServerInfo as Info;
use std::{cmp::Ordering, time::Duration};

/// The checks that need only `INFO`. In a cluster every node is asked, replicas too: there the role is not checked.
pub(super) fn checks(info: &Info, in_cluster: bool) -> Vec<HealthCheck> {
    let mut checks = vec![version(info)];
    if !in_cluster {
        checks.push(role(info));
    }
    checks.push(persistence(info));
    checks.push(eviction(info));
    checks
}

fn version(info: &Info) -> HealthCheck {
    const NAME: &str = "redis version";
    let valkey = info.get("valkey_version");
    let (name, version, least) =
        if valkey.is_empty() { ("Redis", info.get("redis_version"), "6.2") } else { ("Valkey", valkey, "7.2") };
    if version.is_empty() {
        return HealthCheck::warn(NAME, "INFO does not say", "Redis 6.2 or Valkey 7.2 is the least that is needed");
    }
    if compare(version, least) == Ordering::Less {
        return HealthCheck::fail(
            NAME,
            format!("{name} {version}"),
            &format!("{name} {least} is the least: upgrade it"),
        );
    }
    HealthCheck::ok(NAME, format!("{name} {version}"))
}

/// Compares `7.0.15` with `6.2`, number by number.
fn compare(version: &str, other: &str) -> Ordering {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    numbers(version).cmp(&numbers(other))
}

fn role(info: &Info) -> HealthCheck {
    const NAME: &str = "redis role";
    match info.get("role") {
        "master" => HealthCheck::ok(NAME, format!("master, {} replicas", info.number("connected_slaves"))),
        other => HealthCheck::fail(
            NAME,
            format!("{}: it takes no writes", if other.is_empty() { "unknown" } else { "replica" }),
            "point redis.url at the master, or use redis+sentinel://",
        ),
    }
}

fn persistence(info: &Info) -> HealthCheck {
    const NAME: &str = "redis persistence";
    if info.get("loading") == "1" {
        return HealthCheck::fail(NAME, "still loading its data", "wait until it has");
    }
    if info.get("aof_enabled") != "1" {
        return HealthCheck::warn(
            NAME,
            "no append-only file: a crash of Redis loses jobs that it has acknowledged",
            "set appendonly yes (and appendfsync everysec, or always) in redis.conf",
        );
    }
    if info.get("aof_last_write_status") == "err" {
        return HealthCheck::fail(
            NAME,
            "the append-only file cannot be written",
            "look at its disk and at Redis's log",
        );
    }
    HealthCheck::ok(NAME, "append-only file")
}

fn eviction(info: &Info) -> HealthCheck {
    const NAME: &str = "redis eviction";
    const REMEDY: &str = "set maxmemory-policy noeviction: anything else throws jobs away when memory is short";
    let (policy, limit) = (info.get("maxmemory_policy"), info.number("maxmemory"));
    let limited = if limit == 0 { "no maxmemory".to_owned() } else { format!("maxmemory {} MiB", limit >> 20) };
    let detail = format!("{policy}, {limited}");
    match policy {
        "noeviction" if limit > 0 && info.number("used_memory") > limit / 10 * 9 => HealthCheck::warn(
            NAME,
            format!("{detail}, nine tenths of it used"),
            "at the limit producers get OOM: raise it",
        ),
        "noeviction" => HealthCheck::ok(NAME, detail),
        "" => HealthCheck::warn(NAME, "INFO does not say", REMEDY),
        _ if limit == 0 => HealthCheck::warn(NAME, detail, REMEDY),
        _ => HealthCheck::fail(NAME, detail, REMEDY),
    }
}

/// Checks how far this machine's clock is from Redis's. Deadlines and ids are made with Redis's clock, producers' `run_at`
/// with their own.
pub(super) fn clock(skew: Duration) -> HealthCheck {
    const NAME: &str = "clock";
    let shown = format!("{} ms between this machine and Redis", skew.as_millis());
    if skew < Duration::from_secs(1) {
        HealthCheck::ok(NAME, shown)
    } else {
        HealthCheck::warn(NAME, shown, "run NTP on both: `run_at` is compared with Redis's clock")
    }
}

#[cfg(test)]
mod tests {
    use super::super::HealthStatus;
    use super::*;

    fn verdict(check: fn(&Info) -> HealthCheck, info: &str) -> HealthStatus {
        check(&Info::parse(info)).status
    }

    #[test]
    fn versions() {
        for (info, wanted) in [
            ("redis_version:6.2.0", HealthStatus::Ok),
            ("redis_version:7.0.15\r\n", HealthStatus::Ok),
            ("redis_version:10.0.0", HealthStatus::Ok),
            ("redis_version:6.0.16", HealthStatus::Fail),
            ("redis_version:7.2.4\nvalkey_version:7.2.5", HealthStatus::Ok),
            ("redis_version:7.2.4\nvalkey_version:7.1", HealthStatus::Fail),
            ("", HealthStatus::Warn),
        ] {
            assert_eq!(verdict(version, info), wanted, "{info}");
        }
    }

    #[test]
    fn roles_persistence_and_eviction() {
        assert_eq!(verdict(role, "role:master"), HealthStatus::Ok);
        assert_eq!(verdict(role, "role:slave"), HealthStatus::Fail);
        assert_eq!(verdict(persistence, "aof_enabled:1\naof_last_write_status:ok"), HealthStatus::Ok);
        assert_eq!(verdict(persistence, "aof_enabled:0"), HealthStatus::Warn);
        assert_eq!(verdict(persistence, "aof_enabled:1\naof_last_write_status:err"), HealthStatus::Fail);
        assert_eq!(verdict(persistence, "loading:1\naof_enabled:1"), HealthStatus::Fail);
        assert_eq!(verdict(eviction, "maxmemory_policy:noeviction\nmaxmemory:0"), HealthStatus::Ok);
        assert_eq!(verdict(eviction, "maxmemory_policy:allkeys-lru\nmaxmemory:0"), HealthStatus::Warn);
        assert_eq!(verdict(eviction, "maxmemory_policy:allkeys-lru\nmaxmemory:1048576"), HealthStatus::Fail);
        let full = "maxmemory_policy:noeviction\nmaxmemory:1000\nused_memory:950";
        assert_eq!(verdict(eviction, full), HealthStatus::Warn);
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_millis(3)).status, HealthStatus::Ok);
        assert_eq!(clock(Duration::from_secs(3)).status, HealthStatus::Warn);
    }
}
