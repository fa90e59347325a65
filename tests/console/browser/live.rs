//! Live parts: without a reload, never under a hand, and never when nobody looks.

use super::{super::Console, Browser, check};

/// Keeps the streams of a page where a test finds them, and makes long times short.
const WATCHED: &str = "
    window.streams = [];
    const Real = window.EventSource;
    window.EventSource = class extends Real { constructor(...all) { super(...all); window.streams.push(this); } };
    const later = window.setTimeout;
    window.setTimeout = (what, ms, ...all) => later(what, ms >= 500 ? ms / 100 : ms, ...all);";
const VERDICT: &str = "document.querySelector('#verdict h1').textContent";
const PEOPLE: &str = "document.querySelector('#boxes b').textContent";

/// Opens the page as one that is watched.
async fn watched(console: &Console, path: &str) -> Option<Browser> {
    let browser = Browser::start().await?;
    browser.before_scripts(WATCHED).await;
    browser.log_in(console, path, "reader").await;
    browser.until("live", "document.querySelector('#sign').dataset.state === 'live'").await;
    browser.value("window.sameDocument = true").await;
    Some(browser)
}

/// Waits until the verdict counts this many people, and the rest of the page has been updated as well.
async fn until_people(browser: &Browser, count: u32) {
    let words = if count == 1 { "1 person waits".to_owned() } else { format!("{count} people wait") };
    browser.until(&words, &format!("{VERDICT}.includes({words:?})")).await;
    browser.run("await new Promise((then) => streams.at(-1).addEventListener('tick', then, { once: true }));").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_change_without_a_reload_and_never_under_a_hand() {
    let mut console = Console::start().await;
    let Some(browser) = watched(&console, "/console").await else { return console.end().await };
    console.rig.enqueue(&check("one", "c")).await;
    until_people(&browser, 1).await;
    assert_eq!(browser.value(PEOPLE).await, "1");

    let place = browser.value("JSON.stringify(document.querySelector('#boxes a').getBoundingClientRect())").await;
    browser.point_at("#boxes a").await;
    console.rig.enqueue(&check("two", "c")).await;
    until_people(&browser, 2).await;
    assert_eq!(browser.value(PEOPLE).await, "1", "it waits while the pointer is on a link of it");
    let now = browser.value("JSON.stringify(document.querySelector('#boxes a').getBoundingClientRect())").await;
    assert_eq!(now, place, "nothing moves");
    browser.point_at(".brand").await;
    browser.until("it changes afterwards", &format!("{PEOPLE} === '2'")).await;

    browser.value("document.querySelector('#boxes a').focus()").await;
    console.rig.enqueue(&check("three", "c")).await;
    until_people(&browser, 3).await;
    assert_eq!(browser.value(PEOPLE).await, "2", "it waits while a link of it has the focus");
    browser.value("document.activeElement.blur()").await;
    browser.until("it changes afterwards", &format!("{PEOPLE} === '3'")).await;

    // While a dialog is open, nothing changes.
    browser.keys("?").await;
    browser.until("the help is open", "document.querySelector('#help').open").await;
    console.rig.enqueue(&check("four", "c")).await;
    browser.run("for (let n = 0; n < 3; n += 1) await new Promise((then) => streams.at(-1).addEventListener('tick', then, { once: true }));").await;
    assert!(browser.value(VERDICT).await.as_str().unwrap().contains("3 people"));
    browser.keys("\u{e00c}").await;
    until_people(&browser, 4).await;
    assert_eq!(browser.value("window.sameDocument").await, true);

    // Nobody looks: the stream ends. Somebody looks again: there is another.
    let hide = |hidden: bool| {
        let script = format!(
            "(Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}), \
              document.dispatchEvent(new Event('visibilitychange')))"
        );
        let browser = &browser;
        async move { browser.value(&script).await }
    };
    hide(true).await;
    browser.until("the stream is closed", "streams.length === 1 && streams[0].readyState === EventSource.CLOSED").await;
    hide(false).await;
    browser.until("another is open", "streams.length === 2 && streams[1].readyState === EventSource.OPEN").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_job_follows_it_to_its_end_and_asks_no_more() {
    let mut console = Console::start().await;
    console.rig.enqueue(&check("job", "c")).await;
    let Some(browser) = watched(&console, "/console/jobs/job").await else { return console.end().await };
    console.rig.start_worker();
    browser.until_heading("Succeeded").await;
    browser.until("the figures are final", "document.querySelector('#sign').dataset.state === 'ended'").await;
    // Longer than it takes to ask again.
    browser.run("await new Promise((then) => setTimeout(then, 300));").await;
    let streams = browser.value("streams.map((stream) => stream.readyState)").await;
    assert_eq!(streams, serde_json::json!([2]), "one stream, and it is closed");
    assert_eq!(browser.value("window.sameDocument").await, true);
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
    console.end().await;
}
