//! Somebody whose token only reads, and whose session ends while a page is open.

use super::{super::Console, Browser, CALLER, check, fail};

const PAGES: [&str; 10] = [
    "/console",
    "/console/jobs",
    "/console/jobs/signup-0",
    "/console/dead",
    "/console/dead/letter?id=signup-0",
    "/console/dead/runs",
    "/console/callers",
    "/console/batches",
    "/console/rules",
    "/console/audit",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_no_action_and_no_person_and_is_told_when_the_session_ends() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    fail(&mut console, 2).await;
    browser.log_in(&console, "/console/audit", "reader").await;
    let email = check("signup-0", CALLER)["args"]["email"].as_str().unwrap().to_owned();
    for path in PAGES {
        browser.open(&console.url(path)).await;
        let forms = browser.value("[...document.forms].map((form) => form.getAttribute('action'))").await;
        for form in forms.as_array().unwrap() {
            let harmless = ["jobs/search", "theme", "logout", "dead", "audit"].map(|name| format!("/console/{name}"));
            assert!(harmless.iter().any(|name| form == name.as_str()), "{path}: {form}");
        }
        let html = browser.value("document.documentElement.outerHTML").await;
        let html = html.as_str().unwrap();
        assert!(!html.contains(&email) && !html.contains(CALLER), "{path}: {html}");
    }

    // What arrives later shows no more.
    browser.open(&console.url("/console/jobs/later")).await;
    browser.until_heading("Not found").await;
    // The browser itself reports the answer 404.
    browser.complaints().await;
    browser.open(&console.url("/console")).await;
    browser.until("live", "document.querySelector('#sign').dataset.state === 'live'").await;
    let html = browser.value("document.documentElement.outerHTML").await;
    assert!(!html.as_str().unwrap().contains(CALLER));

    let elsewhere = console.log_in("reader").await;
    let csrf = console.csrf(&elsewhere).await;
    let fields = [("csrf", csrf.as_str()), ("everywhere", "yes")];
    console.post("/console/logout", &fields).header("cookie", &elsewhere).send().await.unwrap();
    browser.until_text("Log in again").await;
    browser.press("Log in again").await;
    browser.until_text("Your session has ended").await;
    browser.write("#token", "reader").await;
    browser.write("#person", "ada").await;
    browser.press("Log in").await;
    browser.until("back on the page", "location.pathname === '/console'").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}
