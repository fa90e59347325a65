//! The console by keys alone.

use super::{super::Console, Browser, fail};
use crate::support::create;

const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_begins_and_ends_by_keys_alone() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    fail(&mut console, 2).await;
    browser.log_in(&console, "/console/rules", "operator").await;

    // The first stop leads past the navigation.
    browser.keys(TAB).await;
    assert_eq!(browser.focused().await, "Skip to the content");
    let is_visible = "document.activeElement.getBoundingClientRect().top >= 0";
    assert_eq!(browser.value(is_visible).await, true);
    browser.keys(ENTER).await;
    browser.until("the content has the focus", "document.activeElement.id === 'main'").await;
    let names = browser.tab_to("Type").await;
    assert!(names.len() == 2 && names[0].starts_with("Lane"), "in the order of reading: {names:?}");
    browser.keys("CreateUser").await;
    browser.tab_to("Why").await;
    browser.keys("XCO asked").await;
    browser.tab_to("Pause…").await;
    browser.keys(ENTER).await;
    browser.until_heading("Pause type CreateUser?").await;
    assert_eq!(browser.focused().await, "Back");
    browser.keys(TAB).await;
    assert_eq!(browser.focused().await, "Pause type CreateUser");
    browser.keys(ENTER).await;
    browser.until_heading("Paused: type CreateUser").await;
    browser.until_text("in force on 1 of 1 worker").await;

    console.rig.enqueue(&create("held", "held@example.com")).await;
    browser.open(&console.url("/console/jobs/held")).await;
    browser.until_heading("pause").await;
    browser.open(&console.url("/console/rules")).await;
    browser.tab_to("End…").await;
    browser.keys(ENTER).await;
    browser.until_heading("End the pause of type CreateUser?").await;
    assert_eq!(browser.focused().await, "Back");
    browser.tab_to("End the pause").await;
    browser.keys(ENTER).await;
    browser.until_heading("Nothing is paused.").await;
    assert_eq!(console.rig.completion("held").await["status"], "succeeded");

    letters_lead_to_pages(&browser).await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}

async fn letters_lead_to_pages(browser: &Browser) {
    // A dialog takes the focus, Escape closes it, and the focus is back where it was.
    browser.tab_to("Pause…").await;
    browser.keys("?").await;
    browser.until("the help is open", "document.querySelector('#help').open").await;
    assert_eq!(browser.value("document.querySelector('#help').contains(document.activeElement)").await, true);
    browser.keys(ESCAPE).await;
    browser.until("the help is closed", "!document.querySelector('#help').open").await;
    assert_eq!(browser.focused().await, "Pause…");
    // In a field, letters are letters.
    browser.keys("/").await;
    browser.until("the search has the focus", "document.activeElement.id === 'q'").await;
    browser.keys("g?/").await;
    assert_eq!(browser.value("document.querySelector('#q').value").await, "g?/");
    browser.tab_to("ada").await;
    browser.keys("gd").await;
    browser.until_heading("2 dead letters").await;
    for (key, row) in [("j", "signup-1"), ("j", "signup-0"), ("j", "signup-0"), ("k", "signup-1")] {
        browser.keys(key).await;
        assert_eq!(browser.focused().await, row);
    }
    browser.keys(ENTER).await;
    browser.until("the dead letter", "location.search === '?id=signup-1'").await;
}
