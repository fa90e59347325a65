//! The programs in `examples` in other languages than Rust, with a real worker, sandbox and gateway. A language that is not
//! installed is skipped: stderr and the file `$SKIPPED_FILE` name it.

use super::support::{Rig, Setup, free_port, report_skipped};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, GatewayRole, GatewayToken},
    contract::Partitions,
    gateway::Gateway,
    telemetry::Metrics,
};

const TOKEN: &str = "token-of-the-shop";
/// The partition of the programs' caller: `crc32("203.0.113.9") mod 4`.
const PARTITION: u16 = 1;
/// Longest run of a program. `go run` compiles it first.
const LONG: Duration = Duration::from_secs(240);

/// How to run the programs of a language, and whether they can run.
struct Language {
    name: &'static str,
    /// The interpreter; the first that passes the probe.
    programs: &'static [&'static str],
    /// Arguments before the file.
    arguments: &'static [&'static str],
    extension: &'static str,
    /// Arguments with which the interpreter succeeds if the Redis client is installed.
    probe: &'static [&'static str],
    /// What is missing if the probe fails.
    needs: &'static str,
    /// Where Debian has the libraries.
    env: &'static [(&'static str, &'static str)],
}

const PHP: Language = Language {
    name: "php",
    programs: &["php"],
    arguments: &[],
    extension: "php",
    probe: &["-r", "exit(extension_loaded('redis') ? 0 : 1);"],
    needs: "php-cli and php-redis",
    env: &[],
};
const NODE: Language = Language {
    name: "node",
    programs: &["node"],
    arguments: &[],
    extension: "js",
    probe: &["-e", "require('redis'); require('zlib').crc32('');"],
    needs: "node-redis and Node 20.15",
    env: &[("NODE_PATH", "/usr/share/nodejs")],
};
const PYTHON: Language = Language {
    name: "python",
    programs: &["python3", "/usr/bin/python3"],
    arguments: &[],
    extension: "py",
    probe: &["-c", "import redis"],
    needs: "python3-redis",
    env: &[],
};
const RUBY: Language = Language {
    name: "ruby",
    programs: &["ruby"],
    arguments: &[],
    extension: "rb",
    probe: &["-e", "require 'redis'"],
    needs: "ruby and ruby-redis",
    env: &[],
};
const GO: Language = Language {
    name: "go",
    programs: &["go"],
    arguments: &["run"],
    extension: "go",
    probe: &["list", "github.com/gomodule/redigo/redis"],
    needs: "golang-go and golang-github-gomodule-redigo-dev",
    env: &[("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")],
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

impl Language {
    /// The interpreter, if it and its Redis client are installed.
    async fn interpreter(&self) -> Option<&'static str> {
        for program in self.programs {
            let mut probe = Command::new(program);
            probe.args(self.probe).envs(self.env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
            if probe.status().await.is_ok_and(|status| status.success()) {
                return Some(program);
            }
        }
        report_skipped(&format!("examples in {}", self.name), self.needs);
        None
    }
}

/// The programs of a language, for the Redis and the gateway of a test.
struct Programs<'a> {
    language: &'a Language,
    interpreter: &'static str,
    env: Vec<(&'static str, String)>,
}

impl Programs<'_> {
    /// Runs a program to its end, and returns the lines that it printed.
    async fn run(&self, name: &str, env: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
        let file = folder(self.language.name).join(name).with_extension(self.language.extension);
        let mut command = Command::new(self.interpreter);
        command.args(self.language.arguments).arg(&file).args(arguments).kill_on_drop(true).stdin(Stdio::null());
        command.envs(self.language.env.iter().copied()).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(env.iter().copied());
        let output = timeout(LONG, command.output()).await.expect("it ends").unwrap();
        let (printed, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && errors.is_empty(), "{} {arguments:?}: {printed}{errors}", file.display());
        printed.lines().map(ToOwned::to_owned).collect()
    }
}

/// Starts a gateway that knows one token.
async fn start_gateway(config: Config) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let gateway = Gateway::bind(config, Metrics::default()).await.unwrap();
    let (address, stop) = (gateway.address(), CancellationToken::new());
    (address, stop.clone(), tokio::spawn(gateway.serve(stop)))
}

fn gateway_config(rig: &Rig) -> Config {
    let mut config = Config { redis: rig.redis_as("operator"), ..rig.config.clone() };
    config.gateway.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.gateway.tokens = vec![GatewayToken {
        name: "shop".to_owned(),
        sha256: Sha256::digest(TOKEN).into(),
        roles: vec![GatewayRole::Enqueue, GatewayRole::Read],
        merchants: Vec::new(),
    }];
    config
}

/// Forwards to a gateway, but answers the first request with 503.
struct BusyAtFirst {
    address: SocketAddr,
    /// The first request was answered with 503.
    has_refused: Arc<AtomicBool>,
    /// A program waits for a job at its `wait_url`.
    waits: Arc<Notify>,
}

impl BusyAtFirst {
    async fn start(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (has_refused, waits) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (refused, waiting) = (Arc::clone(&has_refused), Arc::clone(&waits));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if refused.swap(true, Ordering::SeqCst) {
                    tokio::spawn(forward(client, gateway, Arc::clone(&waiting)));
                } else {
                    refuse(client).await;
                }
            }
        });
        Self { address, has_refused, waits }
    }
}

async fn refuse(mut client: TcpStream) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        assert_ne!(client.read_buf(&mut request).await.unwrap(), 0, "{}", String::from_utf8_lossy(&request));
    }
    let answer =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    client.write_all(answer.as_bytes()).await.unwrap();
}

/// Whether a request has as much body as its head says.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
    body.len() >= length.trim().parse().unwrap()
}

async fn forward(client: TcpStream, gateway: SocketAddr, waits: Arc<Notify>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_gateway, mut to_gateway) = TcpStream::connect(gateway).await.unwrap().into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_gateway, &mut to_client).await });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        if buffer[..read].starts_with(b"GET /v1/jobs/") {
            waits.notify_one();
        }
        if to_gateway.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Runs all programs of a language.
async fn examples_of(language: &Language) {
    let Some(interpreter) = language.interpreter().await else { return };
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(4).unwrap();
    let mut rig = setup.without_worker().await;
    let (gateway, stop, serving) = start_gateway(gateway_config(&rig)).await;
    let env = vec![
        ("XCO_NAMESPACE", rig.config.redis.namespace.clone()),
        ("XCO_PARTITIONS", "4".to_owned()),
        ("REDIS_URL", rig.redis.url_as("producer")),
        ("GATEWAY_URL", format!("http://{gateway}")),
        ("GATEWAY_TOKEN", TOKEN.to_owned()),
    ];
    let programs = Programs { language, interpreter, env };

    // Without a worker no job ends.
    let printed = programs.run("redis_wait", &[], &["ada@example.com", "signup-1", "1"]).await;
    assert_eq!(printed, ["signup-1 has not ended after 1 s"]);
    // Refused at first, then too late for `Prefer`: the program waits at `wait_url`. Only then there is a worker.
    let busy = BusyAtFirst::start(gateway).await;
    let url = format!("http://{}", busy.address);
    let redirected = [("GATEWAY_URL", url.as_str())];
    let waiting = programs.run("gateway_wait", &redirected, &["bob@example.com", "signup-2", "1"]);
    let start = async {
        timeout(LONG, busy.waits.notified()).await.expect("it waits at wait_url");
        rig.start_worker();
    };
    let (printed, ()) = tokio::join!(waiting, start);
    assert!(busy.has_refused.load(Ordering::SeqCst));
    assert_eq!(printed, [r#"{"outcome":"absent","status":"succeeded"}"#]);

    // The same job again: it has ended once, and this is its reply.
    let printed = programs.run("redis_wait", &[], &["ada@example.com", "signup-1", "20"]).await;
    assert_ended(&printed, "signup-1");
    let printed = programs.run("gateway_wait", &[], &["eve@example.com", "signup-3", "20"]).await;
    assert_ended(&printed, "signup-3");

    followed_in_a_group(&mut rig, &programs).await;
    followed_over_http(&programs).await;
    rig.follow(10, |completions| completions.len() >= 3).await;
    assert_eq!(rig.completions.len(), 3, "{:#?}", rig.completions);
    stop.cancel();
    serving.await.unwrap();
    rig.end().await;
}

fn assert_ended(printed: &[String], id: &str) {
    let [line] = printed else { panic!("{printed:#?}") };
    let completion: Value = serde_json::from_str(line).unwrap();
    let found = (&completion["id"], &completion["status"], &completion["outcome"]);
    assert_eq!(found, (&id.into(), &"succeeded".into(), &"absent".into()));
}

/// A member gets what it had read and not acknowledged when it died, then what is new, and acknowledges both.
async fn followed_in_a_group(rig: &mut Rig, programs: &Programs<'_>) {
    // All jobs were of one caller, so they are in one partition.
    let stream = rig.key_in(PARTITION, "completions");
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(&stream).arg("shop").arg("0");
    create.query_async::<()>(&mut rig.connection).await.unwrap();
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("shop").arg("web-1").arg("COUNT").arg(1).arg("STREAMS").arg(&stream).arg(">");
    read.query_async::<redis::Value>(&mut rig.connection).await.unwrap();

    let reader = rig.redis.url_as("reader");
    let printed = programs.run("redis_follow", &[("REDIS_URL", &reader)], &["shop", "web-1", "3"]).await;
    assert_eq!(in_order(&printed), ["signup-1 succeeded", "signup-2 succeeded", "signup-3 succeeded"]);
    let pending: (u64, Option<String>, Option<String>, redis::Value) =
        redis::cmd("XPENDING").arg(&stream).arg("shop").query_async(&mut rig.connection).await.unwrap();
    assert_eq!(pending.0, 0, "not acknowledged");
}

/// A program that is started again goes on after what it has done.
async fn followed_over_http(programs: &Programs<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let mut printed = programs.run("gateway_follow", &[], &[cursor, "1"]).await;
    assert_eq!(printed.len(), 1);
    printed.extend(programs.run("gateway_follow", &[], &[cursor, "2"]).await);
    assert_eq!(in_order(&printed), ["signup-1 succeeded", "signup-2 succeeded", "signup-3 succeeded"]);
}

fn in_order(lines: &[String]) -> Vec<&str> {
    let mut lines: Vec<_> = lines.iter().map(String::as_str).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn php_examples_do_what_they_say() {
    examples_of(&PHP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_examples_do_what_they_say() {
    examples_of(&NODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_examples_do_what_they_say() {
    examples_of(&PYTHON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ruby_examples_do_what_they_say() {
    examples_of(&RUBY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_examples_do_what_they_say() {
    examples_of(&GO).await;
}

/// The page itself needs a browser. This does what its script does: it posts the form, then waits at `wait_url`.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_signs_a_customer_up_and_waits() {
    let Some(php) = PHP.interpreter().await else { return };
    let mut rig = Setup::default().start().await;
    let shop = format!("127.0.0.1:{}", free_port());
    let origin = format!("http://{shop}");
    let mut config = gateway_config(&rig);
    config.gateway.allowed_origins = vec![origin.clone()];
    let (gateway, stopping, serving) = start_gateway(config).await;
    let mut server = Command::new(php);
    server.arg("-S").arg(&shop).arg("-t").arg(folder("browser")).arg(folder("browser").join("shop.php"));
    server.env("GATEWAY_URL", format!("http://{gateway}")).env("GATEWAY_TOKEN", TOKEN);
    let server = server.kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    rig.eventually("the shop listens", async |_| TcpStream::connect(&shop).await.is_ok()).await;

    let page = request(&shop, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(page.contains("EventSource(waitUrl)"), "{page}");
    let mut answers = Vec::new();
    // A second click sends the same key, and starts no second signup.
    for _ in 0..2 {
        let form = "first_name=Ada&email=ada%40example.com&key=0f8c";
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let head = format!("POST /signup HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n", form.len());
        let answer = request(&shop, &format!("{head}{form}")).await;
        assert!(!answer.contains(TOKEN) && answer.contains(" 202 "), "{answer}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        answers.push(body["wait_url"].as_str().unwrap().to_owned());
    }
    for wait_url in answers {
        let path = wait_url.strip_prefix(&format!("http://{gateway}")).unwrap();
        assert!(path.starts_with("/v1/jobs/signup-0f8c/wait?"), "{path}");
        let headers = format!("Host: {gateway}\r\nOrigin: {origin}\r\nAccept: text/event-stream\r\nConnection: close");
        let events = request(&gateway.to_string(), &format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        assert!(events.contains(&format!("access-control-allow-origin: {origin}\r\n")), "{events}");
        assert!(events.contains("event: completed") && events.contains(r#""status":"succeeded""#), "{events}");
    }
    let completion = rig.completion("signup-0f8c").await;
    assert_eq!((&completion["type"], &completion["outcome"]), (&"CreateUser".into(), &"created".into()));
    drop(server);
    stopping.cancel();
    serving.await.unwrap();
    rig.end().await;
}

/// Sends a request, and returns the whole answer.
async fn request(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it answers").unwrap();
    String::from_utf8(answer).unwrap()
}
