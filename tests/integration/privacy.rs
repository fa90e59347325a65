//! No secret and no personal data appears in logs of any level, in metrics or in exported traces, whatever a job meets.

use super::support::{MERCHANT, Rig, Setup, check, free_port, with};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{
    fs::File,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xco_worker::sandbox::{Fault, FaultKind, NewSandboxUser, Route, SandboxConfig};

const EMAIL: &str = "ada.lovelace-private@example.com";
const OTHER_EMAIL: &str = "quentin.newcomer-private@example.com";
const PHONE: &str = "+33698765432";
const SECRET: &str = "client-secret-that-nobody-may-see";
const API_KEY: &str = "api-key-that-nobody-may-see";
const TOKEN: &str = "access-token-that-nobody-may-see";
const PRIVATE: [&str; 15] = [
    "ada.lovelace-private",
    "quentin.newcomer-private",
    "33698765432",
    SECRET,
    API_KEY,
    TOKEN,
    "Adamantine",
    "Lovelorn",
    "1977-03-09",
    "Rue Imaginaire",
    "Apartment Zeta",
    "Villefictive",
    "98765",
    "Ruritania",
    "private-misplaced",
];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector of traces and metrics that stores what it receives.
struct Collector {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                        let text = String::from_utf8_lossy(&request).to_lowercase();
                        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
                        let length: usize = head
                            .lines()
                            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                            .unwrap_or(0);
                        let begin = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                        if request.len() >= begin + length {
                            kept.lock().unwrap().append(&mut request);
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                            if stream.write_all(answer).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }
}

/// A worker in a process of its own, with all logging enabled.
fn spawn_worker(rig: &Rig, format: &str, listen: &str, collector: &Collector, log: &File) -> Child {
    let config = &rig.config;
    let url = |url: &Option<url::Url>| url.as_ref().unwrap().to_string();
    Command::new(env!("CARGO_BIN_EXE_xco-worker"))
        .arg("run")
        .env_clear()
        .current_dir(std::env::temp_dir())
        .envs([
            ("XCO_WORKER__REDIS__URL", rig.redis.url_as("worker").as_str()),
            ("XCO_WORKER__REDIS__NAMESPACE", config.redis.namespace.as_str()),
            ("XCO_WORKER__XCO__BASE_URL", url(&config.xco.base_url).as_str()),
            ("XCO_WORKER__XCO__TOKEN_URL", url(&config.xco.token_url).as_str()),
            ("XCO_WORKER__XCO__CLIENT_ID", "sandbox-client"),
            ("XCO_WORKER__XCO__CLIENT_SECRET", config.xco.client_secret.as_ref().unwrap().expose_secret()),
            ("XCO_WORKER__XCO__API_KEY", API_KEY),
            ("XCO_WORKER__XCO__MERCHANT_ID", MERCHANT),
            ("XCO_WORKER__XCO__TIMEOUT", "700ms"),
            ("XCO_WORKER__RETRY__BASE", "20ms"),
            ("XCO_WORKER__RETRY__CAP", "100ms"),
            ("XCO_WORKER__HTTP__LISTEN", listen),
            ("XCO_WORKER__TELEMETRY__LOG", "trace"),
            ("XCO_WORKER__TELEMETRY__FORMAT", format),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address).as_str()),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .unwrap()
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Jobs of all types, through everything that can happen to them. Returns the codes that were used.
async fn live_through_everything(rig: &mut Rig) -> Vec<String> {
    let ip = "192.0.2.77";
    let user = json!({"email": OTHER_EMAIL, "phone_number": PHONE, "first_name": "Adamantine", "last_name": "Lovelorn",
        "gender": "other", "birthdate": "1977-03-09", "addresses": [{"address_type": "billing",
        "street_address": "Rue Imaginaire", "address_complement": "Apartment Zeta", "locality": "Villefictive",
        "postal_code": "98765", "country": "Ruritania"}]});
    let job = |id: &str, kind: &str, args: Value| json!({"id": id, "type": kind, "caller_id": ip, "args": args});
    let mut codes = vec!["827364".to_owned()];

    // Answers with 4xx quote the customer, as an upstream may.
    let quoting = |status: u16| {
        Fault::status(status).body(json!({"type": "https://api.purse.eu/problems/validation-error",
            "title": format!("{EMAIL} is refused"), "detail": format!("{PHONE} Adamantine"), "status": status}))
    };
    let check_phone = job("check", "CheckUser", json!({"phone_number": PHONE}));
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let traced = rig.complete(with(check_phone, "traceparent", traceparent.as_str())).await;
    assert_eq!(traced["traceparent"], traceparent, "the job's, whoever traces");
    assert_eq!(traced["attempts"], 2, "the token was refused: {traced:#}");
    let sent = rig.sandbox.calls_of(Route::Exists).pop().and_then(|call| call.traceparent).unwrap();
    assert!(sent[..35] == traceparent[..35] && sent != traceparent, "a span of the same trace: {sent}");
    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![500, 502, 302, 429])));
    for fault in [Fault::hang(), Fault::reset(), Fault::new(FaultKind::Truncate), quoting(503)] {
        rig.sandbox.order(fault.on(Route::Exists));
    }
    rig.complete(with(job("check-2", "CheckUser", json!({"email": EMAIL})), "max_attempts", 20)).await;
    for status in [400, 403, 404, 409, 422] {
        rig.sandbox.order(quoting(status).on(Route::Exists));
        rig.complete(job(&format!("check-{status}"), "CheckUser", json!({"email": EMAIL}))).await;
    }
    let create = json!({"customer_reference": "customer-1", "user": user});
    rig.sandbox.order(Fault::reset().on(Route::Create).after_effect());
    rig.complete(job("create", "CreateUser", create.clone())).await;
    rig.complete(job("create-2", "CreateUser", create.clone())).await;
    rig.sandbox.order(quoting(400).on(Route::Create));
    rig.complete(job("create-3", "CreateUser", create)).await;

    rig.sandbox.revoke_tokens();
    let untraced = rig.complete(job("start", "StartOtp", json!({"email": EMAIL}))).await;
    assert!(untraced.get("traceparent").is_none(), "{untraced:#}");
    codes.push(rig.sandbox.otp(EMAIL).unwrap());
    let with_code = |code: &str| json!({"email": EMAIL, "verification_code": code});
    rig.complete(job("verify", "VerifyOtp", with_code("827364"))).await;
    rig.complete(job("verify-2", "VerifyOtp", with_code(&codes[1]))).await;
    rig.sandbox.order(Fault::hang().on(Route::Start));
    rig.complete(job("start-2", "StartOtp", json!({"phone_number": PHONE}))).await;
    rig.complete(job("start-3", "StartOtp", json!({"email": EMAIL}))).await;
    codes.push(rig.sandbox.otp(EMAIL).unwrap());
    rig.sandbox.order(Fault::status(500).on(Route::Consent));
    let mut args = with_code(&codes[2]);
    args["customer_reference"] = json!("customer-2");
    let consented = rig.complete(job("finalize", "FinalizeConsent", args)).await;
    assert_eq!(consented["outcome"], "consented", "{consented:#}");

    // Personal data in wrong places.
    for (id, wrong) in [
        ("wrong-1", json!({"email": EMAIL, "phone_number": PHONE})),
        ("wrong-2", json!({"email": "private-misplaced"})),
        ("wrong-3", json!({"private-misplaced@example.com": 1})),
        ("wrong-4", json!({"email": EMAIL, "verification_code": "827364"})),
    ] {
        rig.complete(job(id, "CheckUser", wrong)).await;
    }
    rig.complete(with(check("wrong-5", ip), "type", "private-misplaced")).await;
    rig.enqueue_text("interactive", &format!("{{\"email\":\"{EMAIL}\",\"verification_code\":\"827364\"")).await;
    rig.enqueue_text("interactive", &format!("{EMAIL} 827364")).await;
    let next = json!({"absent": {"type": "StartOtp", "ttl_ms": 1, "args": {"email": "private-misplaced@example.com"}}});
    rig.complete(with(job("last", "CheckUser", json!({"email": "private-misplaced@example.com"})), "next", next)).await;
    rig.completion("last/absent").await;
    codes
}

/// Where `needle` occurs, as text or as a list of bytes, with its surroundings.
fn find(haystack: &[u8], needle: &str) -> Option<String> {
    let bytes = needle.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let encoded: String = url::form_urlencoded::byte_serialize(needle.as_bytes()).collect();
    [needle, &bytes, &encoded].into_iter().find_map(|form| {
        let at = haystack.windows(form.len()).position(|window| window == form.as_bytes())?;
        let around = &haystack[at.saturating_sub(200)..(at + form.len() + 80).min(haystack.len())];
        Some(String::from_utf8_lossy(around).into_owned())
    })
}

async fn nothing_leaks(format: &str) {
    let sandbox = SandboxConfig {
        client_secret: SECRET.to_owned(),
        api_key: Some(API_KEY.to_owned()),
        echo_code: true,
        ..SandboxConfig::default()
    };
    let mut rig = Setup { sandbox, ..Setup::default() }.without_worker().await;
    rig.config.xco.client_secret = Some(SECRET.into());
    rig.sandbox.seed_user(&NewSandboxUser {
        email: EMAIL.to_owned(),
        first_name: Some("Adamantine".to_owned()),
        last_name: Some("Lovelorn".to_owned()),
        ..NewSandboxUser::default()
    });
    // The first token is recognisable and refused; the next one is valid.
    let answer = json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300});
    rig.sandbox.order(Fault::status(200).on(Route::Token).body(answer));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = File::create(&path).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let collector = Collector::start().await;
    let mut worker = spawn_worker(&rig, format, &listen, &collector, &log);

    let codes = live_through_everything(&mut rig).await;
    let metrics = get(&listen, "/metrics").await;
    assert!(metrics.contains("xco_"), "{metrics}");
    kill(Pid::from_raw(i32::try_from(worker.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || worker.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(60), status).await.unwrap().unwrap();
    let logged = std::fs::read(&path).unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&logged));

    let exported = collector.seen.lock().unwrap().clone();
    assert!(find(&logged, "worker stopped").is_some(), "the log is the worker's");
    assert!(find(&logged, "TRACE").is_some(), "at every level");
    assert!(find(&exported, "xco.call").is_some(), "spans are exported");
    let trace: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(exported.windows(16).any(|window| window == trace), "spans belong to the producer's trace");
    for needle in PRIVATE.into_iter().chain(codes.iter().map(String::as_str)) {
        for (place, text) in [("log", &logged[..]), ("metrics", metrics.as_bytes()), ("traces", &exported)] {
            if let Some(found) = find(text, needle) {
                panic!("{needle} in the {place}: …{found}…");
            }
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_logged_as_text() {
    nothing_leaks("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_logged_as_json() {
    nothing_leaks("json").await;
}
