//! XCO over TLS, by host name: certificates, addresses, and the lifetime of a connection.

use super::{
    certificates::{self, Authority, Files, authority},
    support::{call_of, check},
};
use rcgen::CertificateParams;
use secrecy::SecretString;
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};
use xco_worker::{
    config::{TlsConfig, XcoConfig},
    net::{Lookup, LookupPace, Names},
    xco::{CallContext, CallFailure, CallReport, FailureKind, XcoApi, XcoClient, install_tls_provider},
};

const NAME: &str = "xco.test";

/// A certificate for [`NAME`], and its key, in PEM.
fn certificate(by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    certificates::certificate(by, &[NAME], change)
}

fn valid(_: &mut CertificateParams) {}

/// A server that grants tokens and knows every customer. It counts its connections.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
}

fn server_config(certificate: &(String, String), clients: Option<&Authority>) -> Arc<ServerConfig> {
    install_tls_provider();
    let chain = CertificateDer::pem_slice_iter(certificate.0.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.1.as_bytes()).unwrap();
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

impl Server {
    async fn on(address: IpAddr, port: u16, shown: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let plain = shown.is_none();
        let shown = shown.unwrap_or_else(|| server_config(&certificate(&authority(), valid), None));
        let shown = Arc::new(Mutex::new(shown));
        let (count, config) = (Arc::clone(&connections), Arc::clone(&shown));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let config = Arc::clone(&config.lock().unwrap());
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    if plain {
                        count.fetch_add(1, Ordering::Relaxed);
                        serve(stream).await;
                    } else if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        count.fetch_add(1, Ordering::Relaxed);
                        serve(stream).await;
                    }
                });
            }
        });
        Self { port, connections, shown }
    }

    async fn secure(shown: Arc<ServerConfig>) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), 0, Some(shown)).await
    }

    fn show(&self, config: Arc<ServerConfig>) {
        *self.shown.lock().unwrap() = config;
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A minimal HTTP/1.1 server.
async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut text = Vec::new();
    loop {
        let end = loop {
            if let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                let heads = String::from_utf8_lossy(&text[..head]).to_lowercase();
                let length = heads.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                if text.len() >= head + 4 + length {
                    break head + 4 + length;
                }
            }
            match stream.read_buf(&mut text).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let body = if text.starts_with(b"POST /token") {
            r#"{"access_token":"t","token_type":"Bearer","expires_in":300}"#
        } else {
            r#"{"exists":true,"token_count":2}"#
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
        text.drain(..end);
    }
}

fn config(scheme: &str, port: u16) -> XcoConfig {
    let url = |path: &str| Some(format!("{scheme}://{NAME}:{port}{path}").parse().unwrap());
    XcoConfig {
        base_url: url(""),
        token_url: url("/token"),
        client_id: Some("id".to_owned()),
        client_secret: Some(SecretString::from("secret")),
        timeout: Duration::from_secs(5),
        allow_insecure_http: true,
        ..XcoConfig::default()
    }
}

/// A resolver for which every name has the addresses in `now` at that moment.
fn names(now: &Arc<Mutex<Vec<IpAddr>>>, pace: LookupPace) -> Names {
    let now = Arc::clone(now);
    Names::new(pace, move |_| -> Lookup {
        let found = now.lock().unwrap().clone();
        Box::pin(async { Ok(found) })
    })
}

fn here() -> Names {
    names(&Arc::new(Mutex::new(vec![Ipv4Addr::LOCALHOST.into()])), LookupPace::default())
}

fn trusting(ca_file: &Path) -> TlsConfig {
    TlsConfig { ca_file: Some(ca_file.to_owned()), ..TlsConfig::default() }
}

fn client(config: &XcoConfig, names: Names) -> XcoClient {
    XcoClient::with_names(config, names).unwrap()
}

async fn call(client: &XcoClient) -> CallReport {
    client.call(call_of(&check()), CallContext::default()).await
}

async fn failure(client: &XcoClient) -> CallFailure {
    call(client).await.result.unwrap_err()
}

/// Calls until one succeeds, as a job's retries do.
async fn works_at_last(client: &XcoClient) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = call(client).await.result {
        assert!(Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_its_file_is_named() {
    let (authority, files) = (authority(), Files::new());
    let server = Server::secure(server_config(&certificate(&authority, valid), None)).await;
    let mut config = config("https", server.port);
    let refused = failure(&client(&config, here())).await;
    assert_eq!(refused.kind, FailureKind::Network);
    assert!(refused.message.contains("unknown authority (CA)"), "{refused:?}");
    assert!(refused.remedy.unwrap().contains("tls.ca_file"), "{refused:?}");
    assert!(client(&config, here()).ping().await.unwrap_err().message.contains("unknown authority"));
    config.tls = trusting(&files.write("ca.pem", &authority.pem()));
    call(&client(&config, here())).await.result.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_and_one_for_another_name_are_named() {
    let (authority, files) = (authority(), Files::new());
    let server = Server::secure(server_config(&certificate(&authority, valid), None)).await;
    let mut config = config("https", server.port);
    config.tls = trusting(&files.write("ca.pem", &authority.pem()));
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let elsewhere = |params: &mut CertificateParams| {
        *params = CertificateParams::new(vec!["elsewhere.test".to_owned()]).unwrap();
    };
    for (shown, what) in
        [(certificate(&authority, expired), "has expired"), (certificate(&authority, elsewhere), "another host name")]
    {
        server.show(server_config(&shown, None));
        let refused = failure(&client(&config, here())).await;
        assert_eq!(refused.kind, FailureKind::Network);
        assert!(refused.message.contains(what) && refused.remedy.is_some(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it() {
    let (authority, files) = (authority(), Files::new());
    let server = Server::secure(server_config(&certificate(&authority, valid), Some(&authority))).await;
    let mut config = config("https", server.port);
    config.tls = trusting(&files.write("ca.pem", &authority.pem()));
    let refused = failure(&client(&config, here())).await;
    assert!(refused.message.contains("wants one"), "{refused:?}");
    let (certificate, key) = certificate(&authority, valid);
    config.tls.cert_file = Some(files.write("client.pem", &certificate));
    config.tls.key_file = Some(files.write("client.key", &key));
    call(&client(&config, here())).await.result.unwrap();
}

#[tokio::test]
async fn a_bundle_that_is_extended_on_disk_counts_without_a_restart() {
    let (old, new, files) = (authority(), authority(), Files::new());
    let server = Server::secure(server_config(&certificate(&old, valid), None)).await;
    let mut config = config("https", server.port);
    config.tls = trusting(&files.write("ca.pem", &old.pem()));
    let client = client(&config, here());
    call(&client).await.result.unwrap();
    server.show(server_config(&certificate(&new, valid), None));
    // A pooled connection would still work.
    client.give_up_idle();
    assert!(failure(&client).await.message.contains("unknown authority"));
    files.write("ca.pem", &format!("{}{}", old.pem(), new.pem()));
    works_at_last(&client).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_before_anything_is_sent() {
    let files = Files::new();
    let mut config = config("https", 1);
    config.tls.ca_file = Some(files.path("none"));
    let fault = XcoClient::new(&config).unwrap_err();
    assert_eq!((fault.0[0].key, fault.0[0].problem), ("xco.tls.ca_file", "names no file"));
    config.tls = TlsConfig { key_file: Some(files.write("key", "hunter2")), ..TlsConfig::default() };
    let fault = XcoClient::new(&config).unwrap_err();
    assert_eq!(fault.0[0].key, "xco.tls.cert_file");
    assert!(!fault.to_string().contains("hunter2"));
}

#[tokio::test]
async fn calls_follow_a_name_to_its_new_address_although_the_old_one_answers() {
    let old = Server::on(Ipv4Addr::LOCALHOST.into(), 0, None).await;
    let new = Server::on(Ipv4Addr::new(127, 0, 0, 2).into(), old.port, None).await;
    let addresses = Arc::new(Mutex::new(vec![Ipv4Addr::LOCALHOST.into()]));
    let mut config = config("http", old.port);
    config.connection_max_age = Duration::from_secs(3);
    let pace = LookupPace { fresh: Duration::from_millis(100), ..LookupPace::default() };
    let client = client(&config, names(&addresses, pace));
    call(&client).await.result.unwrap();
    *addresses.lock().unwrap() = vec![Ipv4Addr::new(127, 0, 0, 2).into()];
    let deadline = Instant::now() + Duration::from_secs(30);
    while new.connections() == 0 {
        assert!(Instant::now() < deadline, "the old address is called for ever");
        call(&client).await.result.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An address that accepts no connection: its queue of connections is full.
async fn dead(port: u16) -> (TcpListener, Vec<TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 3), port).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect((Ipv4Addr::new(127, 0, 0, 3), port))).await
    {
        queue.push(stream.unwrap());
    }
    (listener, queue)
}

#[tokio::test]
async fn the_second_address_is_tried_where_the_first_is_dead() {
    let server = Server::on(Ipv4Addr::LOCALHOST.into(), 0, None).await;
    let _dead = dead(server.port).await;
    let addresses = Arc::new(Mutex::new(vec![Ipv4Addr::new(127, 0, 0, 3).into(), Ipv4Addr::LOCALHOST.into()]));
    let mut config = config("http", server.port);
    (config.timeout, config.connect_timeout) = (Duration::from_secs(3), Duration::from_secs(3));
    let report = call(&client(&config, names(&addresses, LookupPace::default()))).await;
    report.result.unwrap();
}

#[tokio::test]
async fn a_lookup_that_takes_longer_than_a_call_serves_the_next_call() {
    let server = Server::on(Ipv4Addr::LOCALHOST.into(), 0, None).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (answer, wait) = tokio::sync::watch::channel(false);
    let names = Names::new(LookupPace::default(), move |_| -> Lookup {
        count.fetch_add(1, Ordering::Relaxed);
        let mut wait = wait.clone();
        Box::pin(async move {
            let _ = wait.wait_for(|answered| *answered).await;
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        })
    });
    let mut config = config("http", server.port);
    config.timeout = Duration::from_millis(600);
    let client = client(&config, names);
    assert_eq!(failure(&client).await.kind, FailureKind::Network);
    assert_eq!(failure(&client).await.kind, FailureKind::Network);
    answer.send_replace(true);
    works_at_last(&client).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1, "one lookup serves all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_certificate_and_its_remedy() {
    let authority = authority();
    let shown = certificates::certificate(&authority, &["localhost"], valid);
    let server = Server::secure(server_config(&shown, None)).await;
    let (files, port) = (Files::new(), server.port);
    let said = tokio::task::spawn_blocking(move || {
        let config = files.write(
            "x.toml",
            &format!(
                "[xco]\nbase_url = \"https://localhost:{port}\"\ntoken_url = \"https://localhost:{port}/token\"\n\
                 client_id = \"id\"\nclient_secret = \"secret\"\ntimeout = \"2s\"\n[redis]\nurl = \"redis://127.0.0.1:1\"\n"
            ),
        );
        let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_xco-worker"));
        doctor.env_remove("SSL_CERT_FILE").arg("--config").arg(config).args(["--json", "doctor"]);
        String::from_utf8(doctor.output().unwrap().stdout).unwrap()
    });
    let said = said.await.unwrap();
    for check in ["xco token", "xco reachable"] {
        let line = said.lines().find(|line| line.contains(&format!(r#""check":"{check}""#))).unwrap();
        assert!(line.contains("unknown authority (CA)") && line.contains("set tls.ca_file"), "{line}");
        assert!(line.contains(r#""status":"fail""#) && line.matches("SSL_CERT_FILE").count() == 1, "{line}");
    }
}
