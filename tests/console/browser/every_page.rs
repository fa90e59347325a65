//! Every page, in both themes and several widths: nothing in the browser's log, nothing beside the screen, no violation of axe-core.
//!
//! `AXE_CORE` is the path of an `axe.min.js`; without it, that of the Python package `axe-playwright-python` is taken if it is
//! installed. With `SCREENSHOTS`, a folder, every page is drawn into it.

use super::{
    super::{
        Console,
        support::{check, report_skipped, with},
    },
    Browser, fail,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use xco_worker::{
    contract::Lane,
    sandbox::{Fault, Route},
};

/// A page: its name, its address, and what is pressed there before it is looked at.
const PAGES: [(&str, &str, &[&str]); 21] = [
    ("overview", "/console", &[]),
    ("overview-menu", "/console?range=7d", &["ada (operators)"]),
    ("overview-help", "/console", &["?"]),
    ("overview-numbers", "/console", &["As numbers"]),
    ("jobs", "/console/jobs", &["What can be searched"]),
    ("jobs-none", "/console/jobs?q=batch:nothing", &[]),
    ("job-failed", "/console/jobs/signup-1", &[]),
    ("job-delayed", "/console/jobs/throttled", &[]),
    ("job-cancel", "/console/jobs/throttled/cancel", &[]),
    ("dead", "/console/dead", &[]),
    ("dead-letter", "/console/dead/letter?id=signup-1", &[]),
    ("dead-replay", "/console/dead", &["Replay these…"]),
    ("dead-discard", "/console/dead", &["Discard these…"]),
    ("dead-runs", "/console/dead/runs", &[]),
    ("callers", "/console/callers", &[]),
    ("batches", "/console/batches", &[]),
    ("rules", "/console/rules", &[]),
    ("rules-pause", "/console/rules", &["Pause…"]),
    ("rules-end", "/console/rules", &["End…"]),
    ("audit", "/console/audit", &[]),
    ("not-found", "/console/nothing", &[]),
];
const LOOKS: [(u32, u32, &str); 4] =
    [(1280, 800, "light"), (1280, 800, "dark"), (390, 844, "light"), (390, 844, "dark")];

/// The source of axe-core, if it is installed.
fn axe() -> Option<String> {
    let find = "import importlib.util as u; print(u.find_spec('axe_playwright_python').submodule_search_locations[0])";
    let of_python = || {
        let output =
            Command::new("python3").args(["-c", find]).output().ok().filter(|output| output.status.success())?;
        Some(Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("axe.min.js"))
    };
    let path = std::env::var_os("AXE_CORE").map(PathBuf::from).or_else(of_python);
    let source = path.and_then(|path| std::fs::read_to_string(path).ok());
    if source.is_none() {
        report_skipped("the console by axe-core", "axe-playwright-python, or AXE_CORE,");
    }
    source
}

/// A queue with something to see on every page. Returns the address of a replay.
async fn fill(browser: &Browser, console: &mut Console) -> String {
    console.rig.config.limits.learn = true;
    fail(console, 3).await;
    let malformed = json!({"id": "malformed", "type": "CheckUser", "caller_id": "c", "args": {"email": "ada at home"}});
    console.rig.complete(malformed).await;
    console.rig.sandbox.order(Fault::status(429).retry_after("600").on(Route::Exists));
    console.rig.enqueue(&check("throttled", "203.0.113.77")).await;
    console.rig.enqueue_all(Lane::Bulk, [with(check("bulk", "c"), "batch", "spring")]).await;

    let folder = tempfile::tempdir().unwrap();
    let rows = "customer_reference,email\nc-1,ada@example.com\nc-2,bob@example.com\nc-3,no address\n";
    std::fs::write(folder.path().join("customers.csv"), rows).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_xco-worker"));
    command.current_dir(folder.path()).args(["backfill", "customers.csv"]).kill_on_drop(true);
    command.env("XCO_WORKER__REDIS__URL", console.rig.redis.url_as("operator"));
    command.env("XCO_WORKER__REDIS__NAMESPACE", &console.rig.config.redis.namespace);
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("rejected") || output.status.success(), "{told}");

    browser.log_in(console, "/console/dead/letter?id=signup-0", "operator").await;
    browser.press("Replay it…").await;
    browser.press("Replay 1").await;
    browser.until_heading("Replay is done: 1 of 1 moved.").await;
    let run = browser.value("location.pathname").await.as_str().unwrap().to_owned();
    browser.open(&console.url("/console/rules")).await;
    browser.write("input[name=caller]", "203.0.113.5").await;
    browser.write("input[name=reason]", "asks too often").await;
    browser.press("Pause…").await;
    browser.press("Pause caller 203.0.113.5").await;
    browser.until_heading("Paused").await;
    run
}

/// Draws the whole page.
async fn draw(browser: &Browser, (width, height, theme): (u32, u32, &str), name: &str) {
    let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
    let whole = browser.value("document.documentElement.scrollHeight").await.as_u64().unwrap();
    browser.look_like(width, height.max(u32::try_from(whole.min(3_000)).unwrap()), theme).await;
    let drawn = browser.devtools("Page.captureScreenshot", json!({"format": "png"})).await;
    let file = Path::new(&folder).join(format!("{name}-{theme}-{width}.png"));
    std::fs::write(file, STANDARD.decode(drawn["data"].as_str().unwrap()).unwrap()).unwrap();
}

/// What axe-core finds wrong, one line for each kind.
async fn violations(browser: &Browser, axe: &str) -> Vec<String> {
    browser.load(axe).await;
    let found = browser.run("return await axe.run({ resultTypes: ['violations'] });").await;
    let Value::Array(found) = &found["violations"] else { panic!("{found}") };
    let line = |violation: &Value| {
        let nodes = violation["nodes"].as_array().unwrap();
        let html: Vec<_> =
            nodes.iter().take(3).map(|node| format!("{} {}", node["target"], node["failureSummary"])).collect();
        format!("{} ({}): {}", violation["id"], violation["impact"], html.join(" | "))
    };
    found.iter().map(line).collect()
}

async fn go(browser: &Browser, console: &Console, (name, path, steps): (&str, &str, &[&str])) {
    browser.open(&console.url(path)).await;
    for step in steps {
        if *step == "?" { browser.keys(step).await } else { browser.press(step).await }
    }
    browser.until(name, "document.readyState === 'complete' && document.querySelector('h1')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_has_an_error_in_any_theme_and_width() {
    let Some(browser) = Browser::start().await else { return };
    let mut console = Console::start().await;
    let axe = axe();
    browser.open(&console.url("/console/login")).await;
    let mut faults = Vec::new();
    look(&browser, axe.as_deref(), "login", &mut faults).await;
    let run = fill(&browser, &mut console).await;
    let shown = [("dead-run", run.as_str(), &[] as &[&str])];
    for page in PAGES.into_iter().chain(shown) {
        go(&browser, &console, page).await;
        // The browser itself reports the answer 404.
        let complaints = browser.complaints().await.into_iter().filter(|line| !line.contains("404 (Not Found)"));
        faults.extend(complaints.map(|line| format!("{}: {line}", page.0)));
        look(&browser, axe.as_deref(), page.0, &mut faults).await;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    browser.end().await;
    console.end().await;
}

/// Looks at the page as it is, in all themes and widths.
async fn look(browser: &Browser, axe: Option<&str>, name: &str, faults: &mut Vec<String>) {
    for look in LOOKS {
        browser.look_like(look.0, look.1, look.2).await;
        if let Some(axe) = axe {
            let found = violations(browser, axe).await;
            faults.extend(found.into_iter().map(|line| format!("{name} {} {}: {line}", look.2, look.0)));
        }
        draw(browser, look, name).await;
    }
    for width in [390, 320] {
        browser.look_like(width, 844, "light").await;
        let beside = browser.value("document.documentElement.scrollWidth - innerWidth").await.as_i64().unwrap();
        if beside > 0 {
            faults.push(format!("{name}: {beside} px do not fit in {width}"));
        }
        let heading = browser.value("document.querySelector('h1').getBoundingClientRect().width").await;
        if heading.as_f64().unwrap() < 240.0 {
            faults.push(format!("{name}: the heading is squeezed to {heading} px of {width}"));
        }
    }
    browser.look_like(1280, 800, "light").await;
}
