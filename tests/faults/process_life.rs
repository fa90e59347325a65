//! How a process ends: by which signals, and how quickly if name servers and Redis are silent.

use super::{
    half_open_proxy::Hole,
    kills::{ids, own_redis, rig},
    ledger::{all_complete, settle},
    process::{Process, Settings},
    support::{Setup, as_user, check},
};
use nix::sys::signal::Signal;
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use xco_worker::sandbox::{Fault, FaultKind, Route};

/// Preloaded library that resolves names as if the name server never answered.
const SILENT_NAMES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  if (name && strstr(name, "silent.example")) {
    FILE *asked = fopen(getenv("ASKED"), "w");
    if (asked) fclose(asked);
    sleep(25);
    return EAI_AGAIN;
  }
  return ((lookup *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_is_never_answered_outlives_no_grace() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("names.c"), SILENT_NAMES).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", &at("names.so"), &at("names.c"), "-ldl"]).stdin(Stdio::null());
    if !compiler.status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no C compiler, so no look-up can be made silent");
        return;
    }
    let rig = rig().await;
    let settings = [("XCO__BASE_URL", "https://silent.example"), ("WORKER__SHUTDOWN_GRACE", "1s")];
    let settings = Settings::new(&rig, &settings);
    let settings = settings.with_env("LD_PRELOAD", &at("names.so")).with_env("ASKED", &at("asked"));
    let mut worker = settings.spawn().once_ready().await;
    let mut rig = rig;
    rig.enqueue(&check("c", "192.0.2.1")).await;
    let asked = at("asked");
    rig.eventually("the name is looked up", async |_| std::path::Path::new(&asked).exists()).await;
    worker.signal(Signal::SIGTERM);
    let told = Instant::now();
    let status = worker.exit(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(5), "it took {:?}", told.elapsed());
}

/// A terminal closes, or a supervisor sends SIGHUP: running jobs are finished, however often the signal comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_stops_a_worker_in_order() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[("WORKER__LEASE", "60s")]).await;
    rig.sandbox.order(Fault::new(FaultKind::Delay(1_000)).on(Route::Exists));
    rig.enqueue(&check("c", "192.0.2.1")).await;
    rig.sandbox.wait_for_calls(1).await;
    for _ in 0..3 {
        first.signal(Signal::SIGHUP);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(first.exit(Duration::from_secs(10)).await.code(), Some(0));
    let all = ids(["c"]);
    all_complete(&mut rig, &all, 5).await;
    settle(&mut rig, &mut [], &all).await;
    assert_eq!(rig.completions[0]["attempts"], 1);
}

/// `nohup` asks that a process outlive its terminal.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_that_is_ignored_from_the_start_stays_ignored() {
    let mut rig = rig().await;
    let mut worker = Settings::new(&rig, &[]).after("trap '' HUP").spawn().once_ready().await;
    worker.signal(Signal::SIGHUP);
    let done = rig.complete(check("c", "192.0.2.1")).await;
    assert_eq!(done["outcome"], "absent");
    assert!(worker.lives());
    settle(&mut rig, &mut [worker], &ids(["c"])).await;
}

/// Redis swallows everything, and the timeout of a command is longer than the grace. A worker without active jobs does
/// not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_holds_nothing_does_not_wait_for_a_silent_redis() {
    let rig = Setup { redis: own_redis(), ..Setup::default() }.without_worker().await;
    let hole = Hole::before(rig.redis.url()).await;
    let url = as_user(&hole.url(), "worker");
    let grace = Duration::from_secs(30);
    let settings =
        [("REDIS__URL", url.as_str()), ("REDIS__RESPONSE_TIMEOUT", "60s"), ("WORKER__SHUTDOWN_GRACE", "30s")];
    let mut worker = Process::ready(&rig, &settings).await;
    hole.open();
    let swallowed = hole.swallowed();
    let mut rig = rig;
    rig.eventually("a command is swallowed", async |_| hole.swallowed() > swallowed).await;
    worker.signal(Signal::SIGTERM);
    let told = Instant::now();
    assert_eq!(worker.exit(grace * 2).await.code(), Some(0));
    // About two seconds; more on a busy machine.
    assert!(told.elapsed() < grace / 2, "it took {:?}", told.elapsed());
}
