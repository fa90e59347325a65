//! Calls whose effect is unknown: which are never repeated, which are checked first, and which are repeated safely.

use super::support::{Setup, account, check, consent, create, finalize, start, verify, with};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    sandbox::{EffectKind, Fault, FaultKind, Route},
    telemetry::Metrics,
    worker::Worker,
    xco::{Answer, Call, CallContext, CallReport, XcoApi},
};

const EMAIL: &str = "k@example.com";

fn quick() -> Setup {
    let mut setup = Setup::default();
    setup.config.xco.timeout = Duration::from_millis(700);
    setup
}

fn assert_in_doubt(event: &Value) {
    assert_eq!((&event["status"], &event["error"]["kind"]), (&json!("failed"), &json!("in_doubt")), "{event:#}");
    assert_eq!(event["error"]["retryable"], false, "{event:#}");
    assert_eq!(event["dead_lettered"], true, "{event:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_may_have_been_sent_is_not_sent_again() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    // Not XCO's own answers: those of a proxy, which may have passed the request on, and redirects, which may come
    // after the effect.
    let between = [501, 502, 504, 505, 520, 522, 524, 599, 301, 302, 303, 307, 308];
    let faults = between.into_iter().flat_map(|status| [Fault::status(status), Fault::status(status).after_effect()]);
    let lost = [Fault::hang(), Fault::hang().after_effect(), Fault::reset(), Fault::reset().after_effect()];
    for (number, fault) in faults.chain(lost).enumerate() {
        rig.sandbox.order(fault.clone().on(Route::Start));
        let id = format!("s{number}");
        let event = rig.complete(with(start(&id, "ip", EMAIL), "max_attempts", 5)).await;
        assert_in_doubt(&event);
        assert_eq!(event["attempts"], 1);
        assert_eq!(rig.sandbox.calls_of(Route::Start).len(), number + 1, "{fault:?}: one call");
        assert_eq!(rig.letter(&id).await.unwrap()["replayable"], "true");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_may_have_been_spent_is_not_spent_again() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    let faults = [
        Fault::status(502),
        Fault::status(504),
        Fault::status(522).after_effect(),
        Fault::status(303).after_effect(),
        Fault::hang(),
        Fault::reset(),
        Fault::new(FaultKind::Truncate),
        Fault::new(FaultKind::Garbage),
        Fault::reset().after_effect(),
    ];
    let mut calls = 0;
    for (number, fault) in faults.into_iter().enumerate() {
        for kind in ["v", "f"] {
            let code = rig.code_for("ip", EMAIL).await;
            let id = format!("{kind}{number}");
            let job = if kind == "v" { verify(&id, "ip", EMAIL, &code) } else { finalize(&id, "ip", EMAIL, &code) };
            rig.sandbox.order(fault.clone().on(Route::Verify));
            let event = rig.complete(with(job, "max_attempts", 5)).await;
            calls += 1;
            assert_in_doubt(&event);
            assert_eq!(rig.sandbox.calls_of(Route::Verify).len(), calls, "{fault:?}: one call");
            let letter = rig.letter(&id).await.unwrap();
            assert_eq!(letter["replayable"], "false");
            assert!(!format!("{letter:?}{event}").contains(&code), "{letter:#?} {event:#}");
        }
    }
    assert!(rig.sandbox.calls_of(Route::Consent).is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_500_or_503_leaves_no_doubt() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    let code = rig.code_for("ip", EMAIL).await;
    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![503, 500])).on(Route::Verify));
    let event = rig.complete(verify("v", "ip", EMAIL, &code)).await;
    assert_eq!((&event["outcome"], &event["attempts"]), (&json!("verified"), &json!(3)), "{event:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_have_been_created_is_looked_for_first() {
    let mut rig = quick().start().await;
    for (number, fault) in [Fault::reset(), Fault::hang(), Fault::status(504), Fault::status(524), Fault::status(303)]
        .into_iter()
        .map(Fault::after_effect)
        .chain([Fault::new(FaultKind::Truncate), Fault::new(FaultKind::Garbage)])
        .enumerate()
    {
        rig.sandbox.order(fault.on(Route::Create));
        let before = rig.routes().len();
        let id = format!("c{number}");
        let event = rig.complete(with(create(&id, &format!("{id}@example.com")), "caller_id", "ip-9")).await;
        assert_eq!(event["outcome"], "already_exists", "{event:#}");
        assert_eq!(event["result"]["after_doubt"], true);
        assert_eq!(event["result"]["customer_reference"], format!("ref-{id}"));
        assert_eq!(event["attempts"], 2);
        assert_eq!(rig.routes()[before..], [Route::Create, Route::Exists]);
        assert_eq!(rig.sandbox.effects_on(EffectKind::UserCreated, &format!("ref-{id}")), 1);
    }
    let callers: Vec<_> = rig.sandbox.calls_of(Route::Exists).into_iter().map(|call| call.caller_id).collect();
    assert!(callers.iter().all(|caller| caller.as_deref() == Some("ip-9")), "for the same caller: {callers:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_was_not_created_is_posted_again_after_the_check() {
    let mut rig = quick().start().await;
    rig.sandbox.order(Fault::reset().on(Route::Create));
    rig.sandbox.order(Fault::status(502).on(Route::Create));
    let event = rig.complete(create("c", "c@example.com")).await;
    assert_eq!(event["outcome"], "created", "{event:#}");
    assert_eq!(event["result"]["user"]["email"], "c@example.com");
    assert_eq!(
        rig.routes(),
        [Route::Create, Route::Exists, Route::Create, Route::Exists, Route::Create],
        "no POST without a check before it"
    );
    assert_eq!(rig.sandbox.calls_of(Route::Exists)[0].caller_id.as_deref(), Some("ref-c"), "its effective caller");
    assert_eq!(event["attempts"], 5);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_is_repeated_before_any_second_post() {
    let mut rig = quick().start().await;
    rig.sandbox.order(Fault::hang().on(Route::Create));
    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![500, 502])).on(Route::Exists));
    rig.sandbox.order(Fault::status(429).on(Route::Exists).retry_after("0"));
    let event = rig.complete(create("c", "c@example.com")).await;
    assert_eq!(event["outcome"], "created", "{event:#}");
    assert_eq!(
        rig.routes(),
        [Route::Create, Route::Exists, Route::Exists, Route::Exists, Route::Exists, Route::Create]
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_fails_does_not_spend_the_code_again() {
    for (name, fault) in [
        ("500", Fault::status(500)),
        ("502", Fault::status(502)),
        ("429", Fault::status(429).retry_after("0")),
        ("reset", Fault::reset()),
        ("hang", Fault::hang()),
    ] {
        let mut rig = quick().start().await;
        rig.sandbox.seed_user(&account(EMAIL));
        let code = rig.code_for("ip", EMAIL).await;
        rig.sandbox.order(fault.on(Route::Consent));
        let event = rig.complete(finalize("f", "ip", EMAIL, &code)).await;
        assert_eq!(event["outcome"], "consented", "{name}: {event:#}");
        assert_eq!(event["result"]["user"]["first_name"], "Ada", "{name}: {event:#}");
        assert_eq!(rig.routes(), [Route::Start, Route::Verify, Route::Consent, Route::Consent], "{name}");
        assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSpent, EMAIL), 1);
        assert_eq!(rig.sandbox.effects_on(EffectKind::Consented, "ref-f"), 1);
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_may_have_been_given_is_in_doubt_when_its_challenge_is_gone() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    let code = rig.code_for("ip", EMAIL).await;
    rig.sandbox.order(Fault::reset().on(Route::Consent).after_effect());
    let event = rig.complete(finalize("f", "ip", EMAIL, &code)).await;
    assert_in_doubt(&event);
    assert_eq!(event["error"]["http_status"], 404);
    assert_eq!(rig.routes(), [Route::Start, Route::Verify, Route::Consent, Route::Consent]);
    assert_eq!(rig.sandbox.effects_on(EffectKind::Consented, "ref-f"), 1);
    let letter = rig.letter("f").await.unwrap();
    assert_eq!(letter["replayable"], "false");
    assert!(!format!("{letter:?}{event}").contains(&code));

    let code = rig.code_for("ip", EMAIL).await;
    let verified = rig.complete(verify("v", "ip", EMAIL, &code)).await;
    let challenge = verified["result"]["consent_challenge_id"].as_str().unwrap().to_owned();
    rig.sandbox.order(Fault::status(504).on(Route::Consent).after_effect());
    let event = rig.complete(consent("g", &challenge)).await;
    assert_in_doubt(&event);
    assert_eq!(rig.letter("g").await.unwrap()["replayable"], "true");

    // Without an earlier doubt, 404 means that it does not exist.
    let event = rig.complete(consent("h", &challenge)).await;
    assert_eq!(event["error"]["kind"], "not_found", "{event:#}");
    rig.end().await;
}

/// Whatever XCO answers to the repetition, the first call may have taken effect. The job ends in doubt, also in its
/// dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_in_doubt_stays_in_doubt_whatever_answers_the_repetition() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account(EMAIL));
    // A 500 says nothing about the consent. The job is given up and keeps its doubt.
    for status in [400, 403, 404, 409, 410, 422, 451, 500] {
        let code = rig.code_for("ip", EMAIL).await;
        let verified = rig.complete(verify(&format!("v{status}"), "ip", EMAIL, &code)).await;
        let challenge = verified["result"]["consent_challenge_id"].as_str().unwrap().to_owned();
        rig.sandbox.order(Fault::reset().on(Route::Consent).after_effect());
        rig.sandbox.order(Fault::status(status).on(Route::Consent).times(8));
        let id = format!("c{status}");
        let event = rig.complete(with(consent(&id, &challenge), "max_attempts", 3)).await;
        rig.sandbox.clear_faults();
        if status == 500 {
            assert_eq!(event["error"]["kind"], "upstream", "{event:#}");
        } else {
            assert_in_doubt(&event);
        }
        assert_eq!(event["error"]["http_status"], status, "{event:#}");
        assert_eq!(rig.sandbox.effects_on(EffectKind::Consented, &format!("ref-{id}")), 1);
        let letter = rig.letter(&id).await.unwrap();
        assert!(letter["state"].contains(r#""d":true"#), "{letter:#?}");
    }
    rig.end().await;
}

/// A check without an answer leaves the creation before it in doubt. A check that finds no account ends the doubt.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_in_doubt_until_a_check_has_answered() {
    let mut rig = quick().start().await;
    rig.sandbox.order(Fault::reset().on(Route::Create).after_effect());
    rig.sandbox.order(Fault::status(500).on(Route::Exists).times(8));
    let event = rig.complete(with(create("a", "a@example.com"), "max_attempts", 3)).await;
    assert_eq!((&event["error"]["kind"], &event["attempts"]), (&json!("upstream"), &json!(3)), "{event:#}");
    assert!(rig.letter("a").await.unwrap()["state"].contains(r#""d":true"#));
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1, "no second POST without an answer");
    rig.sandbox.clear_faults();
    rig.sandbox.order(Fault::reset().on(Route::Create));
    rig.sandbox.order(Fault::status(400).on(Route::Create));
    let event = rig.complete(create("b", "b@example.com")).await;
    assert_eq!(event["error"]["kind"], "validation", "{event:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_repeated_whatever_happened_to_it() {
    let mut rig = quick().start().await;
    for fault in [
        Fault::hang(),
        Fault::reset(),
        Fault::status(504),
        Fault::new(FaultKind::Truncate),
        Fault::new(FaultKind::Garbage),
    ] {
        rig.sandbox.order(fault);
    }
    let event = rig.complete(check("c", "ip")).await;
    assert_eq!((&event["outcome"], &event["attempts"]), (&json!("absent"), &json!(6)), "{event:#}");
    rig.end().await;
}

/// An XCO client that panics during each call of one kind, as a bug would.
struct Panics;

const FINE: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";

impl XcoApi for Panics {
    async fn call<'a>(&'a self, call: Call<'a>, _: CallContext<'a>) -> CallReport {
        assert!(matches!(call, Call::CreateConsent { challenge_id: FINE, .. }), "a fault of ours, in a test");
        CallReport { result: Ok(Answer::Consented), calls: 1, elapsed: Duration::ZERO }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_middle_of_an_unsafe_call_leaves_a_doubt() {
    let mut rig = quick().without_worker().await;
    let worker = Worker::new(rig.config.clone(), Arc::new(Panics), Metrics::default()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone()));
    let jobs = [
        start("s", "ip", EMAIL),
        verify("v", "ip", EMAIL, "123456"),
        create("c", EMAIL),
        consent("g", "6f9619ff-8b86-4011-b42d-00c04fc964fe"),
        finalize("f", "ip", EMAIL, "123456"),
    ];
    for job in jobs {
        let event = rig.complete(job).await;
        assert_in_doubt(&event);
        assert_eq!(event["attempts"], 1);
    }
    // Calls that can be repeated freely leave no doubt.
    let event = rig.complete(check("r", "ip")).await;
    assert_eq!((&event["error"]["kind"], &event["dead_lettered"]), (&json!("internal"), &json!(true)), "{event:#}");
    let event = rig.complete(consent("h", FINE)).await;
    assert_eq!(event["outcome"], "consented", "the worker goes on: {event:#}");
    stop.cancel();
    running.await.unwrap();
    rig.end().await;
}
