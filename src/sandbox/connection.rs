//! Connections that a handler can cut abruptly, as a crashed proxy or a dying host does.

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Cuts one connection.
#[derive(Debug, Default)]
struct Switch {
    cut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Switch {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Registers the waker and returns whether the connection is cut. In this order no cut is missed.
    fn watch(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|held| held.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.cut.load(Ordering::Acquire)
    }
}

/// A handler's reference to the connection that it answers on.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Switch>);

impl Connection {
    /// Cuts the connection now. The peer sees a reset, and receives nothing that was not sent before.
    pub(super) fn cut(&self) {
        self.0.cut();
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        Self(Arc::clone(&stream.io().switch))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Connections {
    open: Arc<Mutex<HashMap<u64, Arc<Switch>>>>,
    next: Arc<AtomicU64>,
}

impl Connections {
    pub(super) fn cut_all(&self) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        for switch in open {
            switch.cut();
        }
    }

    fn enter(&self) -> (u64, Arc<Switch>) {
        let (id, switch) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(Switch::default()));
        self.open.lock().insert(id, Arc::clone(&switch));
        (id, switch)
    }

    fn leave(&self, id: u64) {
        self.open.lock().remove(&id);
    }
}

#[derive(Debug)]
pub(super) struct CuttableListener {
    tcp: TcpListener,
    connections: Connections,
}

impl CuttableListener {
    pub(super) fn new(tcp: TcpListener, connections: Connections) -> Self {
        Self { tcp, connections }
    }
}

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, addr)) => {
                    // Without it answers wait for acknowledgements. A socket that refuses it still works.
                    let _ = tcp.set_nodelay(true);
                    let (id, switch) = self.connections.enter();
                    return (CuttableStream { tcp, id, switch, connections: self.connections.clone() }, addr);
                }
                // Most likely there are no file descriptors at the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

#[derive(Debug)]
pub(super) struct CuttableStream {
    tcp: TcpStream,
    id: u64,
    switch: Arc<Switch>,
    connections: Connections,
}

impl CuttableStream {
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        if self.switch.watch(context) {
            // Dropped with a linger of zero, the socket sends RST instead of FIN.
            let _ = self.tcp.set_zero_linger();
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    }
}

impl Drop for CuttableStream {
    fn drop(&mut self) {
        self.connections.leave(self.id);
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_read(context, buf)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
