//! SIGKILL during running jobs.

use super::{
    jobs::{create, email, finalize, seed, start, verify},
    ledger::{all_complete, calls_by_key, of, settle},
    process::Process,
    support::{RedisServer, Rig, Setup, check},
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;
use xco_worker::sandbox::{EffectKind, Fault, Route};

pub(crate) fn own_redis() -> RedisServer {
    RedisServer::own(&["--save", "", "--appendonly", "no"])
}

pub(crate) async fn rig() -> Rig {
    Setup { redis: own_redis(), ..Setup::default() }.without_worker().await
}

pub(crate) fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

/// Sends the customer a code, through a worker.
pub(crate) async fn send_code(rig: &mut Rig, id: &str) -> String {
    seed(&rig.sandbox, id);
    let sent = rig.complete(start(id)).await;
    assert_eq!(sent["outcome"], "otp_sent", "{sent:#}");
    rig.sandbox.otp(&email(id)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_ends_what_a_killed_worker_was_calling() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[]).await;
    let verify_code = send_code(&mut rig, "customer-v").await;
    let finalize_code = send_code(&mut rig, "customer-f").await;
    seed(&rig.sandbox, "s");
    let before = rig.sandbox.stats().calls;
    // The code is sent and the account created, but the worker gets no answer.
    rig.sandbox.order(Fault::hang().on(Route::Start).after_effect());
    rig.sandbox.order(Fault::hang().on(Route::Verify).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Exists));
    rig.sandbox.order(Fault::hang().on(Route::Create).after_effect());
    rig.sandbox.order(Fault::hang().on(Route::Create));
    for job in [start("s"), verify("v", "customer-v", &verify_code), check("c", "192.0.2.1"), create("made")] {
        rig.enqueue(&job).await;
    }
    rig.sandbox.wait_for_calls(before + 4).await;
    rig.enqueue(&create("not-made")).await;
    rig.enqueue(&finalize("f", "customer-f", &finalize_code)).await;
    // Its verification succeeds; its consent hangs.
    rig.sandbox.order(Fault::hang().on(Route::Consent));
    rig.sandbox.wait_until(|stats| stats.calls >= before + 7).await;
    first.kill();

    let killed_at = Instant::now();
    let mut second = Process::spawn(&rig, &[]);
    let all = ids(["customer-v", "customer-f", "s", "v", "c", "made", "not-made", "f"]);
    all_complete(&mut rig, &all, 15).await;
    assert!(killed_at.elapsed() < Duration::from_secs(6), "later than the lease explains: {:?}", killed_at.elapsed());
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;

    for id in ["s", "v"] {
        let event = of(&rig, id);
        assert_eq!((&event["status"], &event["error"]["kind"]), (&json!("failed"), &json!("in_doubt")), "{event:#}");
        assert_eq!(event["attempts"], 1);
    }
    assert_eq!(calls_by_key(&rig, Route::Start)[&email("s")].len(), 1);
    assert_eq!(calls_by_key(&rig, Route::Verify)[&email("customer-v")].len(), 1);
    let checked = of(&rig, "c");
    assert_eq!((&checked["outcome"], &checked["attempts"]), (&json!("absent"), &json!(2)), "{checked:#}");
    // In doubt, a check comes before any second POST.
    let made = of(&rig, "made");
    assert_eq!(made["outcome"], "already_exists", "{made:#}");
    assert_eq!(made["result"]["after_doubt"], true);
    let not_made = of(&rig, "not-made");
    assert_eq!(not_made["outcome"], "created", "{not_made:#}");
    let posts: Vec<_> = rig.sandbox.calls_of(Route::Create);
    assert_eq!(posts.len(), 3, "{posts:#?}");
    let looked = &calls_by_key(&rig, Route::Exists)[&email("not-made")];
    assert!(looked[0].seq < posts[2].seq, "it was posted again before anybody looked");
    // The code was spent once.
    let consented = of(&rig, "f");
    assert_eq!(consented["outcome"], "consented", "{consented:#}");
    assert_eq!(calls_by_key(&rig, Route::Verify)[&email("customer-f")].len(), 1);
    assert_eq!(rig.sandbox.calls_of(Route::Consent).len(), 2);
    assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSpent, &email("customer-f")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_went_through_unheard_is_in_doubt_and_no_code_is_spent_twice() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[]).await;
    let verified = send_code(&mut rig, "a").await;
    let consented = send_code(&mut rig, "b").await;
    let before = rig.sandbox.stats().calls;
    rig.sandbox.order(Fault::hang().on(Route::Verify).after_effect());
    rig.enqueue(&finalize("f-verify", "a", &verified)).await;
    rig.sandbox.wait_for_calls(before + 1).await;
    rig.sandbox.order(Fault::hang().on(Route::Consent).after_effect());
    rig.enqueue(&finalize("f-consent", "b", &consented)).await;
    rig.sandbox.wait_for_calls(before + 3).await;
    first.kill();
    let mut second = Process::spawn(&rig, &[]);
    let all = ids(["a", "b", "f-verify", "f-consent"]);
    all_complete(&mut rig, &all, 15).await;
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;
    assert_eq!(of(&rig, "f-verify")["error"]["kind"], "in_doubt");
    // The consent whose answer was lost has consumed the challenge.
    assert_eq!(of(&rig, "f-consent")["error"]["kind"], "in_doubt");
    for customer in ["a", "b"] {
        assert_eq!(calls_by_key(&rig, Route::Verify)[&email(customer)].len(), 1);
        assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSpent, &email(customer)), 1);
    }
}

/// The pending list shows that a worker was killed. Without the list there is still the call marker.
#[tokio::test(flavor = "multi_thread")]
async fn a_begun_call_is_remembered_though_worker_and_group_are_gone() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[]).await;
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::hang().on(Route::Start).after_effect());
    rig.sandbox.order(Fault::hang().on(Route::Create).after_effect());
    rig.enqueue(&start("s")).await;
    rig.enqueue(&create("u")).await;
    rig.sandbox.wait_for_calls(2).await;
    first.kill();
    let key = rig.key("jobs:interactive");
    let destroyed: i64 =
        redis::cmd("XGROUP").arg("DESTROY").arg(key).arg("workers").query_async(&mut rig.connection).await.unwrap();
    assert_eq!(destroyed, 1);
    let second = Process::spawn(&rig, &[]);
    let all = ids(["s", "u"]);
    all_complete(&mut rig, &all, 15).await;
    settle(&mut rig, &mut [second], &all).await;
    assert_eq!(of(&rig, "s")["error"]["kind"], "in_doubt");
    assert_eq!(of(&rig, "u")["result"]["after_doubt"], true);
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1);
}
