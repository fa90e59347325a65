//! Redis over TLS: private authorities, client certificates, and reports of a refused handshake.

use super::support::{
    RedisServer, Setup,
    certificates::{Files, authority, certificate},
    check, free_port,
};
use secrecy::SecretString;
use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, TlsConfig},
    telemetry::Metrics,
    worker::Worker,
    xco::XcoClient,
};

/// A Redis that speaks TLS on its own port, and the files of its client.
struct Secure {
    server: RedisServer,
    port: u16,
    files: Files,
    ca_file: PathBuf,
    client: (PathBuf, PathBuf),
}

impl Secure {
    /// Starts a server. `clients` is "yes" if it requires client certificates.
    fn start(clients: &str) -> Self {
        let (authority, files, port) = (authority(), Files::new(), free_port());
        let (chain, key) = certificate(&authority, &["localhost", "127.0.0.1"], |_| {});
        let (own, own_key) = certificate(&authority, &["worker"], |_| {});
        let ca_file = files.write("ca.pem", &authority.pem());
        let (chain, key) = (files.write("server.pem", &chain), files.write("server.key", &key));
        let client = (files.write("client.pem", &own), files.write("client.key", &own_key));
        let port_text = port.to_string();
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let server = RedisServer::own(&[
            "--save",
            "",
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &text(&chain),
            "--tls-key-file",
            &text(&key),
            "--tls-ca-cert-file",
            &text(&ca_file),
            "--tls-auth-clients",
            clients,
        ]);
        Self { server, port, files, ca_file, client }
    }
}

fn set_url(config: &mut Config, host: &str, port: u16) {
    config.redis.url = vec![SecretString::from(format!("rediss://worker:worker-password@{host}:{port}"))];
}

/// Waits until a worker with this configuration is not ready for a reason that contains `what`, and returns the reason.
async fn not_ready(config: &Config, what: &str) -> String {
    let api = Arc::new(XcoClient::new(&config.xco).unwrap());
    let worker = Worker::new(config.clone(), api, Metrics::default()).unwrap();
    let mut health = worker.health().watch();
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone()));
    let said = health.wait_for(|state| state.as_ref().is_err_and(|reason| reason.contains(what)));
    let said = tokio::time::timeout(Duration::from_secs(20), said).await.map(|state| state.unwrap().clone());
    let said = said.unwrap_or_else(|_| panic!("{what:?} is never said: {:?}", *health.borrow()));
    stop.cancel();
    running.await.unwrap();
    said.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_and_a_client_certificate_are_used_and_their_lack_is_named() {
    let secure = Secure::start("yes");
    let (port, ca_file, client) = (secure.port, secure.ca_file.clone(), secure.client.clone());
    let _files = secure.files;
    let mut rig = Setup { redis: secure.server, ..Setup::default() }.without_worker().await;
    set_url(&mut rig.config, "localhost", port);
    let said = not_ready(&rig.config, "unknown authority (CA)").await;
    assert!(said.contains("tls.ca_file"), "{said}");
    rig.config.redis.tls.ca_file = Some(ca_file);
    let said = not_ready(&rig.config, "wants one").await;
    assert!(said.contains("tls.cert_file"), "{said}");
    (rig.config.redis.tls.cert_file, rig.config.redis.tls.key_file) = (Some(client.0), Some(client.1));
    rig.start_worker();
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    rig.stop_workers().await;
    rig.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_is_named() {
    let secure = Secure::start("no");
    let (port, ca_file) = (secure.port, secure.ca_file.clone());
    let _files = secure.files;
    let mut rig = Setup { redis: secure.server, ..Setup::default() }.without_worker().await;
    rig.config.redis.tls = TlsConfig { ca_file: Some(ca_file), ..TlsConfig::default() };
    set_url(&mut rig.config, "localhost", rig.redis.port());
    let said = not_ready(&rig.config, "TLS handshake").await;
    assert!(said.contains("does that port speak TLS"), "{said}");
    set_url(&mut rig.config, "localhost", port);
    rig.start_worker();
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
}

/// The output of `doctor` about Redis.
fn doctor(config: &str, env: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, config).unwrap();
    let done = Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .current_dir(folder.path())
        .env_remove("SSL_CERT_FILE")
        .envs(env.iter().copied())
        .arg("--config")
        .arg(&file)
        .args(["--json", "doctor"])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    said.lines().find(|line| line.contains(r#""check":"redis""#)).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_in_the_environment_counts_for_redis_and_doctor_names_the_cause() {
    let secure = Secure::start("no");
    let config = format!("[redis]\nurl = \"rediss://worker:worker-password@localhost:{}\"\n", secure.port);
    let said = tokio::task::spawn_blocking(move || {
        let refused = doctor(&config, &[]);
        let bundle = secure.ca_file.to_str().unwrap().to_owned();
        let trusted = doctor(&config, &[("SSL_CERT_FILE", &bundle)]);
        let wrong = doctor(&format!("{config}tls.ca_file = \"/nowhere/ca.pem\"\n"), &[]);
        (refused, trusted, wrong)
    });
    let (refused, trusted, wrong) = said.await.unwrap();
    assert!(refused.contains("unknown authority (CA)") && refused.contains("SSL_CERT_FILE"), "{refused}");
    assert!(trusted.contains(r#""status":"ok""#), "{trusted}");
    assert!(wrong.contains("redis.tls.ca_file names no file"), "{wrong}");
}
