//! The flows of XCO's guide, end to end, and their completions.

use super::support::{
    MERCHANT, RedisServer, Setup, account, check, consent, create, finalize, keys, moment, other_than, start, timing,
    verify, with,
};
use serde_json::{Value, json};
use xco_worker::sandbox::{EffectKind, Fault, Route, SandboxConfig};

const OTHER_MERCHANT: &str = "0b6f2f7a-4f0e-4d9c-8e55-0a2b7a3f9d10";
const ALWAYS: [&str; 7] = ["attempts", "completed_at", "enqueued_at", "id", "status", "timings_ms", "v"];

/// The keys of a successful completion, with `extra` added.
fn success_keys(extra: &[&'static str]) -> Vec<&'static str> {
    let mut all: Vec<&str> = [&ALWAYS[..], &["outcome", "started_at", "type"], extra].concat();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_customer_is_checked_created_and_exists() {
    let mut rig = Setup::default().start().await;
    let absent = rig.complete(check("c1", "192.0.2.1")).await;
    assert_eq!(absent["status"], "succeeded", "{absent:#}");
    assert_eq!(absent["outcome"], "absent");
    assert_eq!(absent["result"], json!({"exists": false, "token_count": 0}));
    assert_eq!(absent["attempts"], 1);

    let created = rig
        .complete(json!({"id": "c2", "type": "CreateUser", "meta": {"k": "v"}, "args": {
            "customer_reference": "ref/1 é", "user": {"email": "c1@example.com", "gender": "female"}}}))
        .await;
    assert_eq!(created["outcome"], "created", "{created:#}");
    assert_eq!(created["result"]["customer_reference"], "ref/1 é");
    assert_eq!(created["customer_reference"], "ref/1 é");
    assert_eq!(created["meta"], json!({"k": "v"}));

    let mut again = check("c3", "192.0.2.1");
    again["args"]["email"] = json!("c1@example.com");
    let exists = rig.complete(again).await;
    assert_eq!(exists["outcome"], "exists");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_customer_goes_the_whole_way_and_each_completion_has_its_keys() {
    let mut rig = Setup::default().start().await;
    let email = "known@example.com";
    rig.sandbox.seed_user(&account(email));

    let mut job = check("check", "ip-1");
    job["args"]["email"] = json!(email);
    let exists = rig.complete(job).await;
    assert_eq!(keys(&exists), success_keys(&["caller_id", "result"]), "{exists:#}");
    assert_eq!(exists["result"], json!({"exists": true, "token_count": 2}));
    assert_eq!((&exists["v"], &exists["type"], &exists["caller_id"]), (&json!(1), &json!("CheckUser"), &json!("ip-1")));

    let sent = rig.complete(start("start", "ip-1", email)).await;
    assert_eq!(keys(&sent), success_keys(&["caller_id"]), "no result: {sent:#}");
    assert_eq!(sent["outcome"], "otp_sent");

    let code = rig.sandbox.otp(email).unwrap();
    let verified = rig.complete(verify("verify", "ip-1", email, &code)).await;
    assert_eq!(keys(&verified), success_keys(&["caller_id", "result"]), "{verified:#}");
    assert_eq!(verified["outcome"], "verified");
    assert_eq!(keys(&verified["result"]), ["consent_challenge_id", "user"]);
    assert_eq!(verified["result"]["user"], json!({"email": email, "first_name": "Ada"}));

    let challenge = verified["result"]["consent_challenge_id"].as_str().unwrap().to_owned();
    let consented = rig.complete(with(consent("consent", &challenge), "caller_id", "ip-1")).await;
    assert_eq!(keys(&consented), success_keys(&["caller_id", "customer_reference", "result"]), "{consented:#}");
    assert_eq!(consented["outcome"], "consented");
    assert_eq!(consented["result"], json!({"consent_challenge_id": challenge}));
    assert_eq!(consented["customer_reference"], "ref-consent");
    assert_eq!(rig.sandbox.effects_on(EffectKind::Consented, "ref-consent"), 1);

    assert_eq!(rig.routes(), [Route::Exists, Route::Start, Route::Verify, Route::Consent]);
    let callers: Vec<Option<String>> =
        rig.sandbox.calls().into_iter().filter(|call| call.route != Route::Token).map(|call| call.caller_id).collect();
    let ip = Some("ip-1".to_owned());
    assert_eq!(callers, [ip.clone(), ip.clone(), ip, None], "a consent has no caller of its own");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finalize_with_a_code_verifies_then_consents() {
    let mut rig = Setup::default().start().await;
    let email = "known@example.com";
    rig.sandbox.seed_user(&account(email));
    let code = rig.code_for("ip-1", email).await;
    let consented = rig.complete(finalize("f", "ip-1", email, &code)).await;
    assert_eq!(keys(&consented), success_keys(&["caller_id", "customer_reference", "result"]), "{consented:#}");
    assert_eq!(keys(&consented["result"]), ["consent_challenge_id", "user"]);
    assert_eq!(consented["result"]["user"]["email"], email);
    assert_eq!(consented["attempts"], 2);
    assert_eq!(rig.routes(), [Route::Start, Route::Verify, Route::Consent]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_number_does_as_well() {
    let mut rig = Setup::default().start().await;
    let phone = "+33612345678";
    rig.sandbox.seed_user(&xco_worker::sandbox::NewSandboxUser {
        phone_number: Some(phone.to_owned()),
        ..account("p@example.com")
    });
    let exists =
        rig.complete(json!({"id": "c", "type": "CheckUser", "caller_id": "ip", "args": {"phone_number": phone}})).await;
    assert_eq!(exists["outcome"], "exists", "{exists:#}");
    let sent =
        rig.complete(json!({"id": "s", "type": "StartOtp", "caller_id": "ip", "args": {"phone_number": phone}})).await;
    assert_eq!(sent["outcome"], "otp_sent", "{sent:#}");
    let code = rig.sandbox.otp(phone).unwrap();
    let consented = rig
        .complete(json!({"id": "f", "type": "FinalizeConsent", "caller_id": "ip", "args": {
            "customer_reference": "r", "phone_number": phone, "verification_code": code}}))
        .await;
    assert_eq!(consented["outcome"], "consented", "{consented:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_has_its_keys_too() {
    let mut rig = Setup::default().start().await;
    let email = "known@example.com";
    rig.sandbox.seed_user(&account(email));
    let code = rig.code_for("ip", email).await;
    let wrong = rig.complete(verify("v", "ip", email, other_than(&code))).await;
    let mut expected = [&ALWAYS[..], &["caller_id", "error", "started_at", "type"]].concat();
    expected.sort_unstable();
    assert_eq!(keys(&wrong), expected, "{wrong:#}");
    assert_eq!(keys(&wrong["error"]), ["http_status", "kind", "message", "problem", "retryable"]);

    rig.sandbox.order(Fault::status(403));
    let forbidden = rig.complete(check("d", "ip")).await;
    expected.push("dead_lettered");
    expected.sort_unstable();
    assert_eq!(keys(&forbidden), expected, "{forbidden:#}");
    assert_eq!(forbidden["dead_lettered"], true);

    let rejected = rig.complete(json!({"id": "r", "type": "CheckUser", "args": {"email": "r@example.com"}})).await;
    let mut expected = [&ALWAYS[..], &["dead_lettered", "error", "type"]].concat();
    expected.sort_unstable();
    assert_eq!(keys(&rejected), expected, "{rejected:#}");
    assert_eq!(keys(&rejected["error"]), ["fields", "kind", "message", "retryable"]);
    assert_eq!(rejected["error"]["kind"], "missing_caller_id");
    assert_eq!(rejected["error"]["fields"][0]["pointer"], "/caller_id");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_job_carries_is_echoed() {
    let mut rig = Setup::default().start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut job = check("echo", "ip");
    for (field, value) in [
        ("v", json!(1)),
        ("customer_reference", json!("customer 7")),
        ("merchant_id", json!(OTHER_MERCHANT)),
        ("batch", json!("b")),
        ("meta", json!({"form": "signup", "empty": "", "é": "ü"})),
        ("traceparent", json!(traceparent)),
        ("tracestate", json!("vendor=1")),
    ] {
        job[field] = value;
    }
    let done = rig.complete(job.clone()).await;
    for field in ["caller_id", "customer_reference", "merchant_id", "batch", "meta", "traceparent"] {
        assert_eq!(done[field], job[field], "{field}: {done:#}");
    }
    assert!(done.get("tracestate").is_none(), "not in the contract's list");
    let call = rig.sandbox.calls_of(Route::Exists).remove(0);
    assert_eq!(call.traceparent.as_deref().map(|text| &text[..35]), Some(&traceparent[..35]), "the trace goes on");

    for (id, odd) in [("t1", json!("")), ("t2", json!("nonsense")), ("t3", Value::Null)] {
        let done = rig.complete(with(check(id, "ip"), "traceparent", odd)).await;
        assert_eq!(done["status"], "succeeded", "{done:#}");
        assert!(done.get("traceparent").is_none(), "{done:#}");
    }
    let mut nulls = check("nulls", "ip");
    for field in [
        "v",
        "customer_reference",
        "merchant_id",
        "ttl_ms",
        "run_at",
        "max_attempts",
        "reply",
        "batch",
        "meta",
        "tracestate",
        "next",
    ] {
        nulls[field] = Value::Null;
    }
    let done = rig.complete(nulls).await;
    assert_eq!(done["status"], "succeeded", "null is the same as leaving it out: {done:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_is_the_jobs_own_or_the_configured_one() {
    let sandbox = SandboxConfig { merchant_id: Some(MERCHANT.to_owned()), ..SandboxConfig::default() };
    let mut rig = Setup { sandbox, ..Setup::default() }.start().await;
    let default = rig.complete(create("m1", "m1@example.com")).await;
    assert_eq!(default["outcome"], "created", "{default:#}");
    assert!(default.get("merchant_id").is_none(), "the job named none");
    let own = rig.complete(with(create("m2", "m2@example.com"), "merchant_id", MERCHANT)).await;
    assert_eq!(own["outcome"], "created");
    assert_eq!(own["merchant_id"], MERCHANT);
    let other = rig.complete(with(create("m3", "m3@example.com"), "merchant_id", OTHER_MERCHANT)).await;
    assert_eq!(other["error"]["kind"], "not_found", "{other:#}");
    assert_eq!(other["merchant_id"], OTHER_MERCHANT);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_are_in_order_and_timings_add_up() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(500).times(2));
    rig.sandbox.order(Fault::status(429).retry_after("1"));
    let done = rig.complete(check("t", "ip")).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("succeeded"), &json!(4)), "{done:#}");
    for field in ["enqueued_at", "started_at", "completed_at"] {
        let text = done[field].as_str().unwrap();
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{field}");
    }
    let (enqueued, started, completed) =
        (moment(&done, "enqueued_at"), moment(&done, "started_at"), moment(&done, "completed_at"));
    assert!(enqueued <= started && started <= completed, "{done:#}");
    assert_eq!(keys(&done["timings_ms"]), ["limited", "queued", "retrying", "total", "xco"]);
    let total = timing(&done, "total");
    assert_eq!(i128::from(total), completed.duration_since(enqueued).as_millis());
    let sum: u64 = ["queued", "limited", "retrying", "xco"].into_iter().map(|name| timing(&done, name)).sum();
    assert_eq!(sum, total, "{done:#}");
    assert!((900..2000).contains(&timing(&done, "limited")), "behind the 429: {done:#}");
    assert!(timing(&done, "retrying") <= 500, "two short retries: {done:#}");
    rig.end().await;
}

/// The same with a Redis from a container image. Skipped without a Docker engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_in_a_container_does_as_well() {
    let redis = match RedisServer::contained() {
        Ok(redis) => redis,
        Err(reason) => return eprintln!("not tried: {reason}"),
    };
    let mut rig = Setup { redis, ..Setup::default() }.start().await;
    assert_eq!(rig.complete(check("c1", "192.0.2.1")).await["outcome"], "absent");
    rig.end().await;
}
