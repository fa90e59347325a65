//! An HTTP/1.1 server that misbehaving clients cannot block.
//!
//! The number of connections is bounded. A request's head must arrive in time. When all places are taken, a client that has
//! no request under way is disconnected to make room. hyper parses and times out; the places are counted here, because no
//! library disconnects an idle client in favour of a new one.

mod limits;
mod patient;
mod places;

pub use limits::ServerLimits;
pub use places::ConnectionHandle;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use patient::PatientStream;
use places::Places;
use std::{convert::Infallible, error::Error as StdError, io, net::SocketAddr, pin::pin};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

/// Pause when no file descriptor is free.
const DESCRIPTOR_WAIT: std::time::Duration = std::time::Duration::from_millis(20);

/// The address of the client, an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// A server that listens. Connections wait until [`HttpServer::serve`] is called.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    limits: ServerLimits,
}

impl HttpServer {
    /// Listens on `listen`. Port 0 means any free port. Fails if the address cannot be bound.
    pub async fn bind(listen: SocketAddr, limits: ServerLimits) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits })
    }

    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Limits the connections served at once, if `connections` is below the present limit.
    #[must_use]
    pub fn at_most(mut self, connections: usize) -> Self {
        self.limits.max_connections = self.limits.max_connections.min(connections.max(1));
        self
    }

    /// Answers requests until `stop`, then finishes the answers under way within [`ServerLimits::closing`].
    pub async fn serve<S, B>(self, service: S, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let places = Places::new(self.limits);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Without a place the stream is dropped, and so closed.
                        if let Some(place) = places.enter(peer.ip()) {
                            let serving = serve_one(stream, peer, place, service.clone(), self.limits, stop.clone());
                            connections.spawn(serving);
                        }
                    }
                    Err(error) if is_about_one_client(&error) => {}
                    Err(_) => {
                        places.make_room();
                        sleep(DESCRIPTOR_WAIT).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        places.dismiss_idle();
        // Answers that are not read by then are cut off.
        let _ = timeout(self.limits.closing, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// Whether an error of `accept` concerns one client only. All others concern the process: it has no file descriptors or
/// no memory left.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Serves one connection until it ends or its place is taken away.
async fn serve_one<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    place: ConnectionHandle,
    service: S,
    limits: ServerLimits,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let handle = place.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let under_way = handle.begin_request();
        request.extensions_mut().insert(PeerAddress(peer));
        request.extensions_mut().insert(handle.clone());
        let answering = service.clone().oneshot(request);
        async move {
            let response = answering.await?;
            // The request is under way until its answer is written, or the client is gone.
            Ok::<_, Infallible>(response.map(move |body| {
                body.map_frame(move |frame| {
                    let _ = &under_way;
                    frame
                })
                .boxed_unsync()
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.max_head_bytes)
        .keep_alive(limits.connection_life.is_none())
        .serve_connection(TokioIo::new(PatientStream::new(stream, limits.write_timeout)), answer);
    let mut connection = pin!(connection);
    let life = async {
        match limits.connection_life {
            Some(life) => sleep(life).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // An error is the client's: it disconnected, or sent something that is no request.
        _ = &mut connection => return,
        () = life => return,
        () = place.dismissed() => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = &mut connection => {}
        () = place.dismissed() => {}
    }
}
