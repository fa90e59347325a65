//! What pages show, and to whom.

use super::{
    Console,
    support::{check, create, with},
};
use redis::AsyncCommands;
use serde_json::json;
use std::time::Duration;
use xco_worker::contract::Lane;

#[tokio::test(flavor = "multi_thread")]
async fn every_page_has_its_headers_and_its_files_are_kept_for_good() {
    let console = Console::start().await;
    let session = console.log_in("reader").await;
    for path in ["/console", "/console/audit", "/console/jobs", "/console/nothing", "/console/login"] {
        let answer = console.get(path).header("cookie", &session).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(name), value, "{path}");
        }
    }
    let (_, page) = console.page("/console/audit", &session).await;
    let script = page.split('"').find(|part| part.starts_with("/console/assets/console.js.")).unwrap();
    let answer = console.get(script).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/javascript"));
    assert_eq!(console.get("/console/assets/console.js.000000000000").send().await.unwrap().status(), 404);
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_says_what_is_the_case() {
    let mut console = Console::start().await;
    let session = console.log_in("reader").await;
    console.rig.enqueue_all(Lane::Interactive, (0..3).map(|n| check(&format!("j{n}"), "203.0.113.9"))).await;
    let (status, page) = console.page("/console", &session).await;
    assert_eq!(status, 200);
    assert!(page.contains("No worker runs. 3 people wait"), "{page}");
    let slash = console.get("/console/").header("cookie", &session).send().await.unwrap();
    assert_eq!((slash.status().as_u16(), &slash.headers()["location"]), (308, &"/console".parse().unwrap()));
    let (_, week) = console.page("/console?range=7d", &session).await;
    assert!(week.contains("aria-current=\"true\">7 d"), "{week}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_by_id_by_tokens_and_by_person_and_its_data_is_masked() {
    let mut console = Console::start().await;
    let job = json!({"id": "signup-2/absent", "type": "CheckUser", "caller_id": "203.0.113.9", "batch": "spring",
        "args": {"email": "ada.lovelace@example.com"}});
    console.rig.enqueue_all(Lane::Bulk, [job]).await;
    let session = console.log_in("reader").await;
    let csrf = console.csrf(&session).await;

    let search = async |q: &str| {
        let fields = [("csrf", csrf.as_str()), ("q", q)];
        console.post("/console/jobs/search", &fields).header("cookie", &session).send().await.unwrap()
    };
    let shared = search("batch:spring state:waiting").await;
    assert_eq!(shared.headers()["location"], "/console/jobs?q=batch%3Aspring+state%3Awaiting");
    let (_, found) = console.page("/console/jobs?q=batch%3Aspring+state%3Awaiting", &session).await;
    assert!(found.contains("/console/jobs/signup%2D2%2Fabsent") && found.contains("1 job here."), "{found}");

    // A person is in no address: neither asked for, nor led to.
    let led = search("ada.lovelace@example.com").await.headers()["location"].to_str().unwrap().to_owned();
    let (status, found) = console.page(&led, &session).await;
    assert!(status == 200 && !led.contains("ada") && found.contains("signup%2D2%2Fabsent"), "{found}");
    assert_eq!(console.page("/console/jobs?q=ada.lovelace%40example.com", &session).await.0, 400);

    let (status, page) = console.page("/console/jobs/signup-2%2Fabsent", &session).await;
    assert!(status == 200 && page.contains("Waits in the bulk lane"), "{page}");
    assert!(!page.contains("lovelace") && !page.contains("203.0.113.9"), "no personal byte: {page}");
    assert!(!page.contains("Cancel"), "no action for `read`");
    let (status, unknown) = console.page("/console/jobs/unknown", &session).await;
    assert!(status == 404 && unknown.contains("This job is not known. Looked through 1 waiting"), "{unknown}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_cancels_and_the_audit_names_them() {
    let mut console = Console::start().await;
    console.rig.enqueue(&check("j1", "c1")).await;
    let (reader, operator) = (console.log_in("reader").await, console.log_in("operator").await);
    let path = "/console/jobs/j1/cancel";
    assert_eq!(console.page(path, &reader).await.0, 403);
    let csrf = console.csrf(&reader).await;
    let forged = console.post(path, &[("csrf", &csrf)]).header("cookie", &reader).send().await.unwrap();
    assert_eq!(forged.status(), 403);
    let actions: u64 = console.rig.connection.xlen(console.rig.key("audit")).await.unwrap();
    assert_eq!(actions, 0, "nothing was done");

    let (_, plan) = console.page(path, &operator).await;
    assert!(plan.contains("It waits: it ends as it comes up, as cancelled."), "{plan}");
    let csrf = console.csrf(&operator).await;
    let done = console.post(path, &[("csrf", &csrf)]).header("cookie", &operator).send().await.unwrap();
    assert_eq!(done.headers()["location"], "/console/jobs/j1");
    let (_, audit) = console.page("/console/audit", &operator).await;
    assert!(audit.contains("ada (operators)") && audit.contains("console 127.0.0.1"), "{audit}");
    let (_, job) = console.page("/console/jobs/j1", &operator).await;
    assert!(job.contains("Cancelled by ada (operators)"), "{job}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_merchant_sees_its_jobs_alone() {
    let ours = super::support::MERCHANT;
    let mut console = Console::with(|config| {
        let merchant = config.xco.merchant_id.clone().unwrap();
        config.gateway.tokens[1].merchants = vec![merchant];
    })
    .await;
    let theirs = with(check("theirs", "c"), "merchant_id", "0f0e6a3f-7c53-4d4b-9f3c-2f4c7f0f3b22");
    console.rig.enqueue_all(Lane::Bulk, [with(check("ours", "c"), "merchant_id", ours), theirs]).await;
    let session = console.log_in("operator").await;
    assert_eq!(console.page("/console/jobs/ours", &session).await.0, 200);
    assert_eq!(console.page("/console/jobs/theirs", &session).await.0, 404);
    assert_eq!(console.page("/console/jobs/theirs/cancel", &session).await.0, 404);
    let (_, found) = console.page("/console/jobs?q=lane:bulk", &session).await;
    assert!(found.contains(">ours<") && !found.contains(">theirs<"), "{found}");
    for page in ["", "/audit", "/live?page=overview", "/rules", "/callers", "/batches", "/batches/spring/results"] {
        assert_eq!(console.page(&format!("/console{page}"), &session).await.0, 403, "{page}");
    }
    // Nor is a selection or a limit for a token of one merchant.
    let csrf = console.csrf(&session).await;
    for form in
        ["/cancel/plan", "/cancel", "/limits/plan", "/limits/change", "/rules/plan", "/rules/pause", "/rules/end"]
    {
        let fields = [("csrf", csrf.as_str()), ("lane", "bulk"), ("name", "total"), ("rate", "1/s"), ("total", "1")];
        let answer = console.post(&format!("/console{form}"), &fields).header("cookie", &session).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{form}");
    }
    assert!(!found.contains("/console/cancel/plan"), "{found}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_page_says_so_to_everybody() {
    let console = Console::with(|config| {
        config.redis.url = vec!["redis://127.0.0.1:1".to_owned().into()];
        config.gateway.tokens.clear();
    })
    .await;
    let (status, page) = console.page("/console", "").await;
    assert!(status == 503 && page.contains("Redis cannot be reached"), "{page}");
    assert!(!page.contains("127.0.0.1:1"), "where Redis is, is not for everybody: {page}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lives_leads_to_the_job_before_it() {
    let mut console = Console::start().await;
    console.rig.start_worker();
    let session = console.log_in("operator").await;
    let csrf = console.csrf(&session).await;
    let fields = [("csrf", csrf.as_str()), ("type", "CreateUser"), ("for", "10m")];
    let paused = console.post("/console/rules/pause", &fields).header("cookie", &session).send().await.unwrap();
    assert_eq!(paused.status(), 303);
    let user = create("", "next@example.com")["args"].take();
    let next = json!({"absent": {"type": "CreateUser", "args": user}});
    console.rig.complete(with(check("first", "c"), "next", next)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (_, page) = console.page("/console/jobs/first%2Fabsent", &session).await;
        if page.contains("after <a href=\"/console/jobs/first\"") {
            break assert!(page.contains("Delayed"), "{page}");
        }
        assert!(tokio::time::Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    console.end().await;
}
