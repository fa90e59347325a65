//! A TCP proxy whose connections can fall silent without being closed: half-open, as after a cable is pulled.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running proxy for one server.
#[derive(Debug)]
pub(crate) struct Hole {
    address: SocketAddr,
    open: watch::Sender<bool>,
    swallowed: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Hole {
    pub(crate) async fn before(upstream: &str) -> Self {
        let upstream = upstream.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(false);
        let swallowed = Arc::new(AtomicUsize::new(0));
        let (for_all, counter) = (open.clone(), Arc::clone(&swallowed));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream.clone(), for_all.subscribe(), Arc::clone(&counter)));
            }
        });
        Self { address, open, swallowed, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on every existing and new connection accepts data and returns nothing.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// New connections work again. Silent ones stay silent.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Number of connections that have fallen silent.
    pub(crate) fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, upstream: String, mut open: watch::Receiver<bool>, swallowed: Arc<AtomicUsize>) {
    let _ = client.set_nodelay(true);
    if !*open.borrow_and_update() {
        let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
        let _ = server.set_nodelay(true);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {
                let _ = client.shutdown().await;
                return;
            }
            () = opened(&mut open) => {}
        }
    }
    swallowed.fetch_add(1, Ordering::Relaxed);
    let mut waste = vec![0; 4096];
    while let Ok(1..) = client.read(&mut waste).await {}
}

async fn opened(open: &mut watch::Receiver<bool>) {
    // The sender lives as long as the proxy.
    let _ = open.wait_for(|open| *open).await;
}
