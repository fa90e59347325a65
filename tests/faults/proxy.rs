//! A TCP proxy that breaks connections at the worst moments: in the middle of a reply, after a command whose reply is
//! lost, or completely for some time. Its peers see what a broken network shows them, as far as a process can imitate
//! it.

use futures::FutureExt;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Faults of replies, each with its chance in 10,000.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Chances {
    /// The reply is lost and the connection closed.
    pub(crate) lost: u32,
    /// Half of the reply arrives, then the connection is closed.
    pub(crate) torn: u32,
    /// Half of the reply arrives, then the connection is reset.
    pub(crate) reset: u32,
    /// The reply arrives late, by up to `longest_stall`.
    pub(crate) stalled: u32,
    pub(crate) longest_stall: Duration,
}

/// State of the network between client and server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Network {
    Clear,
    /// Connections are refused, and open ones are cut.
    Refused,
    /// No data moves in either direction.
    Stalled,
    /// Connections are accepted but lead nowhere. Open ones are dead for good, silently.
    HalfOpen,
    /// All data is late by this much.
    Late(Duration),
    /// Replies fail at random.
    Replies(Chances),
}

/// State that every connection watches.
#[derive(Debug, Clone, Copy)]
struct Sky {
    network: Network,
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    sky: watch::Sender<Sky>,
    rng: Mutex<StdRng>,
    broken: [AtomicU64; 4],
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Through,
    Lost,
    Torn,
    Reset,
    Stalled(Duration),
}

/// Direction of a connection's data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Asking,
    Answering,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    Reset,
    /// For the client it stays open, and no data ever comes.
    Dead,
}

/// A running proxy for one server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy for `upstream`: `host:port` or the URL of a Redis. Replies fail at random until [`Proxy::set`].
    pub(crate) async fn start(upstream: &str, chances: Chances, seed: u64) -> Self {
        let listener = bind().await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("redis://").to_owned(),
            sky: watch::Sender::new(Sky { network: Network::Replies(chances), cuts: 0 }),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            broken: Default::default(),
        });
        let accepting = tokio::spawn(accept(listener, address, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Sets the state of the network from now on.
    pub(crate) fn set(&self, network: Network) {
        self.shared.sky.send_modify(|sky| sky.network = network);
    }

    /// Lets everything through from now on.
    pub(crate) fn calm(&self) {
        self.set(Network::Clear);
    }

    pub(crate) fn cut(&self) {
        self.shared.sky.send_modify(|sky| sky.cuts += 1);
    }

    /// Number of replies lost, torn, stalled and reset.
    pub(crate) fn broken(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|kind: usize| self.shared.broken[kind].load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Uses ports below those that systems assign, so that no other program gets the port while the proxy does not listen.
async fn bind() -> TcpListener {
    loop {
        let port = rand::rng().random_range(20_000..30_000);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut sky = shared.sky.subscribe();
    let mut listener = Some(listener);
    loop {
        if sky.borrow_and_update().network == Network::Refused {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                // Repeated, because the port was not free yet.
                None => sleep(Duration::from_millis(20)).map(|()| None).await,
            }
        };
        tokio::select! {
            changed = sky.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            accepted = accepted => {
                if let Some((client, _)) = accepted {
                    tokio::spawn(connect(client, Arc::clone(&shared)));
                }
            }
        }
    }
}

async fn connect(mut client: TcpStream, shared: Arc<Shared>) {
    let mut sky = shared.sky.subscribe();
    let cuts = sky.borrow().cuts;
    let end = match unless_stalled(&mut sky, cuts).await {
        Ok(_) => {
            let Ok(mut server) = TcpStream::connect(&shared.upstream).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            tokio::select! {
                end = pass(&mut from_client, &mut to_server, &shared, Way::Asking, cuts) => end,
                end = pass(&mut from_server, &mut to_client, &shared, Way::Answering, cuts) => end,
            }
        }
        Err(end) => end,
    };
    match end {
        End::Closed => {}
        End::Reset => drop(client.set_zero_linger()),
        End::Dead => while !matches!(client.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {},
    }
}

/// Waits until the network lets data through. Returns its state and whether there was a wait, or the connection's end.
async fn unless_stalled(sky: &mut watch::Receiver<Sky>, cuts: u64) -> Result<(Network, bool), End> {
    let mut waited = false;
    loop {
        let now = *sky.borrow_and_update();
        match now.network {
            _ if now.cuts != cuts => return Err(End::Closed),
            Network::Refused => return Err(End::Closed),
            Network::HalfOpen => return Err(End::Dead),
            Network::Stalled => waited = true,
            other => return Ok((other, waited)),
        }
        if sky.changed().await.is_err() {
            return Err(End::Closed);
        }
    }
}

/// Returns when the connection must end.
async fn ended(sky: &mut watch::Receiver<Sky>, cuts: u64) -> End {
    loop {
        let now = *sky.borrow_and_update();
        match now.network {
            _ if now.cuts != cuts => return End::Closed,
            Network::Refused => return End::Closed,
            Network::HalfOpen => return End::Dead,
            _ => {}
        }
        if sky.changed().await.is_err() {
            return End::Closed;
        }
    }
}

/// Forwards one direction.
async fn pass(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, shared: &Shared, way: Way, cuts: u64) -> End {
    let mut sky = shared.sky.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = tokio::select! {
            biased;
            end = ended(&mut sky, cuts) => return end,
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => length,
                _ => return End::Closed,
            },
        };
        let network = match unless_stalled(&mut sky, cuts).await {
            Ok((network, waited)) => {
                if waited && !matches!(from.peek(&mut [0]).now_or_never(), None | Some(Ok(1..))) {
                    // The sender gave up meanwhile. What it sent before is lost with the connection.
                    return End::Closed;
                }
                network
            }
            Err(end) => return end,
        };
        let mut chunk = &buffer[..length];
        let mut then = None;
        match (network, way) {
            (Network::Late(delay), _) => sleep(delay).await,
            (Network::Replies(chances), Way::Answering) => match shared.fate(chances) {
                Fate::Through => {}
                Fate::Lost => return End::Closed,
                Fate::Torn => (chunk, then) = (&buffer[..length / 2], Some(End::Closed)),
                Fate::Reset => (chunk, then) = (&buffer[..length / 2], Some(End::Reset)),
                Fate::Stalled(delay) => sleep(delay).await,
            },
            _ => {}
        }
        if to.write_all(chunk).await.is_err() {
            return End::Closed;
        }
        if let Some(end) = then {
            return end;
        }
    }
}

impl Shared {
    fn fate(&self, chances: Chances) -> Fate {
        let Chances { lost, torn, reset, stalled, longest_stall } = chances;
        let mut rng = self.rng.lock().unwrap();
        let drawn = rng.random_range(0..10_000);
        let (kind, fate) = match drawn {
            _ if drawn < lost => (0, Fate::Lost),
            _ if drawn < lost + torn => (1, Fate::Torn),
            _ if drawn < lost + torn + stalled => {
                (2, Fate::Stalled(rng.random_range(Duration::from_millis(10)..longest_stall)))
            }
            _ if drawn < lost + torn + stalled + reset => (3, Fate::Reset),
            _ => return Fate::Through,
        };
        self.broken[kind].fetch_add(1, Ordering::Relaxed);
        fate
    }
}
