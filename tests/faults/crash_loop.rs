//! A job that crashes its workers.

use super::{
    kills::{ids, rig},
    ledger::{all_complete, of, settle},
    process::Process,
    support::check,
};
use xco_worker::sandbox::{Fault, Route};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_in_flight_whenever_a_worker_dies_is_given_up() {
    let mut rig = rig().await;
    let settings = [("WORKER__MAX_DELIVERIES", "3")];
    let mut fatal = Fault::hang().on(Route::Exists).always();
    fatal.caller_id = Some("192.0.2.66".to_owned());
    rig.sandbox.order(fatal);
    rig.enqueue(&check("fatal", "192.0.2.66")).await;
    for round in 1..=3 {
        let mut worker = Process::spawn(&rig, &settings);
        // Meanwhile other jobs are executed.
        rig.enqueue(&check(&format!("other-{round}"), "192.0.2.1")).await;
        rig.completion(&format!("other-{round}")).await;
        rig.sandbox.wait_until(|stats| stats.callers.get("192.0.2.66").is_some_and(|calls| *calls >= round)).await;
        worker.kill();
    }
    let mut last = Process::spawn(&rig, &settings);
    let all = ids(["fatal", "other-1", "other-2", "other-3"]);
    all_complete(&mut rig, &all, 15).await;
    settle(&mut rig, std::slice::from_mut(&mut last), &all).await;
    let given_up = of(&rig, "fatal");
    assert_eq!(given_up["status"], "failed");
    assert_eq!(given_up["error"]["kind"], "crash_loop", "{given_up:#}");
    assert_eq!(given_up["dead_lettered"], true);
    assert_eq!(rig.sandbox.stats().callers["192.0.2.66"], 3, "no call after it was given up");
    for round in 1..=3 {
        assert_eq!(of(&rig, &format!("other-{round}"))["outcome"], "absent");
    }
}
