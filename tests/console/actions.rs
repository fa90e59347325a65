//! Actions: each is planned, confirmed, done and recorded, and only for whom it is.

use super::{
    Console, read,
    support::{Rig, check, with},
};
use redis::AsyncCommands;
use std::collections::BTreeMap;
use xco_worker::contract::Lane;

/// The actions of the audit, as `who action what`.
async fn audit(rig: &mut Rig) -> Vec<String> {
    let key = rig.key("audit");
    let entries: Vec<(String, BTreeMap<String, String>)> = rig.connection.xrange_all(key).await.unwrap();
    entries.into_iter().map(|(_, f)| format!("{} {} {}", f["who"], f["action"], f["what"])).collect()
}

/// Somebody with a browser.
struct Person<'a> {
    console: &'a Console,
    session: String,
    csrf: String,
}

impl<'a> Person<'a> {
    async fn log_in(console: &'a Console, token: &str) -> Self {
        let session = console.log_in(token).await;
        let csrf = console.csrf(&session).await;
        Self { console, session, csrf }
    }

    /// Sends a form, and returns the status, the address that the answer leads to, and the page.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
        let fields = [fields, &[("csrf", self.csrf.as_str())]].concat();
        let answer = self.console.post(path, &fields).header("cookie", &self.session).send().await.unwrap();
        let to = answer.headers().get("location").map_or("", |to| to.to_str().unwrap()).to_owned();
        let (status, page) = read(answer).await;
        (status, to, page)
    }

    async fn page(&self, path: &str) -> String {
        let (status, page) = self.console.page(path, &self.session).await;
        assert_eq!(status, 200, "{path}: {page}");
        page
    }
}

/// The addresses of the console with the methods that each has, from the source of its router.
fn routed() -> Vec<(String, bool, bool)> {
    let source = include_str!("../../src/console/routes.rs");
    let mut found = Vec::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, rest) = route.split_once('"').unwrap();
        let handlers = rest.lines().next().unwrap();
        let has = |method: &str| handlers.contains(&format!(" {method}(")) || handlers.contains(&format!(".{method}("));
        let path = if path == "/" { "" } else { path };
        found.push((format!("/console{path}"), has("get"), has("post")));
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_answers_without_a_login_and_no_form_acts_without_role_secret_or_origin() {
    let mut console = Console::start().await;
    // What somebody without a login, or who only reads, may send.
    let open = ["/console/login", "/console/assets/{file}"];
    let for_readers =
        ["/console/login", "/console/logout", "/console/theme", "/console/jobs/search", "/console/dead/letter"];
    let reader = Person::log_in(&console, "reader").await;
    let operator = Person::log_in(&console, "operator").await;
    for (path, gets, posts) in routed() {
        let named = [("{id}", "j1"), ("{run}", "r-1"), ("{batch}", "spring"), ("{file}", "none.000000000000")];
        let at = named.into_iter().fold(path.clone(), |at, (name, value)| at.replace(name, value));
        if gets && !open.contains(&path.as_str()) {
            let answer = console.get(&at).send().await.unwrap();
            let to = answer.headers().get("location").map_or("", |to| to.to_str().unwrap());
            assert!(answer.status() == 303 && to.starts_with("/console/login"), "{at}: {answer:?}");
        }
        if !posts || path == "/console/login" {
            continue;
        }
        let anonymous = console.post(&at, &[("csrf", &operator.csrf)]).send().await.unwrap();
        assert_eq!(anonymous.status(), 303, "{at} without a login");
        let with_session = |request: reqwest::RequestBuilder| request.header("cookie", &operator.session).send();
        let old = with_session(console.post(&at, &[("csrf", &reader.csrf)])).await.unwrap();
        assert_eq!(old.status(), 403, "{at} with the secret of another session");
        let form = [("csrf", &operator.csrf)];
        let foreign = console.client.post(console.url(&at)).header("sec-fetch-site", "cross-site").form(&form);
        assert_eq!(with_session(foreign).await.unwrap().status(), 403, "{at} from another site");
        if !for_readers.contains(&path.as_str()) {
            assert_eq!(reader.post(&at, &[]).await.0, 403, "{at} by somebody who only reads");
        }
    }
    assert_eq!(audit(&mut console.rig).await, Vec::<String>::new(), "nothing was done");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_finds_is_cancelled_after_a_plan() {
    let mut console = Console::start().await;
    let jobs = (0..120).map(|n| with(check(&format!("s{n}"), &format!("c{n}")), "batch", "spring 1"));
    console.rig.enqueue_all(Lane::Bulk, jobs).await;
    console.rig.enqueue_all(Lane::Bulk, (0..3).map(|n| check(&format!("o{n}"), "few"))).await;
    let operator = Person::log_in(&console, "operator").await;
    let reader = Person::log_in(&console, "reader").await;
    // Offered where a cancellation covers exactly what is found.
    assert!(operator.page("/console/jobs?q=caller:few").await.contains("name=\"caller\" value=\"few\""));
    for (person, q) in
        [(&operator, "caller:few+state:waiting"), (&operator, "o1"), (&operator, ""), (&reader, "caller:few")]
    {
        let page = person.page(&format!("/console/jobs?q={q}")).await;
        assert!(!page.contains("/console/cancel/plan"), "{q}");
    }
    // Few jobs: no number is typed.
    let (status, _, plan) = operator.post("/console/cancel/plan", &[("caller", "few")]).await;
    assert!(status == 200 && plan.contains("<h1>Cancel 3 jobs: caller few?</h1>"), "{plan}");
    assert!(!plan.contains("name=\"typed\""), "{plan}");
    let (_, to, page) = operator.post("/console/cancel", &[("caller", "few"), ("total", "3")]).await;
    assert_eq!(to, "/console/rules?did=cancel", "{page}");
    let rules = operator.page(&to).await;
    assert!(rules.contains("The cancellation is in force") && rules.contains("caller few"), "{rules}");

    // Many: the number must be typed, and the right one.
    let batch = [("batch", "spring 1")];
    let (_, _, plan) = operator.post("/console/cancel/plan", &batch).await;
    assert!(plan.contains("Cancel 120 jobs") && plan.contains("type the number 120"), "{plan}");
    for typed in [&[("total", "120")][..], &[("total", "120"), ("typed", "119")], &[("typed", "120")], &[]] {
        let (status, _, page) = operator.post("/console/cancel", &[&batch[..], typed].concat()).await;
        assert!(status == 400 && page.contains("Nothing was done"), "{typed:?}: {page}");
    }
    let done = [&batch[..], &[("total", "120"), ("typed", "120")]].concat();
    assert_eq!(operator.post("/console/cancel", &done).await.1, "/console/rules?did=cancel");
    // Where nothing fits, nothing is asked; nobody cancels everything, and a faulty selection is none.
    assert_eq!(operator.post("/console/cancel/plan", &[("batch", "none")]).await.0, 409);
    assert_eq!(operator.post("/console/cancel/plan", &[]).await.0, 400);
    assert_eq!(operator.post("/console/cancel", &[("lane", "odd"), ("total", "1")]).await.0, 400);
    let audit = audit(&mut console.rig).await;
    assert!(
        audit.iter().any(|line| line.starts_with("ada (operators) cancel ") && line.contains("spring 1")),
        "{audit:?}"
    );
    assert!(audit.iter().all(|line| !line.contains("\"few\"")), "a caller is a fingerprint: {audit:?}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_ended_and_what_has_not_come_up_goes_on() {
    let mut console = Console::start().await;
    console.rig.enqueue(&with(check("kept", "c"), "batch", "spring")).await;
    let operator = Person::log_in(&console, "operator").await;
    operator.post("/console/cancel", &[("batch", "spring"), ("total", "1")]).await;
    let fields = [("order", "cancel"), ("batch", "spring")];
    let (status, _, asked) = operator.post("/console/rules/end", &fields).await;
    assert!(status == 200 && asked.contains("End the cancellation of batch spring?"), "{asked}");
    let confirmed = [&fields[..], &[("confirmed", "yes")]].concat();
    assert_eq!(operator.post("/console/rules/end", &confirmed).await.1, "/console/rules?did=uncancel");
    assert_eq!(operator.post("/console/rules/end", &confirmed).await.1, "/console/rules?did=none");
    let audited = audit(&mut console.rig).await;
    let ended: Vec<_> = audited.iter().filter(|line| line.contains(" cancel ended ")).collect();
    assert!(ended.len() == 1 && ended[0].contains("spring"), "{audited:?}");
    console.rig.start_worker();
    assert_eq!(console.rig.completion("kept").await["status"], "succeeded");
    console.rig.stop_workers().await;
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_and_reset() {
    let mut console = Console::start().await;
    let operator = Person::log_in(&console, "operator").await;
    let reader = Person::log_in(&console, "reader").await;
    let page = reader.page("/console/rules").await;
    assert!(page.contains("Limits in force") && !page.contains("/console/limits/plan"), "{page}");
    let change = [("name", "total"), ("rate", "100/s"), ("burst", "50"), ("reason", "XCO asked")];
    let (status, _, plan) = operator.post("/console/limits/plan", &change).await;
    assert!(status == 200 && plan.contains("<h1>Set total.rate 100/s, total.burst 50?</h1>"), "{plan}");
    assert_eq!(operator.post("/console/limits/change", &change).await.1, "/console/rules?did=limit");
    let page = operator.page("/console/rules?did=limit").await;
    for wanted in ["The limit is changed.", "100/s, burst 50", "ada (operators)", "XCO asked", "Reset total…"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let reset = [("act", "reset"), ("name", "total")];
    let (_, _, plan) = operator.post("/console/limits/plan", &reset).await;
    assert!(plan.contains("<h1>Reset total?</h1>"), "{plan}");
    assert_eq!(operator.post("/console/limits/change", &reset).await.1, "/console/rules?did=limit");
    assert_eq!(operator.post("/console/limits/plan", &reset).await.0, 409, "it is as configured");
    operator.post("/console/limits/change", &[("name", "concurrency"), ("value", "3")]).await;
    assert!(operator.page("/console/rules").await.contains("Reset concurrency…"));
    for wrong in [
        &[("name", "all"), ("rate", "1/s")][..],
        &[("name", "total"), ("rate", "fast")],
        &[("name", "total")],
        &[("name", "client"), ("burst", "5")],
        &[("name", "concurrency"), ("value", "0")],
        &[("name", "total"), ("rate", "1/s"), ("reason", "a\nb")],
    ] {
        assert_eq!(operator.post("/console/limits/change", wrong).await.0, 400, "{wrong:?}");
    }
    let audited = audit(&mut console.rig).await;
    let named: Vec<_> = audited.iter().map(|line| line.split(" {").next().unwrap()).collect();
    let set = "ada (operators) limits set";
    assert_eq!(named, [set, "ada (operators) limits reset", set], "{audited:?}");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_for_a_person_gets_an_address_that_can_be_shared_and_names_nobody() {
    let mut console = Console::start().await;
    let email = "ada.lovelace@example.com";
    let mut job = check("signup-1", "c");
    job["args"]["email"] = "Ada.Lovelace@Example.com".into();
    console.rig.enqueue_all(Lane::Bulk, [job, check("signup-2", "c")]).await;
    let reader = Person::log_in(&console, "reader").await;
    let (status, to, _) = reader.post("/console/jobs/search", &[("q", &format!("lane:bulk {email}"))]).await;
    assert_eq!(status, 303);
    let seal = to.strip_prefix("/console/jobs?q=lane%3Abulk+person%3Ah1.").unwrap();
    assert!(seal.len() == 16 && seal.bytes().all(|byte| byte.is_ascii_hexdigit()), "{to}");
    // A colleague opens the link.
    let other = Person::log_in(&console, "operator").await;
    let page = other.page(&to).await;
    assert!(page.contains(">signup-1<") && !page.contains(">signup-2<"), "{page}");
    assert!(!page.to_lowercase().contains("lovelace"), "no personal byte: {page}");
    assert!(!page.contains("/console/cancel/plan"), "a cancellation cannot name the person");
    // The same person has the same address, however it is written; another has another.
    let again = reader.post("/console/jobs/search", &[("q", "lane:bulk email:ADA.lovelace@example.com")]).await.1;
    assert_eq!(again, to);
    let phone = reader.post("/console/jobs/search", &[("q", "+33612345678")]).await.1;
    assert!(phone.starts_with("/console/jobs?q=person%3Ah1.") && !phone.contains("336"), "{phone}");
    assert!(reader.page(&phone).await.contains("No job fits."));
    // Typed again, a sealed search stays as it is.
    let typed = format!("lane:bulk person:h1.{seal}");
    assert_eq!(reader.post("/console/jobs/search", &[("q", &typed)]).await.1, to);
    for wrong in ["q=ada.lovelace%40example.com", "q=person:h1.xyz", "q=person:ada.lovelace%40example.com"] {
        let (status, page) = console.page(&format!("/console/jobs?{wrong}"), &reader.session).await;
        assert!(status == 400 && !page.contains("lovelace@"), "{wrong}: {page}");
    }
    console.end().await;
}
