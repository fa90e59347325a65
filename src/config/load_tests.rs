//! Loading, from the outside: sources in, configuration or faults out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::contract::JobType;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use std::{fs, time::Duration};

/// Loads this file's text, and nothing else.
fn from_text(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    fs::write(&file, text).unwrap();
    let result = load(&Sources { file: Some(file), env: owned(env), flags: Vec::new() });
    result.map_err(|ConfigFaults(faults)| {
        // The directory's name is different each time.
        let prefix = format!("{}/", dir.path().display());
        ConfigFaults(faults.into_iter().map(|f| ConfigFault { origin: f.origin.replace(&prefix, ""), ..f }).collect())
    })
}

fn owned(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_env(env: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
    from_text("", env)
}

fn lines(result: Result<Config, ConfigFaults>) -> Vec<String> {
    result.expect_err("faults").0.iter().map(ToString::to_string).collect()
}

/// Everything of a configuration, secrets included, for comparison.
fn whole(config: &Config) -> String {
    let secrets: Vec<_> = config
        .redis
        .url
        .iter()
        .chain(&config.xco.client_secret)
        .chain(&config.xco.api_key)
        .map(|secret| secret.expose_secret().to_owned())
        .collect();
    format!("{config:#?} {secrets:?}")
}

const REFERENCE: &str = include_str!("../../config/xco-worker.toml");

#[test]
fn the_reference_file_changes_nothing() {
    assert_eq!(whole(&from_text(REFERENCE, &[]).unwrap()), whole(&Config::default()));
}

#[test]
fn the_reference_file_documents_every_key_with_its_default() {
    let mut section = String::new();
    let mut documented = BTreeMap::new();
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, default)) = line.strip_prefix('#').and_then(|rest| rest.split_once(" ="))
            && name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            documented.insert(format!("{section}.{name}"), default.trim().to_owned());
        }
    }
    let known: BTreeMap<_, _> =
        keys().iter().map(|key| (key.name.clone(), key.default.unwrap_or_default().to_owned())).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_default_of_the_table_is_taken_and_written_out_changes_nothing() {
    for key in keys() {
        let Some(default) = key.default else { continue };
        let (section, name) = key.name.split_once('.').unwrap();
        let mut config = from_text(&format!("[{section}]\n{name} = {default}\n"), &[]).unwrap();
        // Whether a source set it is a difference of its own.
        config.redis.url_is_set = false;
        if key.name.starts_with("retry.") {
            // Set or not is a difference here; what comes of it is none.
            for job_type in JobType::ALL {
                assert_eq!(config.retry.policy(job_type), Config::default().retry.policy(job_type), "{}", key.name);
            }
            assert_eq!(config.retry.budget_percent(), Config::default().retry.budget_percent());
        } else {
            assert_eq!(whole(&config), whole(&Config::default()), "{}", key.name);
        }
    }
}

/// A default that is missing in the table would leave a value at zero.
#[test]
fn only_what_may_be_left_out_has_no_default() {
    let optional = [
        "redis.sentinel.",
        "redis.tls.",
        "xco.base_url",
        "xco.token_url",
        "xco.client_",
        "xco.api_key",
        "xco.merchant_id",
        "xco.tls.",
        "limits.caller.",
        "limits.client.",
        "limits.total.",
        "limits.types.",
        "retry.max_attempts",
        "gateway.probe_listen",
        "gateway.public_url",
    ];
    for key in keys().iter().filter(|key| key.default.is_none()) {
        let of_a_type = key.name.starts_with("retry.") && matches!(key.name.rsplit('.').next(), Some("base" | "cap"));
        assert!(of_a_type || optional.iter().any(|name| key.name.starts_with(name)), "{} has no default", key.name);
    }
}

#[test]
fn the_sandbox_file_loads() {
    let config = from_text(include_str!("../../config/purse-sandbox.toml"), &[]).unwrap();
    assert_eq!(config.xco.base_url.unwrap().as_str(), "https://xco-api.purse-sandbox.com/");
    assert_eq!(config.limits.caller.unwrap().burst, 5);
}

#[test]
fn later_sources_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    fs::write(&file, "[worker]\nconcurrency = 1\nlease = \"2s\"\nmax_deliveries = 0x10\n").unwrap();
    let sources = Sources {
        file: Some(file),
        env: owned(&[("XCO_WORKER__WORKER__CONCURRENCY", "2"), ("XCO_WORKER__WORKER__LEASE", "3s"), ("PATH", "/bin")]),
        flags: vec![("worker.concurrency".to_owned(), "3".to_owned(), "--concurrency".to_owned())],
    };
    let worker = load(&sources).unwrap().worker;
    assert_eq!((worker.concurrency, worker.lease, worker.max_deliveries), (3, Duration::from_secs(3), 16));
}

#[test]
fn every_fault_at_once_each_with_its_place() {
    let text = "\
[worker]
concurency = 4
lease = \"500ms\"
concurrency = 5000
[limits.caller]
burst = 3
[limits.total]
rate = \"1/d\"
burst = 2
[retry.start_otp]
base = \"2s\"
cap = \"1s\"
[xco]
base_url = \"http://xco.example\"
timeout = 10
merchant_id = \"nobody\"
[wroker]
x = 1
";
    let env = [
        ("XCO_WORKER__REDIS__PARTITIONS", "many"),
        ("XCO_WORKER__WORKER__LEESE", "1s"),
        ("XCO_WORKER__REDIS__NAMESPACE", "a:b"),
        ("XCO_WORKER__HTTP__LISTEN", "localhost"),
        ("XCO_WORKER__XCO__API_KEY", ""),
    ];
    let mut found = lines(from_text(text, &env));
    found.sort();
    assert_eq!(
        found,
        [
            "http.listen (XCO_WORKER__HTTP__LISTEN): \"localhost\" is not an address and port such as 127.0.0.1:9464 or 0.0.0.0:9464, or off",
            "limits.caller.burst (x.toml:6): a burst without a rate: set limits.caller.rate too",
            "limits.total.rate (x.toml:8): \"1/d\": a rate is a whole number of calls per second, minute or hour: 10/s, 3/m, 100/h",
            "redis.namespace (XCO_WORKER__REDIS__NAMESPACE): a namespace is 1 to 64 of A-Z a-z 0-9 _ . -",
            "redis.partitions (XCO_WORKER__REDIS__PARTITIONS): \"many\" is not a whole number from 1 to 256",
            "retry.start_otp.base (x.toml:11): greater than retry.start_otp.cap",
            "worker.concurency (x.toml:2): unknown key; did you mean worker.concurrency?",
            "worker.concurrency (x.toml:4): 5000 is out of range: a whole number from 1 to 4096",
            "worker.lease (x.toml:3): \"500ms\" is out of range: from 1s to 1h",
            "worker.leese (XCO_WORKER__WORKER__LEESE): unknown key; did you mean XCO_WORKER__WORKER__LEASE?",
            "wroker (x.toml:17): unknown key; did you mean worker?",
            "xco.api_key (XCO_WORKER__XCO__API_KEY): empty",
            "xco.base_url (x.toml:14): http:// would send secrets and customers' data in the clear; use https://, or set xco.allow_insecure_http where the network is trusted",
            "xco.merchant_id (x.toml:16): \"nobody\" is not a UUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "xco.timeout (x.toml:15): a number where a duration in quotes, such as \"10s\", is wanted",
        ]
    );
}

#[test]
fn syntax_faults_have_lines_and_quote_nothing() {
    let found = lines(from_text("[xco]\nclient_secret = hunter2\n[redis\n", &[]));
    assert!(found.iter().any(|line| line.starts_with("x.toml:2: not TOML: ")), "{found:?}");
    assert!(found.iter().all(|line| !line.contains("hunter2")), "{found:?}");
}

#[test]
fn secrets_are_never_quoted() {
    let text = "[xco]\nclient_secret = [\"hunter2\"]\napi_key = \"hun\\nter2\"\n[redis]\nurl = \"hunter2://h\"\n\
                [[gateway.tokens]]\nname = \"a\"\nsha256 = \"hunter2\"\nroles = [\"hunter2\"]\n";
    let found = lines(from_text(text, &[("XCO_WORKER__REDIS__URL", "redis://:hunter2@h:x")]));
    assert!(found.len() >= 6 && found.iter().all(|line| !line.contains("hunter2")), "{found:#?}");
    let sources = Sources { env: owned(&[("XCO_WORKER__XCO__API_KEY", "hunter2")]), ..Sources::default() };
    assert!(!format!("{sources:?}").contains("hunter2"));
    assert!(!format!("{:?}", load(&sources).unwrap()).contains("hunter2"));
}

#[test]
fn secret_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let good = write("good", b"hunter2\r\n");
    let config = from_env(&[("XCO_WORKER__XCO__CLIENT_SECRET_FILE", &good)]).unwrap();
    assert_eq!(config.xco.client_secret.unwrap().expose_secret(), "hunter2");

    let large = vec![b'x'; 65 * 1024];
    for (name, bytes, wanted) in [
        ("empty", &b"\n"[..], "empty"),
        ("large", large.as_slice(), "longer than 64 KiB"),
        ("binary", &b"\xff"[..], "not UTF-8"),
        ("lines", &b"hunter2\nhunter3"[..], "control characters"),
    ] {
        let file = write(name, bytes);
        let found = lines(from_env(&[("XCO_WORKER__XCO__API_KEY_FILE", &file)]));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("xco.api_key_file (XCO_WORKER__XCO__API_KEY_FILE): "), "{found:?}");
        assert!(found[0].contains(wanted) && !found[0].contains("hunter2"), "{found:?}");
    }
    let found = lines(from_env(&[("XCO_WORKER__XCO__API_KEY_FILE", "/nowhere")]));
    assert!(found[0].contains("no such file"), "{found:?}");
    let both = [("XCO_WORKER__XCO__CLIENT_SECRET_FILE", good.as_str()), ("XCO_WORKER__XCO__CLIENT_SECRET", "hunter2")];
    let found = lines(from_env(&both));
    assert!(found[0].contains("set one of the two"), "{found:?}");
}

#[test]
fn a_named_file_must_be_there() {
    let sources = Sources { file: Some("/nowhere/x.toml".into()), ..Sources::default() };
    assert_eq!(lines(load(&sources)), ["/nowhere/x.toml: no such file"]);
    assert!(load(&Sources::default()).is_ok());
}

#[test]
fn arrays_from_the_environment() {
    let urls = |text: &str| {
        let config = from_env(&[("XCO_WORKER__REDIS__URL", text)])?;
        Ok::<_, ConfigFaults>(config.redis.url.iter().map(|url| url.expose_secret().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(urls("redis://a").unwrap(), ["redis://a"]);
    assert_eq!(urls("redis://a, rediss://b:1").unwrap(), ["redis://a", "rediss://b:1"]);
    assert_eq!(urls("[\"redis://a\", \"redis://b\"]").unwrap(), ["redis://a", "redis://b"]);
    assert_eq!(urls("redis+sentinel://a:1,b:2/m").unwrap(), ["redis+sentinel://a:1,b:2/m"]);
    assert!(urls("redis+sentinel://a:1,b:2/m,redis://c").is_err());
    assert!(urls("").is_err());
    assert!(urls("[\"redis://a\"").is_err());

    let config = from_env(&[
        ("XCO_WORKER__XCO__INVALID_CODE_STATUSES", "400,422"),
        ("XCO_WORKER__XCO__ALREADY_EXISTS_TYPES", "https://a, https://b"),
        ("XCO_WORKER__QUEUE__TTL__START_OTP", "off"),
        ("XCO_WORKER__HTTP__LISTEN", "off"),
        ("XCO_WORKER__RETRY__VERIFY_OTP__MAX_ATTEMPTS", "1"),
        ("XCO_WORKER__LIMITS__TYPES__CHECK_USER__RATE", "3/m"),
    ])
    .unwrap();
    assert_eq!(config.xco.invalid_code_statuses, [400, 422]);
    assert_eq!(config.xco.already_exists_types, ["https://a", "https://b"]);
    assert_eq!(config.queue.ttl.get(&JobType::StartOtp), None);
    assert_eq!(config.http.listen, None);
    assert_eq!(config.retry.policy(JobType::VerifyOtp).max_attempts, 1);
    assert_eq!(config.limits.types[&JobType::CheckUser].burst, 1);
}

#[test]
fn gateway_tokens() {
    let digest = "AB".repeat(32);
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:8080\"\n[[gateway.tokens]]\nname = \"shop\"\nsha256 = \"{digest}\"\n\
         roles = [\"enqueue\"]\nmerchants = [\"3fa85f64-5717-4562-b3fc-2c963f66afa6\"]\n"
    );
    let token = &from_text(&text, &[]).unwrap().gateway.tokens[0];
    assert_eq!((token.name.as_str(), token.sha256), ("shop", [0xAB; 32]));
    assert_eq!((token.roles.len(), token.merchants.len()), (1, 1));

    let found = lines(from_text("[[gateway.tokens]]\nroles = [\"root\"]\nextra = 1\n[[gateway.tokens]]\n", &[]));
    assert!(found.len() >= 6, "{found:#?}");
    let known: usize = ["name is missing", "sha256 is missing", "known are enqueue", "unknown field"]
        .iter()
        .filter(|wanted| found.iter().any(|line| line.contains(**wanted)))
        .count();
    assert_eq!(known, 4, "{found:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_loaded_or_refused(text in "(?s).{0,200}", value in "(?s).{0,60}", key in 0..keys().len()) {
        let _ = from_text(&text, &[("XCO_WORKER__X", &value)]);
        let env_name = format!("XCO_WORKER__{}", keys()[key].name.to_uppercase().replace('.', "__"));
        let _ = from_text("", &[(env_name.as_str(), value.as_str())]);
    }

    #[test]
    fn any_toml_is_loaded_or_refused(
        key in 0..keys().len(),
        value in prop::sample::select(vec![
            "1", "-1", "9223372036854775808", "1.5", "nan", "true", "1979-05-27", "\"\"", "\"x\"", "[]", "[[]]", "[{}]",
            "{}", "{a.b = 1}", "\"redis://\"", "\"\\u0000\"", "\"1s\"", "\"1/s\"", "[1, \"a\", {b = 2}]", "0xff",
        ]),
    ) {
        let name = &keys()[key].name;
        let _ = from_text(&format!("{name} = {value}\n"), &[]);
        let _ = from_text(&format!("{} = {value}\n", name.split('.').next().unwrap()), &[]);
    }
}
