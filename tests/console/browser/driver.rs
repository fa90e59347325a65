//! A browser by remote control: JSON over HTTP to `chromedriver` on this machine. The crates for it bring a licence that this project
//! does not permit, or change the order of JSON members in everything that is built with them.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// The name under which the protocol hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// An element of the page.
pub(super) struct Element(String);

/// How an element is found.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    Css(&'a str),
    XPath(&'a str),
}

/// `chromedriver`, with the browser that it started. The end of the test ends them both, however the test ends.
pub(super) struct Driver {
    process: Child,
    http: Client,
    /// The address of the session.
    session: String,
    profile: TempDir,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.process.id()) {
            // Nothing is left to kill if they have ended by themselves.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

impl Driver {
    /// Starts it on a free port, as the leader of a group of processes, and a browser with a profile of its own.
    pub(super) async fn start(binary: &Path, arguments: &[&str]) -> Self {
        // It also holds what they would leave in the folder for temporary files.
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.env("TMPDIR", profile.path());
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("started successfully on port")).expect("chromedriver starts");
        // It must be able to write on.
        std::thread::spawn(move || lines.for_each(drop));
        let port = line.rsplit(' ').next().unwrap().trim_end_matches('.');
        // Another test of this process may have installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut driver = Self { process, http, session, profile };
        let folder = format!("--user-data-dir={}", driver.profile.path().display());
        let arguments: Vec<&str> = arguments.iter().copied().chain([folder.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": {"args": arguments, "binary": binary}, "goog:loggingPrefs": {"browser": "ALL"},
        });
        let begun = driver.post("", json!({"capabilities": {"alwaysMatch": wanted}})).await.expect("a browser");
        driver.session = format!("{}/{}", driver.session, begun["sessionId"].as_str().unwrap());
        driver
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.session));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        let is_done = response.status().is_success();
        let mut answer: Value = response.json().await.map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        if is_done { Ok(value) } else { Err(format!("{path}: {}: {}", value["error"], value["message"])) }
    }

    /// Gives a command of the session.
    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Runs a script in the page. `kind` is `sync`, or `async` if the script calls its last argument when it has ended.
    pub(super) async fn execute(&self, kind: &str, script: &str) -> Result<Value, String> {
        self.post(&format!("/execute/{kind}"), json!({"script": script, "args": []})).await
    }

    /// All elements that are found now.
    pub(super) async fn find(&self, by: By<'_>) -> Result<Vec<Element>, String> {
        let (using, value) = match by {
            By::Css(value) => ("css selector", value),
            By::XPath(value) => ("xpath", value),
        };
        let found = self.post("/elements", json!({"using": using, "value": value})).await?;
        let id = |element: &Value| Element(element[ELEMENT].as_str().unwrap().to_owned());
        Ok(found.as_array().unwrap().iter().map(id).collect())
    }

    /// Does something with an element: `click`, `clear`, or `value` with a text to type.
    pub(super) async fn act(&self, element: &Element, what: &str, body: Value) -> Result<Value, String> {
        self.post(&format!("/element/{}/{what}", element.0), body).await
    }

    pub(super) async fn is_displayed(&self, element: &Element) -> bool {
        let path = format!("/element/{}/displayed", element.0);
        self.send(Method::GET, &path, None).await.is_ok_and(|is| is == true)
    }

    /// Moves the pointer to the middle of an element.
    pub(super) async fn point_at(&self, element: &Element) -> Result<Value, String> {
        let to = json!({"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: element.0}});
        self.post("/actions", json!({"actions": [{"type": "pointer", "id": "mouse", "actions": [to]}]})).await
    }

    /// Presses keys, one after the other.
    pub(super) async fn keys(&self, keys: &str) -> Result<Value, String> {
        let press = |key: char| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}));
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})).await
    }

    /// Ends the browser.
    pub(super) async fn end(self) {
        self.send(Method::DELETE, "", None).await.unwrap();
    }
}
