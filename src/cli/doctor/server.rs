//! What Redis says of itself.

use super::check::Check;
use crate::queue::preflight::ServerInfo as Info;
use std::{cmp::Ordering, time::Duration};

/// The checks that need nothing but `INFO`. In a cluster every node is asked, replicas too, so that a role is no fault.
pub(super) fn checks(info: &Info, in_cluster: bool) -> Vec<Check> {
    let mut checks = vec![version(info)];
    if !in_cluster {
        checks.push(role(info));
    }
    checks.push(persistence(info));
    checks.push(eviction(info));
    checks
}

fn version(info: &Info) -> Check {
    const NAME: &str = "redis version";
    let valkey = info.get("valkey_version");
    let (name, version, least) =
        if valkey.is_empty() { ("Redis", info.get("redis_version"), "6.2") } else { ("Valkey", valkey, "7.2") };
    if version.is_empty() {
        return Check::warn(NAME, "INFO does not say", "Redis 6.2 or Valkey 7.2 is the least that is needed");
    }
    if compare(version, least) == Ordering::Less {
        return Check::fail(NAME, format!("{name} {version}"), &format!("{name} {least} is the least: upgrade it"));
    }
    Check::ok(NAME, format!("{name} {version}"))
}

/// Compares `7.0.15` with `6.2`, number by number.
fn compare(version: &str, other: &str) -> Ordering {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    numbers(version).cmp(&numbers(other))
}

fn role(info: &Info) -> Check {
    const NAME: &str = "redis role";
    match info.get("role") {
        "master" => Check::ok(NAME, format!("master, {} replicas", info.number("connected_slaves"))),
        other => Check::fail(
            NAME,
            format!("{}: it takes no writes", if other.is_empty() { "unknown" } else { "replica" }),
            "point redis.url at the master, or use redis+sentinel://",
        ),
    }
}

fn persistence(info: &Info) -> Check {
    const NAME: &str = "redis persistence";
    if info.get("loading") == "1" {
        return Check::fail(NAME, "still loading its data", "wait until it has");
    }
    if info.get("aof_enabled") != "1" {
        return Check::warn(
            NAME,
            "no append-only file: a crash of Redis loses jobs that it has acknowledged",
            "set appendonly yes (and appendfsync everysec, or always) in redis.conf",
        );
    }
    if info.get("aof_last_write_status") == "err" {
        return Check::fail(NAME, "the append-only file cannot be written", "look at its disk and at Redis's log");
    }
    Check::ok(NAME, "append-only file")
}

fn eviction(info: &Info) -> Check {
    const NAME: &str = "redis eviction";
    const REMEDY: &str = "set maxmemory-policy noeviction: anything else throws jobs away when memory is short";
    let (policy, limit) = (info.get("maxmemory_policy"), info.number("maxmemory"));
    let limited = if limit == 0 { "no maxmemory".to_owned() } else { format!("maxmemory {} MiB", limit >> 20) };
    let detail = format!("{policy}, {limited}");
    match policy {
        "noeviction" if limit > 0 && info.number("used_memory") > limit / 10 * 9 => {
            Check::warn(NAME, format!("{detail}, nine tenths of it used"), "at the limit producers get OOM: raise it")
        }
        "noeviction" => Check::ok(NAME, detail),
        "" => Check::warn(NAME, "INFO does not say", REMEDY),
        _ if limit == 0 => Check::warn(NAME, detail, REMEDY),
        _ => Check::fail(NAME, detail, REMEDY),
    }
}

/// Deadlines and ids are made with Redis's clock, producers' `run_at` with their own.
pub(super) fn clock(skew: Duration) -> Check {
    const NAME: &str = "clock";
    let shown = format!("{} ms between this machine and Redis", skew.as_millis());
    if skew < Duration::from_secs(1) {
        Check::ok(NAME, shown)
    } else {
        Check::warn(NAME, shown, "run NTP on both: `run_at` is compared with Redis's clock")
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    fn verdict(check: fn(&Info) -> Check, info: &str) -> Verdict {
        check(&Info::parse(info)).verdict
    }

    #[test]
    fn versions() {
        for (info, wanted) in [
            ("redis_version:6.2.0", Verdict::Ok),
            ("redis_version:7.0.15\r\n", Verdict::Ok),
            ("redis_version:10.0.0", Verdict::Ok),
            ("redis_version:6.0.16", Verdict::Fail),
            ("redis_version:7.2.4\nvalkey_version:7.2.5", Verdict::Ok),
            ("redis_version:7.2.4\nvalkey_version:7.1", Verdict::Fail),
            ("", Verdict::Warn),
        ] {
            assert_eq!(verdict(version, info), wanted, "{info}");
        }
    }

    #[test]
    fn roles_persistence_and_eviction() {
        assert_eq!(verdict(role, "role:master"), Verdict::Ok);
        assert_eq!(verdict(role, "role:slave"), Verdict::Fail);
        assert_eq!(verdict(persistence, "aof_enabled:1\naof_last_write_status:ok"), Verdict::Ok);
        assert_eq!(verdict(persistence, "aof_enabled:0"), Verdict::Warn);
        assert_eq!(verdict(persistence, "aof_enabled:1\naof_last_write_status:err"), Verdict::Fail);
        assert_eq!(verdict(persistence, "loading:1\naof_enabled:1"), Verdict::Fail);
        assert_eq!(verdict(eviction, "maxmemory_policy:noeviction\nmaxmemory:0"), Verdict::Ok);
        assert_eq!(verdict(eviction, "maxmemory_policy:allkeys-lru\nmaxmemory:0"), Verdict::Warn);
        assert_eq!(verdict(eviction, "maxmemory_policy:allkeys-lru\nmaxmemory:1048576"), Verdict::Fail);
        let full = "maxmemory_policy:noeviction\nmaxmemory:1000\nused_memory:950";
        assert_eq!(verdict(eviction, full), Verdict::Warn);
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_millis(3)).verdict, Verdict::Ok);
        assert_eq!(clock(Duration::from_secs(3)).verdict, Verdict::Warn);
    }
}
