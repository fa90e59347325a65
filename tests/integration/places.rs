//! Redis by name and by Sentinel: slow name servers, names that move, Sentinels that name another master.

use super::support::{
    RedisServer, Rig, Setup, as_user,
    certificates::{Files, authority, certificate},
    check, free_port,
};
use secrecy::SecretString;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    net::{Lookup, LookupPace, Names},
    telemetry::Metrics,
    worker::{Stopped, Worker},
    xco::{XcoClient, install_tls_provider},
};

const NAME: &str = "redis.test";
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A worker of this rig with this resolver.
fn worker(rig: &Rig, names: Names) -> (CancellationToken, JoinHandle<Stopped>) {
    let api = Arc::new(XcoClient::new(&rig.config.xco).unwrap());
    let worker = Worker::with_names(rig.config.clone(), api, Metrics::default(), names).unwrap();
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(worker.run(stop)))
}

async fn ended((stop, worker): (CancellationToken, JoinHandle<Stopped>)) {
    stop.cancel();
    worker.await.unwrap();
}

fn by_name(rig: &Rig) -> SecretString {
    SecretString::from(as_user(&format!("redis://{NAME}:{}", rig.redis.port()), "worker"))
}

async fn own_rig() -> Rig {
    Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "no"]), ..Setup::default() }.without_worker().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_that_takes_longer_than_connecting_may_delays_work_and_no_more() {
    let mut rig = own_rig().await;
    rig.config.redis.url = vec![by_name(&rig)];
    rig.config.redis.connect_timeout = Duration::from_millis(200);
    let asked = Arc::new(AtomicUsize::new(0));
    let (answer, answered) = watch::channel(false);
    let count = Arc::clone(&asked);
    let names = Names::new(LookupPace::default(), move |host| -> Lookup {
        assert_eq!(host, NAME);
        count.fetch_add(1, Ordering::Relaxed);
        let mut answered = answered.clone();
        Box::pin(async move {
            let _ = answered.wait_for(|answered| *answered).await;
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        })
    });
    let api = Arc::new(XcoClient::new(&rig.config.xco).unwrap());
    let worker = Worker::with_names(rig.config.clone(), api, Metrics::default(), names).unwrap();
    let mut health = worker.health().watch();
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone()));
    health.wait_for(|state| state.as_ref().is_err_and(|reason| reason == "no answer in time")).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "one lookup, however many connections wait for it");
    answer.send_replace(true);
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    ended((stop, running)).await;
    rig.assert_clean().await;
}

/// Forwards connections from one address to a port of this machine.
async fn carry(from: (Ipv4Addr, u16), to: u16) {
    let listener = TcpListener::bind(from).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_is_followed_although_the_old_server_answers() {
    let mut rig = own_rig().await;
    rig.config.redis.url = vec![by_name(&rig)];
    let next = RedisServer::own(&["--save", "", "--appendonly", "no"]);
    carry((OTHER, rig.redis.port()), next.port()).await;
    let addresses = Arc::new(Mutex::new(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]));
    let now = Arc::clone(&addresses);
    let pace = LookupPace { fresh: Duration::from_millis(100), ..LookupPace::default() };
    let worker = worker(
        &rig,
        Names::new(pace, move |_| -> Lookup {
            let found = now.lock().unwrap().clone();
            Box::pin(async { Ok(found) })
        }),
    );
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    *addresses.lock().unwrap() = vec![OTHER.into()];
    let mut old = rig.move_to(next).await;
    assert_eq!(rig.complete(check("j2", "john@example.com")).await["status"], "succeeded");
    // Every connection has moved, not only one: nothing uses the old server any more.
    idle_there(&old).await;
    ended(worker).await;
    rig.assert_clean().await;
    old.kill();
}

/// Waits until workers send a server no more commands. Idle loops may still be connected.
async fn idle_there(server: &RedisServer) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        let idle =
            |line: &str| line.split(" idle=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        let mut workers = clients.lines().filter(|line| line.contains("user=worker"));
        if workers.all(|line| idle(line) >= Some(3)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{clients}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The part of a Sentinel that a client uses.
struct FakeSentinel {
    port: u16,
    master: Arc<Mutex<(u16, u64)>>,
}

impl FakeSentinel {
    /// Starts a Sentinel that names `master`. With `login`, it answers nothing before the right `AUTH`.
    async fn start(master: u16, login: Option<&'static str>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let master = Arc::new(Mutex::new((master, 1)));
        let shown = Arc::clone(&master);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shown, tls) = (Arc::clone(&shown), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, login, &shown).await,
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                answer(stream, login, &shown).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, master }
    }

    fn name(&self, master: u16) {
        let mut now = self.master.lock().unwrap();
        *now = (master, now.1 + 1);
    }
}

async fn answer(
    stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    login: Option<&str>,
    master: &Arc<Mutex<(u16, u64)>>,
) {
    let mut stream = BufReader::new(stream);
    let mut open = login.is_none();
    while let Some(words) = command(&mut stream).await {
        let name = words[0].to_uppercase();
        let reply = match name.as_str() {
            "AUTH" => {
                open = Some(words[1..].join(" ").as_str()) == login;
                if open { "+OK\r\n".to_owned() } else { "-WRONGPASS no\r\n".to_owned() }
            }
            _ if !open => "-NOAUTH Authentication required.\r\n".to_owned(),
            "SENTINEL" => {
                let (port, epoch) = *master.lock().unwrap();
                let facts = [
                    ("name", "main".to_owned()),
                    ("ip", "127.0.0.1".to_owned()),
                    ("port", port.to_string()),
                    ("flags", "master".to_owned()),
                    ("config-epoch", epoch.to_string()),
                ];
                let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
                let facts: String = facts.iter().map(|(name, value)| text(name) + &text(value)).collect();
                format!("*1\r\n*10\r\n{facts}")
            }
            _ => "+OK\r\n".to_owned(),
        };
        if stream.get_mut().write_all(reply.as_bytes()).await.is_err() || stream.get_mut().flush().await.is_err() {
            return;
        }
    }
}

async fn command(stream: &mut BufReader<impl AsyncReadExt + Unpin>) -> Option<Vec<String>> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    Some(words)
}

fn here() -> Names {
    Names::new(LookupPace::default(), |_| -> Lookup { Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }) })
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_is_followed_although_the_old_one_still_takes_writes() {
    let mut rig = own_rig().await;
    let next = RedisServer::own(&["--save", "", "--appendonly", "no"]);
    let sentinel = FakeSentinel::start(rig.redis.port(), None, None).await;
    // An isolated Sentinel: it answers first and does not know of the failover.
    let cut_off = FakeSentinel::start(rig.redis.port(), None, None).await;
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main", cut_off.port, sentinel.port);
    rig.config.redis.url = vec![SecretString::from(as_user(&url, "worker"))];
    let worker = worker(&rig, here());
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    sentinel.name(next.port());
    let old = rig.move_to(next).await;
    assert_eq!(rig.complete(check("j2", "john@example.com")).await["status"], "succeeded");
    idle_there(&old).await;
    ended(worker).await;
    rig.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_want_a_password_get_their_own_or_the_servers() {
    for (login, own) in [("worker worker-password", None), ("watcher s3cret", Some(("watcher", "s3cret")))] {
        let mut rig = own_rig().await;
        let sentinel = FakeSentinel::start(rig.redis.port(), Some(login), None).await;
        let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
        rig.config.redis.url = vec![SecretString::from(as_user(&url, "worker"))];
        if let Some((username, password)) = own {
            rig.config.redis.sentinel.username = Some(username.to_owned());
            rig.config.redis.sentinel.password = Some(SecretString::from(password));
        }
        let worker = worker(&rig, here());
        assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded", "{login}");
        ended(worker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_are_reached_over_tls() {
    install_tls_provider();
    let (authority, files, port) = (authority(), Files::new(), free_port());
    let (chain, key) = certificate(&authority, &["127.0.0.1"], |_| {});
    let ca_file = files.write("ca.pem", &authority.pem());
    let (chain_file, key_file) = (files.write("server.pem", &chain), files.write("server.key", &key));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let redis = RedisServer::own(&[
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(&chain_file),
        "--tls-key-file",
        &text(&key_file),
        "--tls-ca-cert-file",
        &text(&ca_file),
        "--tls-auth-clients",
        "no",
    ]);
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let tls = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let mut rig = Setup { redis, ..Setup::default() }.without_worker().await;
    let sentinel = FakeSentinel::start(port, None, Some(tls)).await;
    let url = format!("rediss+sentinel://127.0.0.1:{}/main", sentinel.port);
    rig.config.redis.url = vec![SecretString::from(as_user(&url, "worker"))];
    rig.config.redis.tls.ca_file = Some(ca_file);
    let worker = worker(&rig, here());
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    ended(worker).await;
    rig.assert_clean().await;
}
