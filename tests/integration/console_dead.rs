//! The console's pages for dead letters and rules, over real HTTP, as a browser without a script uses them.

use super::{
    dead_letters::audit,
    dead_replay::write,
    support::{Rig, Setup, check},
};
use redis::AsyncCommands;
use reqwest::{Method, header, redirect::Policy};
use sha2::{Digest, Sha256};
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;
use xco_worker::{
    config::{Config, Sources},
    gateway::Gateway,
    telemetry::Metrics,
};

const CALLER: &str = "203.0.113.77";

/// A gateway with one token that reads, and one that reads and operates.
struct Site {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Site {
    async fn start(rig: &Rig) -> Self {
        let token = |name: &str, roles: &str| {
            let digest = format!("{:x}", Sha256::digest(format!("secret-of-{name}")));
            format!("{{ name = \"{name}\", sha256 = \"{digest}\", roles = [{roles}] }}")
        };
        let (ops, reader) = (token("ops", "\"read\", \"operate\""), token("reader", "\"read\""));
        let toml = format!("[gateway]\nlisten = \"127.0.0.1:0\"\ntokens = [{ops}, {reader}]\n");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, toml).unwrap();
        let loaded = xco_worker::config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        let config = Config { redis: rig.redis_as("operator"), gateway: loaded.gateway, ..rig.config.clone() };
        let gateway = Gateway::bind(config, Metrics::default()).await.unwrap();
        let (address, stop) = (gateway.address(), CancellationToken::new());
        let task = tokio::spawn(gateway.serve(stop.clone()));
        Self { address, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Somebody with a browser.
struct Browser {
    http: reqwest::Client,
    site: String,
    cookie: String,
    csrf: String,
}

struct Page {
    status: u16,
    location: String,
    cookie: String,
    text: String,
}

impl Page {
    /// The value of a hidden field.
    fn hidden(&self, name: &str) -> String {
        let begin = format!("name=\"{name}\" value=\"");
        let rest = self.text.split_once(&begin).unwrap_or_else(|| panic!("no field {name}: {}", self.text)).1;
        rest.split_once('"').unwrap().0.to_owned()
    }

    fn h1(&self) -> &str {
        let rest = self.text.split_once("<h1>").unwrap_or_else(|| panic!("no h1: {}", self.text)).1;
        rest.split_once("</h1>").unwrap().0
    }
}

impl Browser {
    async fn log_in(site: &Site, token: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none());
        let http = http.timeout(Duration::from_secs(60)).build().unwrap();
        let site = format!("http://{}", site.address);
        let mut browser = Self { http, site, cookie: String::new(), csrf: String::new() };
        let secret = format!("secret-of-{token}");
        let page = browser.post_as("/console/login", &[("token", &secret), ("person", "ada")], "same-origin").await;
        assert_eq!(page.status, 303, "{}", page.text);
        page.cookie.split(';').next().unwrap().clone_into(&mut browser.cookie);
        browser.csrf = browser.get("/console/dead").await.hidden("csrf");
        browser
    }

    async fn get(&self, path: &str) -> Page {
        self.send(Method::GET, path, String::new(), "same-origin").await
    }

    /// Sends a form of the console.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = [("csrf", self.csrf.as_str())];
        self.post_as(path, &[fields, &csrf].concat(), "same-origin").await
    }

    async fn post_as(&self, path: &str, fields: &[(&str, &str)], from: &str) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(Method::POST, path, body, from).await
    }

    async fn send(&self, method: Method, path: &str, body: String, from: &str) -> Page {
        let request = self.http.request(method, format!("{}{path}", self.site));
        let request = request.header(header::COOKIE, &self.cookie).header("sec-fetch-site", from);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let response = request.send().await.unwrap();
        let text = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, location, cookie) = (response.status().as_u16(), text(header::LOCATION), text(header::SET_COOKIE));
        Page { status, location, cookie, text: response.text().await.unwrap() }
    }

    /// Loads a page until its heading holds a text.
    async fn until(&self, rig: &mut Rig, path: &str, wanted: &str) {
        let what = format!("{path} says {wanted}");
        rig.eventually(&what, async |_| self.get(path).await.h1().contains(wanted)).await;
    }
}

async fn write_many(rig: &mut Rig, count: usize) {
    for number in 0..count {
        write(rig, &check(&format!("lost-{number}"), CALLER), "upstream", "").await;
    }
}

async fn length(rig: &mut Rig) -> u64 {
    let key = rig.key("dead");
    rig.connection.xlen(key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_planned_confirmed_and_replayed_without_a_script() {
    let mut rig = Setup::default().start().await;
    write_many(&mut rig, 3).await;
    let site = Site::start(&rig).await;
    let ada = Browser::log_in(&site, "ops").await;
    let list = ada.get("/console/dead?error=upstream").await;
    assert!(list.h1().starts_with("3 dead letters fit") && list.h1().contains("CheckUser upstream"), "{}", list.h1());
    assert!(
        list.text.contains("/console/dead?error=upstream&#38;type=CheckUser") || list.text.contains("type=CheckUser")
    );
    assert!(!list.text.contains(" style=") && !list.text.contains("<script>"));
    let fields = [("kind", "replay"), ("error", "upstream")];
    let plan = ada.post("/console/dead/plan", &fields).await;
    assert_eq!((plan.status, plan.h1()), (200, "Replay 3 dead letters?"));
    let (id, planned_as) = (plan.hidden("plan"), plan.hidden("as"));
    let confirmed = [("plan", id.as_str()), ("as", &planned_as), ("rate", "50/s")];
    // A box that was ticked after the plan: nothing starts.
    let changed = [&fields[..], &confirmed, &[("send_codes", "yes")]].concat();
    let again = ada.post("/console/dead/start", &changed).await;
    assert!(again.status == 409 && again.text.contains("Something was changed"), "{}", again.text);
    assert_eq!(length(&mut rig).await, 3);
    let started = ada.post("/console/dead/start", &[&fields[..], &confirmed].concat()).await;
    assert_eq!(started.status, 303, "{}", started.text);
    assert!(started.location.starts_with("/console/dead/runs/r-"), "{}", started.location);
    ada.until(&mut rig, &started.location, "is done: 3 of 3 moved").await;
    assert!(ada.get("/console/dead/runs").await.text.contains(&started.location));
    assert_eq!(ada.get("/console/dead").await.h1(), "No dead letters.");
    assert!(
        audit(&mut rig).await.iter().any(|action| action["who"] == "ada (ops)" && action["action"] == "dead replay")
    );
    site.end().await;
    rig.end().await;
}

/// Starts a replay of everything at this rate, and returns its address.
async fn start_replay(ada: &Browser, rate: &str) -> String {
    let fields = [("kind", "replay"), ("rate", rate)];
    let plan = ada.post("/console/dead/plan", &fields).await;
    let (id, planned_as) = (plan.hidden("plan"), plan.hidden("as"));
    let started = ada.post("/console/dead/start", &[&fields[..], &[("plan", &id), ("as", &planned_as)]].concat()).await;
    assert_eq!(started.status, 303, "{}", started.text);
    started.location
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_stopped_and_an_interrupted_one_continued() {
    let mut rig = Setup::default().start().await;
    write_many(&mut rig, 20).await;
    let site = Site::start(&rig).await;
    let (ada, guest) = (Browser::log_in(&site, "ops").await, Browser::log_in(&site, "reader").await);
    let run = start_replay(&ada, "1/m").await;
    let (stop, go_on) = (format!("{run}/stop"), format!("{run}/continue"));
    let page = ada.get(&run).await;
    assert!(page.h1().starts_with("Replay goes on: ") && page.text.contains(&stop), "{}", page.text);
    assert!(!page.text.contains(&go_on), "it goes on: {}", page.text);
    assert!(!guest.get(&run).await.text.contains(&stop), "a reader stops nothing");
    assert_eq!((guest.post(&stop, &[]).await.status, guest.post(&go_on, &[]).await.status), (403, 403));
    assert_eq!(ada.post(&stop, &[]).await.location, run);
    ada.until(&mut rig, &run, "Replay was stopped: ").await;
    let stopped = ada.get(&run).await;
    assert!(stopped.text.contains("<dt>Stopped by</dt><dd>ada (ops)</dd>"), "{}", stopped.text);
    assert!(!stopped.text.contains(&stop) && !stopped.text.contains(&go_on), "{}", stopped.text);

    // The process that works on a replay ends: another one takes what is left.
    let run = start_replay(&ada, "20/s").await;
    let left = length(&mut rig).await;
    rig.eventually("one has moved", async |rig| length(rig).await < left).await;
    site.end().await;
    let site = Site::start(&rig).await;
    let (ada, guest) = (Browser::log_in(&site, "ops").await, Browser::log_in(&site, "reader").await);
    ada.until(&mut rig, &run, "Replay was interrupted: ").await;
    let go_on = format!("{run}/continue");
    assert!(ada.get(&run).await.text.contains(&go_on));
    assert!(!guest.get(&run).await.text.contains(&go_on), "a reader continues nothing");
    assert_eq!(ada.post(&go_on, &[]).await.location, run);
    ada.until(&mut rig, &run, "Replay is done: ").await;
    assert_eq!(length(&mut rig).await, 0);
    let actions = audit(&mut rig).await;
    assert!(actions.iter().any(|action| action["what"].contains("\"continued\":true") && action["who"] == "ada (ops)"));
    site.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_needs_the_right_number() {
    let mut rig = Setup::default().without_worker().await;
    write_many(&mut rig, 2).await;
    let site = Site::start(&rig).await;
    let ada = Browser::log_in(&site, "ops").await;
    let plan = ada.post("/console/dead/plan", &[("kind", "discard")]).await;
    assert_eq!(plan.h1(), "Discard 2 dead letters for good?");
    let (id, planned_as) = (plan.hidden("plan"), plan.hidden("as"));
    let fields = [("kind", "discard"), ("plan", id.as_str()), ("as", &planned_as)];
    for typed in ["", "3", "two"] {
        let refused = ada.post("/console/dead/start", &[&fields[..], &[("typed", typed)]].concat()).await;
        assert!(refused.status == 400 && refused.text.contains("type the number 2"), "{typed}: {}", refused.text);
    }
    assert_eq!(length(&mut rig).await, 2);
    let started = ada.post("/console/dead/start", &[&fields[..], &[("typed", "2")]].concat()).await;
    assert_eq!(started.status, 303, "{}", started.text);
    ada.until(&mut rig, &started.location, "is done: 2 of 2 removed").await;
    assert_eq!(length(&mut rig).await, 0);
    site.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_no_person_and_acts_on_nothing_and_a_reveal_is_recorded() {
    let mut rig = Setup::default().without_worker().await;
    write_many(&mut rig, 1).await;
    let site = Site::start(&rig).await;
    let (ada, guest) = (Browser::log_in(&site, "ops").await, Browser::log_in(&site, "reader").await);
    let email = check("lost-0", CALLER)["args"]["email"].as_str().unwrap().to_owned();
    let letter = "/console/dead/letter?id=lost-0";
    for path in ["/console/dead", letter, "/console/dead/runs", "/console/rules", "/console/dead/download"] {
        let page = guest.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(!page.text.contains(&email) && !page.text.contains(CALLER), "{path}: {}", page.text);
        assert!(!page.text.contains("action=\"/console/dead/") && !page.text.contains("action=\"/console/rules/"));
    }
    let forms: [(&str, &[(&str, &str)]); 5] = [
        ("/console/dead/plan", &[("kind", "discard")]),
        ("/console/dead/start", &[("kind", "discard"), ("typed", "1")]),
        ("/console/dead/letter", &[("id", "lost-0"), ("reason", "call 17")]),
        ("/console/rules/pause", &[("type", "CheckUser")]),
        ("/console/rules/end", &[("type", "CheckUser"), ("confirmed", "yes")]),
    ];
    for (path, fields) in forms {
        let page = guest.post(path, fields).await;
        assert!(page.status == 403 && !page.text.contains(&email), "{path}: {}", page.text);
        // A form of another site, and one without the secret of the session.
        let foreign = ada.post_as(path, &[fields, &[("csrf", ada.csrf.as_str())]].concat(), "cross-site").await;
        let forged = ada.post_as(path, &[fields, &[("csrf", guest.csrf.as_str())]].concat(), "same-origin").await;
        assert_eq!((foreign.status, forged.status), (403, 403), "{path}");
    }
    assert!(!ada.get(letter).await.text.contains(&email));
    assert_eq!(ada.post("/console/dead/letter", &[("id", "lost-0")]).await.status, 400);
    let revealed = ada.post("/console/dead/letter", &[("id", "lost-0"), ("reason", "call 17")]).await;
    assert!(revealed.status == 200 && revealed.text.contains(&email), "{}", revealed.text);
    let actions = audit(&mut rig).await;
    assert!(actions.iter().any(|action| action["action"] == "dead show" && action["what"].contains("call 17")));
    assert_eq!(length(&mut rig).await, 1);
    site.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_planned_set_seen_in_force_and_ended() {
    let rig = Setup::default().start().await;
    let site = Site::start(&rig).await;
    let ada = Browser::log_in(&site, "ops").await;
    let fields = [("type", "CheckUser"), ("for", "10m"), ("reason", "XCO asked")];
    let plan = ada.post("/console/rules/plan", &fields).await;
    assert_eq!(plan.h1(), "Pause type CheckUser?");
    assert!(plan.text.contains("after 10 m"), "{}", plan.text);
    assert_eq!(ada.get("/console/rules").await.h1(), "Nothing is paused.");
    assert_eq!(ada.post("/console/rules/pause", &fields).await.location, "/console/rules?did=pause");
    let page = ada.get("/console/rules?did=pause").await;
    assert!(page.h1().starts_with("Paused: type CheckUser until "), "{}", page.h1());
    for text in ["in force on 1 of 1 worker", "XCO asked", "ada (ops)"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    let refused = ada.post("/console/rules/pause", &[("for", "10m"), ("typed", "")]).await;
    assert!(refused.status == 400 && refused.text.contains("type the word everything"), "{}", refused.text);
    let asked = ada.post("/console/rules/end", &[("type", "CheckUser")]).await;
    assert_eq!(asked.h1(), "End the pause of type CheckUser?");
    assert!(ada.get("/console/rules").await.h1().starts_with("Paused"));
    let ended = ada.post("/console/rules/end", &[("type", "CheckUser"), ("confirmed", "yes")]).await;
    assert_eq!(ended.location, "/console/rules?did=end");
    assert_eq!(ada.get("/console/rules").await.h1(), "Nothing is paused.");
    site.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_job_is_corrected_for_all_without_being_seen() {
    let mut rig = Setup::default().start().await;
    for number in 0..2 {
        let mut job = check(&format!("wrong-{number}"), CALLER);
        job["args"]["email"] = "ada-at-example".into();
        job["args"]["nickname"] = "ada".into();
        write(&mut rig, &job, "invalid_job", "").await;
    }
    let site = Site::start(&rig).await;
    let ada = Browser::log_in(&site, "ops").await;
    let plan = ada.post("/console/dead/plan", &[("kind", "replay")]).await;
    assert_eq!(plan.h1(), "Nothing can be replayed as it is.");
    assert!(plan.text.contains("something must be corrected first") && !plan.text.contains("ada-at-example"));
    assert!(!plan.text.contains("formaction"), "{}", plan.text);
    let wrong = [("kind", "replay"), ("pointer", "/args/email"), ("value", "still wrong")];
    let plan = ada.post("/console/dead/plan", &wrong).await;
    assert!(plan.text.contains("name=\"set:/args/email\"") && plan.text.contains("in 2 jobs"), "{}", plan.text);
    let half = [("kind", "replay"), ("set:/args/email", "ada@example.com")];
    let plan = ada.post("/console/dead/plan", &half).await;
    assert_eq!(plan.h1(), "Nothing can be replayed as it is.");
    assert!(plan.text.contains("name=\"unset:/args/nickname\" value=\"yes\">"), "{}", plan.text);
    let right = [&half[..], &[("unset:/args/nickname", "yes")]].concat();
    let plan = ada.post("/console/dead/plan", &right).await;
    assert_eq!(plan.h1(), "Replay 2 dead letters?");
    assert!(plan.text.contains("name=\"unset:/args/nickname\" value=\"yes\" checked>"), "{}", plan.text);
    let (id, planned_as) = (plan.hidden("plan"), plan.hidden("as"));
    let confirmed = [("plan", id.as_str()), ("as", &planned_as)];
    let started = ada.post("/console/dead/start", &[&right[..], &confirmed].concat()).await;
    assert_eq!(started.status, 303, "{}", started.text);
    ada.until(&mut rig, &started.location, "is done: 2 of 2 moved").await;
    let run = ada.get(&started.location).await;
    assert!(!run.text.contains("ada@example.com") && !run.text.contains("Continue"), "{}", run.text);
    site.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_dead_letters_stay_text() {
    let mut rig = Setup::default().without_worker().await;
    let hostile = "<script>alert(1)</script>\"'><img src=x>\u{202e}gpj";
    let mut job = check(hostile, hostile);
    job["type"] = hostile.into();
    job["batch"] = hostile.into();
    write(&mut rig, &job, hostile, "").await;
    let site = Site::start(&rig).await;
    let ada = Browser::log_in(&site, "ops").await;
    let plan = ada.post("/console/dead/plan", &[("kind", "discard"), ("id", hostile)]).await;
    let letter: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let pages = [
        ada.get("/console/dead").await,
        ada.get(&format!("/console/dead?batch={letter}")).await,
        ada.get(&format!("/console/dead/letter?id={letter}")).await,
        ada.post("/console/dead/plan", &[("kind", "replay")]).await,
        plan,
    ];
    for page in pages {
        assert_eq!((page.status, page.text.matches("<h1").count()), (200, 1), "{}", page.text);
        for banned in ["<script>", "<img"] {
            assert!(!page.text.contains(banned), "{banned:?}: {}", page.text);
        }
        // A form carries an id and a batch as they are; everything else is shown without what changes the direction of text.
        let beside_fields = page.text.split(" value=\"").map(|piece| piece.split_once('"').map_or(piece, |cut| cut.1));
        let first = page.text.split(" value=\"").next().unwrap();
        assert!(!first.contains('\u{202e}') && beside_fields.skip(1).all(|piece| !piece.contains('\u{202e}')));
    }
    site.end().await;
    rig.end().await;
}
