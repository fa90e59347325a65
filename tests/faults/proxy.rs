//! A TCP proxy that breaks connections where it hurts: in the middle of a reply, or after a command whose reply is lost.

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::sleep,
};

/// How a reply goes wrong, each with a chance in 10,000.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chances {
    /// The reply is lost and the connection cut.
    pub(crate) lost: u32,
    /// Half of it arrives, then the connection is cut.
    pub(crate) torn: u32,
    /// It arrives late, by up to `longest_stall`.
    pub(crate) stalled: u32,
    pub(crate) longest_stall: Duration,
}

#[derive(Debug)]
struct Shared {
    chances: Chances,
    rng: Mutex<StdRng>,
    breaking: AtomicBool,
    broken: [AtomicU64; 3],
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Through,
    Lost,
    Torn,
    Stalled(Duration),
}

/// A running proxy in front of one server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: &str, chances: Chances, seed: u64) -> Self {
        let upstream = upstream.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            chances,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            breaking: AtomicBool::new(true),
            broken: Default::default(),
        });
        let for_all = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asking = tokio::spawn(pass(from_client, to_server));
                let shared = Arc::clone(&for_all);
                tokio::spawn(async move {
                    answer(from_server, to_client, &shared).await;
                    // Both directions of a connection end together.
                    asking.abort();
                });
            }
        });
        Self { address, shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on everything goes through.
    pub(crate) fn calm(&self) {
        self.shared.breaking.store(false, Ordering::Relaxed);
    }

    /// Replies lost, torn and stalled.
    pub(crate) fn broken(&self) -> [u64; 3] {
        [0, 1, 2].map(|kind: usize| self.shared.broken[kind].load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut reply = &buffer[..length];
        match shared.fate() {
            Fate::Through => {}
            Fate::Lost => return,
            Fate::Torn => reply = &reply[..length / 2],
            Fate::Stalled(delay) => sleep(delay).await,
        }
        if to.write_all(reply).await.is_err() || reply.len() < length {
            return;
        }
    }
}

impl Shared {
    fn fate(&self) -> Fate {
        if !self.breaking.load(Ordering::Relaxed) {
            return Fate::Through;
        }
        let Chances { lost, torn, stalled, longest_stall } = self.chances;
        let mut rng = self.rng.lock().unwrap();
        let drawn = rng.random_range(0..10_000);
        let (kind, fate) = match drawn {
            _ if drawn < lost => (0, Fate::Lost),
            _ if drawn < lost + torn => (1, Fate::Torn),
            _ if drawn < lost + torn + stalled => {
                (2, Fate::Stalled(rng.random_range(Duration::from_millis(10)..longest_stall)))
            }
            _ => return Fate::Through,
        };
        self.broken[kind].fetch_add(1, Ordering::Relaxed);
        fate
    }
}
