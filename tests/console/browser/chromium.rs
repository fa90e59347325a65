//! A headless Chromium of a test, and what people do with it.

use super::driver::{By, Driver, Element};
use crate::{Console, support::report_skipped};
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A busy machine needs time.
const LONGEST: Duration = Duration::from_secs(60);
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const ARGUMENTS: [&str; 10] = [
    "--headless=new",
    // The tests also run as root, and in containers.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    // A mouse that can point at things, also where the machine has none.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
    "--lang=en",
    "--window-size=1280,900",
];

/// A browser with one window.
pub(super) struct Browser {
    driver: Driver,
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Browser {
    /// Starts one. `None`, and a report: it is not installed.
    pub(super) async fn start() -> Option<Self> {
        let binary = CHROMIUM.into_iter().find(|name| is_there(name)).filter(|_| is_there("chromedriver"));
        let Some(binary) = binary else {
            report_skipped("the console in a browser", "chromium and chromium-driver");
            return None;
        };
        let paths = std::env::var_os("PATH")?;
        let path = std::env::split_paths(&paths).map(|folder| folder.join(binary)).find(|path| path.exists())?;
        Some(Self { driver: Driver::start(&path, &ARGUMENTS).await })
    }

    pub(super) async fn end(self) {
        self.driver.end().await;
    }

    pub(super) async fn open(&self, address: &str) {
        self.driver.post("/url", json!({"url": address})).await.unwrap();
    }

    /// Opens a page of the console, and logs in there.
    pub(super) async fn log_in(&self, console: &Console, path: &str, token: &str) {
        self.open(&console.url(path)).await;
        self.write("#token", token).await;
        self.write("#person", "ada").await;
        self.press("Log in").await;
        let wanted = format!("location.pathname + location.search === {}", json!(path));
        self.until(&format!("the login leads to {path}"), &wanted).await;
    }

    /// The value of an expression of the page.
    pub(super) async fn value(&self, expression: &str) -> Value {
        self.driver.execute("sync", &format!("return {expression};")).await.unwrap()
    }

    /// Runs statements, which may wait with `await`, and returns what they return.
    pub(super) async fn run(&self, statements: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {statements} }})().then(done, (e) => done(String(e)));"
        );
        self.driver.execute("async", &script).await.unwrap()
    }

    /// Runs a script that no policy of the page holds back.
    pub(super) async fn load(&self, script: &str) {
        self.driver.execute("sync", script).await.unwrap();
    }

    /// Waits until an expression of the page holds.
    pub(super) async fn until(&self, what: &str, expression: &str) {
        let deadline = Instant::now() + LONGEST;
        let script = format!("return Boolean({expression});");
        // While a page is left, it cannot be asked.
        while !self.driver.execute("sync", &script).await.is_ok_and(|is| is == true) {
            assert!(Instant::now() < deadline, "never: {what}; the page:\n{}", self.page().await);
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the page's heading holds a text.
    pub(super) async fn until_heading(&self, text: &str) {
        self.until(text, &format!("document.querySelector('h1').textContent.includes({})", json!(text))).await;
    }

    /// Waits until the page holds a text.
    pub(super) async fn until_text(&self, text: &str) {
        self.until(text, &format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// What is to be seen of the page, with its address.
    pub(super) async fn page(&self) -> String {
        let text = self.driver.execute("sync", "return location.href + '\\n' + document.body.innerText;").await;
        text.map_or_else(|error| error, |text| text.as_str().unwrap_or_default().to_owned())
    }

    /// The first element that is found and can be seen, once there is one.
    async fn element(&self, by: By<'_>, what: &str) -> Element {
        let deadline = Instant::now() + LONGEST;
        loop {
            for element in self.driver.find(by).await.unwrap_or_default() {
                if self.driver.is_displayed(&element).await {
                    return element;
                }
            }
            assert!(Instant::now() < deadline, "never: {what}; the page:\n{}", self.page().await);
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Clicks on what this selector finds.
    pub(super) async fn click(&self, css: &str) {
        self.click_on(By::Css(css), css).await;
    }

    /// Clicks on the link or button with this name that can be seen.
    pub(super) async fn press(&self, name: &str) {
        let path = format!("//*[self::a or self::button or self::summary][normalize-space()='{name}']");
        self.click_on(By::XPath(&path), name).await;
    }

    async fn click_on(&self, by: By<'_>, what: &str) {
        loop {
            let element = self.element(by, what).await;
            match self.driver.act(&element, "click", json!({})).await {
                Ok(_) => return,
                // The page, or a part of it, came anew in the meantime.
                Err(error) if error.contains("stale element") => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Writes into a field, in place of what it holds.
    pub(super) async fn write(&self, css: &str, text: &str) {
        let field = self.element(By::Css(css), css).await;
        self.driver.act(&field, "clear", json!({})).await.unwrap();
        self.driver.act(&field, "value", json!({"text": text})).await.unwrap();
    }

    /// Presses these keys, one after the other, wherever the focus is.
    pub(super) async fn keys(&self, keys: &str) {
        self.driver.keys(keys).await.unwrap();
    }

    /// Moves the pointer to the middle of this element.
    pub(super) async fn point_at(&self, css: &str) {
        let element = self.element(By::Css(css), css).await;
        self.driver.point_at(&element).await.unwrap();
    }

    /// The name of what has the focus.
    pub(super) async fn focused(&self) -> String {
        let script = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()";
        self.value(script).await.as_str().unwrap_or_default().to_owned()
    }

    /// Presses Tab until this has the focus. Returns the names of all that had it.
    pub(super) async fn tab_to(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|last: &String| !last.starts_with(name)) {
            assert!(names.len() < 60, "never {name}: {names:?}");
            self.keys("\u{e004}").await;
            names.push(self.focused().await);
        }
        names
    }

    /// A command of the browser's own protocol.
    pub(super) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.driver.post("/goog/cdp/execute", body).await.unwrap()
    }

    /// Runs this before the scripts of every page that is opened from now on.
    pub(super) async fn before_scripts(&self, source: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": source})).await;
    }

    /// Whether pages may run scripts of their own.
    pub(super) async fn allow_scripts(&self, allow: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !allow})).await;
    }

    /// Sets the size of the window, and the theme of the system.
    pub(super) async fn look_like(&self, width: u32, height: u32, theme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let theme = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.devtools("Emulation.setEmulatedMedia", theme).await;
    }

    /// What the browser complained about since the last call: errors of scripts, violations of the policy, failed loads.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.driver.post("/se/log", json!({"type": "browser"})).await.unwrap();
        let log = log.as_array().unwrap().iter().filter(|entry| entry["level"] != "DEBUG" && entry["level"] != "INFO");
        log.map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }
}
