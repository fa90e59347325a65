//! From a search to a replay that is seen to succeed, with the script and without it.

use super::{super::Console, Browser, CALLER, check, fail};

/// Finds a failed job, looks at its dead letter, plans and starts a replay of all three, with clicks alone.
async fn find_and_replay(browser: &Browser) {
    browser.write("#q", "signup-1\u{e007}").await;
    browser.until_heading("1 job here.").await;
    browser.press("signup-1").await;
    browser.until_heading("Failed").await;
    let timeline = browser.value("document.querySelector('.timeline').textContent").await;
    let timeline = timeline.as_str().unwrap();
    assert!(timeline.contains("enqueued") && timeline.contains("503") && timeline.contains("failed"), "{timeline}");

    browser.click(".pages a[href=\"/console/dead\"]").await;
    browser.until_heading("3 dead letters, all of them from the last 10 min.").await;
    browser.press("CheckUser upstream 503").await;
    browser.until_heading("3 dead letters fit").await;
    browser.press("Replay these…").await;
    browser.until_heading("Replay 3 dead letters?").await;
    assert_eq!(browser.focused().await, "Back", "Enter does nothing unplanned");
    browser.write("input[name=rate]", "1/s").await;
    browser.press("Plan again").await;
    browser.until_text("At least 2 s, because of the rate").await;
    browser.press("Replay 3").await;
    browser.until("the page of the run", "location.pathname.startsWith('/console/dead/runs/r-')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_found_replayed_and_seen_to_succeed_live() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    fail(&mut console, 3).await;
    browser.log_in(&console, "/console/jobs", "operator").await;
    find_and_replay(&browser).await;
    browser.value("window.sameDocument = true").await;
    browser.until_heading("Replay is done: 3 of 3 moved.").await;
    browser.until_text("3 absent").await;
    browser.until("the figures are final", "document.querySelector('#sign').dataset.state === 'ended'").await;
    assert_eq!(browser.value("window.sameDocument").await, true, "without a reload");
    assert_eq!(browser.value("document.querySelector('#run-actions').textContent.includes('Stop')").await, false);

    // The audit names who replayed.
    browser.open(&console.url("/console/audit")).await;
    browser.until_text("dead replay").await;
    browser.until_text("ada (operators)").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_script_jobs_are_found_replayed_and_paused() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    fail(&mut console, 3).await;
    browser.allow_scripts(false).await;
    browser.log_in(&console, "/console/jobs", "operator").await;
    find_and_replay(&browser).await;
    // The page asks for itself again.
    browser.until_heading("Replay is done: 3 of 3 moved.").await;

    browser.click(".pages a[href=\"/console/rules\"]").await;
    browser.write("input[name=reason]", "XCO asked").await;
    browser.press("Pause…").await;
    browser.until_heading("Pause everything?").await;
    browser.write("input[name=typed]", "everything").await;
    browser.press("Pause everything").await;
    browser.until_heading("Paused: everything").await;
    browser.press("End…").await;
    browser.until_heading("End the pause of everything?").await;
    browser.press("End the pause").await;
    browser.until_heading("Nothing is paused.").await;

    // Colours are chosen without leaving the page.
    browser.open(&console.url("/console/jobs?q=signup-1")).await;
    browser.click(".me > summary").await;
    browser.press("dark").await;
    browser.until("the page in dark", "document.documentElement.dataset.theme === 'dark'").await;
    assert_eq!(browser.value("location.pathname + location.search").await, "/console/jobs?q=signup-1");
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_is_shown_for_a_reason_and_is_not_kept_by_the_browser() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    fail(&mut console, 1).await;
    let email = check("signup-0", CALLER)["args"]["email"].as_str().unwrap().to_owned();
    browser.log_in(&console, "/console/dead/letter?id=signup-0", "operator").await;
    assert!(!browser.page().await.contains(&email));
    browser.write("input[name=reason]", "call 17").await;
    browser.press("Reveal").await;
    browser.until_text(&email).await;
    browser.press("Mask it again").await;
    browser.until("masked again", &format!("!document.body.innerText.includes({email:?})")).await;
    browser.open(&console.url("/console/audit")).await;
    browser.until_text("data revealed").await;
    browser.until_text("call 17").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}
