//! A proxy for the token endpoint that can delay answers.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use url::Url;

pub(crate) struct Gate {
    url: Url,
    open: watch::Sender<bool>,
    held: watch::Receiver<usize>,
}

impl Gate {
    /// An open proxy for `target`.
    pub(crate) async fn before(target: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = target.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let address = target.socket_addrs(|| None).unwrap()[0];
        let (open, is_open) = watch::channel(true);
        let (holding, held) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(address).await.unwrap();
                let (mut near_reads, mut near_writes) = near.into_split();
                let (mut far_reads, mut far_writes) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut near_reads, &mut far_writes).await });
                let (mut is_open, holding) = (is_open.clone(), holding.clone());
                tokio::spawn(async move {
                    let mut answer = [0; 4096];
                    while let Ok(length @ 1..) = far_reads.read(&mut answer).await {
                        if !*is_open.borrow_and_update() {
                            holding.send_modify(|held| *held += 1);
                            is_open.wait_for(|open| *open).await.unwrap();
                        }
                        near_writes.write_all(&answer[..length]).await.unwrap();
                    }
                });
            }
        });
        Self { url, open, held }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// Delays answers from now on.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Waits until an answer is delayed.
    pub(crate) async fn holds_one(&mut self) {
        self.held.wait_for(|held| *held > 0).await.unwrap();
    }

    /// Lets the answers through.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}
