//! The meaning of each answer of XCO, and what is retried, when, and how often.

use super::support::{
    Setup, account, check, consent, create, finalize, free_port, other_than, start, timing, verify, with,
};
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};
use xco_worker::sandbox::{EffectKind, Fault, FaultKind, Route, SandboxConfig};

const CHALLENGE: &str = "5f0c7a52-9a53-4c6e-8f3e-1d5f8d1b0c77";

fn quick() -> Setup {
    let mut setup = Setup::default();
    setup.config.xco.timeout = Duration::from_millis(700);
    // Tests the meaning of an answer for its job. That many of them mean an outage is tested elsewhere.
    setup.config.worker.breaker = false;
    setup
}

/// A completion in one line.
fn summary(event: &Value) -> String {
    let error = &event["error"];
    format!(
        "{} {} {} attempts={} retryable={} dead={} http={}",
        event["status"].as_str().unwrap(),
        event["outcome"].as_str().unwrap_or("-"),
        error["kind"].as_str().unwrap_or("-"),
        event["attempts"],
        error["retryable"].as_bool().unwrap_or(false),
        event["dead_lettered"].as_bool().unwrap_or(false),
        error["http_status"].as_u64().unwrap_or(0),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_to_each_type_has_its_meaning() {
    let mut rig = quick().start().await;
    let known = "k@example.com";
    rig.sandbox.seed_user(&account(known));
    let job = |kind: &str, id: &str| match kind {
        "check" => check(id, id),
        "create" => create(id, &format!("{id}@example.com")),
        "start" => start(id, id, known),
        "verify" => verify(id, id, known, "111111"),
        "consent" => consent(id, CHALLENGE),
        _ => panic!("{kind}"),
    };
    let status = |status: u16| Fault::status(status).times(100);
    let failed = |kind: &str, attempts: u32, retryable: bool, http: u16| {
        format!("failed - {kind} attempts={attempts} retryable={retryable} dead=true http={http}")
    };
    let done = |outcome: &str, attempts: u32| {
        format!("succeeded {outcome} - attempts={attempts} retryable=false dead=false http=0")
    };
    let mut cases: Vec<(&str, Fault, String)> = Vec::new();
    for kind in ["check", "create", "start", "consent"] {
        for (code, meaning) in [(400, "validation"), (403, "forbidden"), (404, "not_found"), (422, "validation")] {
            cases.push((kind, status(code), failed(meaning, 1, false, code)));
        }
        cases.push((kind, status(401), failed("unauthorized", 2, true, 401)));
    }
    for kind in ["check", "start", "verify", "consent"] {
        cases.push((kind, status(409), failed("conflict", 1, false, 409)));
    }
    cases.push(("create", status(409), done("already_exists", 1)));
    for kind in ["check", "create", "start", "verify", "consent"] {
        for code in [500, 503] {
            cases.push((kind, status(code), failed("upstream", 2, true, code)));
        }
    }
    for kind in ["check", "consent"] {
        for code in [502, 504] {
            cases.push((kind, status(code), failed("upstream", 2, true, code)));
        }
        cases.push((kind, Fault::hang().times(100), failed("timeout", 2, true, 0)));
        cases.push((kind, Fault::reset().times(100), failed("network", 2, true, 0)));
    }
    let mut complaints = String::new();
    for (number, (kind, fault, wanted)) in cases.into_iter().enumerate() {
        rig.sandbox.clear_faults();
        let shown = format!("{kind} {:?}", fault.kind);
        rig.sandbox.order(fault);
        let id = format!("{kind}-{number}");
        let event = rig.complete(with(job(kind, &id), "max_attempts", 2)).await;
        if summary(&event) != wanted {
            writeln!(complaints, "{shown}\n  wanted {wanted}\n  got    {}\n  {event:#}", summary(&event)).unwrap();
        }
        let letter = rig.letter(&id).await;
        if letter.is_some() != (event["status"] == "failed") {
            writeln!(complaints, "{shown}: letter {letter:?}").unwrap();
        }
        if let Some(letter) = letter {
            let replayable = if kind == "verify" { "false" } else { "true" };
            assert_eq!(letter["replayable"], replayable, "{letter:#?}");
            assert!(!letter["job"].contains("111111"), "{letter:#?}");
        }
    }
    rig.sandbox.clear_faults();
    assert!(complaints.is_empty(), "{complaints}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_a_network_failure_after_retries() {
    let mut rig = quick().without_worker().await;
    rig.config.xco.base_url = Some(format!("http://127.0.0.1:{}/", free_port()).parse().unwrap());
    rig.start_worker();
    for job in [check("check", "ip"), start("start", "ip", "k@example.com"), create("create", "c@example.com")] {
        let event = rig.complete(with(job, "max_attempts", 2)).await;
        // Nothing was sent, so nothing is in doubt, not even a StartOtp.
        assert_eq!(summary(&event), "failed - network attempts=2 retryable=true dead=true http=0", "{event:#}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_no_call_is_made() {
    let mut rig = quick().start().await;
    rig.sandbox.order(Fault::status(500).on(Route::Token).times(100));
    let event = rig.complete(with(start("s", "ip", "k@example.com"), "max_attempts", 2)).await;
    assert_eq!(event["error"]["kind"], "network", "{event:#}");
    assert_eq!(event["attempts"], 0, "no call to XCO was made: {event:#}");
    assert!(rig.routes().is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_once_and_costs_no_attempt() {
    let mut rig = quick().start().await;
    rig.complete(check("warm", "ip")).await;
    rig.sandbox.revoke_tokens();
    let event = rig.complete(with(check("c", "ip"), "max_attempts", 1)).await;
    assert_eq!(summary(&event), "succeeded absent - attempts=2 retryable=false dead=false http=0", "{event:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Token).len(), 2);

    // One new token for many simultaneous jobs.
    rig.sandbox.revoke_tokens();
    for number in 0..20 {
        rig.enqueue(&with(check(&format!("many-{number}"), &format!("ip-{number}")), "max_attempts", 1)).await;
    }
    rig.wait_for(22).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    assert_eq!(rig.sandbox.calls_of(Route::Token).len(), 3);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_outlasted_within_max_attempts() {
    let mut rig = quick().start().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![500, 503, 502, 504, 500])));
    let event = rig.complete(with(check("six", "ip"), "max_attempts", 6)).await;
    assert_eq!(summary(&event), "succeeded absent - attempts=6 retryable=false dead=false http=0");

    rig.sandbox.order(Fault::status(500));
    let event = rig.complete(with(check("one", "ip"), "max_attempts", 1)).await;
    assert_eq!(summary(&event), "failed - upstream attempts=1 retryable=true dead=true http=500");

    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![500, 503])));
    let event = rig.complete(start("start", "ip", "k@example.com")).await;
    assert_eq!(event["outcome"], "otp_sent", "an answered 500 or 503 did nothing: {event:#}");
    assert_eq!(event["attempts"], 3);
    assert_eq!(rig.sandbox.effects_on(EffectKind::CodeSent, "k@example.com"), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limits_are_no_failed_attempts_and_mix_with_those() {
    let mut rig = quick().start().await;
    rig.sandbox.order(Fault::status(429).retry_after("0").times(4));
    let event = rig.complete(with(check("c", "ip"), "max_attempts", 1)).await;
    assert_eq!(summary(&event), "succeeded absent - attempts=5 retryable=false dead=false http=0", "{event:#}");

    rig.sandbox.order(Fault::status(500));
    rig.sandbox.order(Fault::status(429).retry_after("0"));
    rig.sandbox.order(Fault::status(500));
    rig.sandbox.order(Fault::status(429).retry_after("0"));
    rig.sandbox.order(Fault::status(500));
    let event = rig.complete(with(check("d", "ip"), "max_attempts", 3)).await;
    assert_eq!(summary(&event), "failed - upstream attempts=5 retryable=true dead=true http=500", "{event:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_in_both_forms() {
    let mut rig = quick().start().await;
    // A date has whole seconds: two of them are more than one.
    let date = (jiff::Timestamp::now() + jiff::SignedDuration::from_millis(2500)).strftime("%a, %d %b %Y %H:%M:%S GMT");
    for (status, value, caller) in [
        (429, "1".to_owned(), "seconds"),
        (503, "1".to_owned(), "busy"),
        (429, date.to_string(), "date"),
        (503, date.to_string(), "busy-date"),
    ] {
        let mut fault = Fault::status(status).retry_after(value);
        fault.caller_id = Some(caller.to_owned());
        rig.sandbox.order(fault);
        rig.enqueue(&check(caller, caller)).await;
    }
    rig.wait_for(4).await;
    for caller in ["seconds", "busy", "date", "busy-date"] {
        let event = rig.completion(caller).await;
        assert_eq!(event["attempts"], 2, "{event:#}");
        let gaps = rig.gaps_us(caller);
        assert!(gaps[0] >= 980_000 && gaps[0] < 5_000_000, "{caller}: {gaps:?}");
        let named = if caller.starts_with("busy") { "retrying" } else { "limited" };
        assert!(timing(&event, named) >= 900, "{event:#}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_document_is_passed_through() {
    let mut rig = quick().start().await;
    let problem = json!({
        "type": "https://api.purse.eu/problems/validation-error", "title": "Validation error", "status": 400,
        "detail": "Two fields", "instance": "/v1/users", "error": "bad",
        "errors": [{"detail": "must not be blank", "pointer": "/user/email"}], "extra": {"a": [1, 2.5, null]},
    });
    rig.sandbox.order(Fault::status(400).body(problem.clone()));
    let event = rig.complete(create("c", "c@example.com")).await;
    assert_eq!(event["error"]["problem"], problem, "{event:#}");
    assert_eq!(event["error"]["http_status"], 400);
    let letter = rig.letter("c").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&letter["error"]).unwrap(), event["error"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_problem_type_says_that_the_customer_exists() {
    let kind = "https://api.purse.eu/problems/already-there";
    let mut setup = quick();
    setup.sandbox.conflict = xco_worker::sandbox::ConflictStyle::BadRequest(kind.to_owned());
    setup.config.xco.already_exists_types = vec![kind.to_owned()];
    let mut rig = setup.start().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    let event = rig.complete(create("c", "k@example.com")).await;
    assert_eq!(event["outcome"], "already_exists", "{event:#}");
    assert_eq!(event["result"]["customer_reference"], "ref-c");
    assert!(event["result"].get("after_doubt").is_none());
    rig.sandbox.order(Fault::status(400).body(json!({"type": kind, "title": "x", "status": 400})));
    let event = rig.complete(check("d", "ip")).await;
    assert_eq!(event["error"]["kind"], "validation", "only at CreateUser: {event:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_is_told_at_once_whatever_its_status_and_however_it_is_echoed() {
    for status in [400, 401, 403, 404, 422] {
        let sandbox = SandboxConfig { wrong_code_status: status, echo_code: true, ..SandboxConfig::default() };
        let mut rig = Setup { sandbox, ..quick() }.start().await;
        let email = "k@example.com";
        rig.sandbox.seed_user(&account(email));
        let right = rig.code_for("ip", email).await;
        let wrong = other_than(&right);
        for job in [verify("v", "ip", email, wrong), finalize("f", "ip", email, wrong)] {
            let event = rig.complete(with(job, "reply", true)).await;
            let wanted = format!("failed - invalid_code attempts=1 retryable=false dead=false http={status}");
            assert_eq!(summary(&event), wanted, "{event:#}");
            assert!(event["error"]["problem"].is_object(), "{event:#}");
            assert!(!event.to_string().contains(wrong), "{event:#}");
        }
        assert_eq!(rig.sandbox.effects_on(EffectKind::CodeTried, email), 2, "{status}: one attempt each");
        assert!(rig.letters().await.is_empty());
        // The right code still counts.
        let event = rig.complete(verify("right", "ip", email, &right)).await;
        assert_eq!(event["outcome"], "verified", "{event:#}");
        rig.end().await;
    }
}
