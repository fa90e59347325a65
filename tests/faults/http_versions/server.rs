//! A TLS server for XCO's calls that implements HTTP/2 frame by frame, and HTTP/1.1. It refuses, closes and falls
//! silent on demand.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const HTTP_1_1_REQUIRED: u32 = 13;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const INTERNAL_ERROR: u32 = 2;

/// Reaction of the server to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Executes the request and answers.
    Answer,
    /// Answers with header fields of this total size and this size each, in bytes.
    Headers(usize, usize),
    /// Resets the stream with this error code.
    Reset(u32),
    /// Closes the connection and reports that this stream and later ones are not processed.
    GoAwayBelow,
    /// Closes the connection and reports this stream as the last that may have been processed. It gets no answer.
    GoAwayAt,
    /// Executes the request, and ends the connection after it, as nginx does after `keepalive_requests`.
    Last,
    /// Stops reading and writing on this connection.
    Silence,
}

/// The relevant parts of a request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Number of its connection, from 0.
    pub(crate) connection: usize,
    /// Its number on the connection, from 0.
    pub(crate) number: usize,
    pub(crate) body: String,
}

type Decide = dyn Fn(&Asked) -> Act + Send + Sync;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    certificate: Arc<(PathBuf, tempfile::TempDir)>,
}

struct Shared {
    decide: Mutex<Arc<Decide>>,
    offers: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    /// Bodies of the executed requests, in order and with repetitions.
    done: Mutex<Vec<String>>,
    versions: Mutex<Vec<&'static str>>,
    latency: Duration,
}

impl Server {
    /// Starts a server that offers these protocols. `decide` chooses the reaction to each request.
    pub(crate) async fn start(offers: &[&str], decide: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                decide: Mutex::new(Arc::new(decide)),
                offers: Mutex::default(),
                connections: AtomicUsize::new(0),
                done: Mutex::default(),
                versions: Mutex::default(),
                latency: Duration::from_millis(20),
            }),
            certificate: Arc::new((file, folder)),
        };
        server.offer(offers);
        let shared = Arc::clone(&server.shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let mut config = config.clone();
                config.alpn_protocols.clone_from(&shared.offers.lock().unwrap());
                let (acceptor, shared) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                        shared.versions.lock().unwrap().push("2");
                        let _ = speak_http2(tls, connection, shared).await;
                    } else {
                        shared.versions.lock().unwrap().push("1.1");
                        let _ = speak_http1(tls, connection, shared).await;
                    }
                });
            }
        });
        server
    }

    /// Changes the offered protocols from the next connection on.
    pub(crate) fn offer(&self, offers: &[&str]) {
        *self.shared.offers.lock().unwrap() = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    }

    /// Changes the reaction to requests from now on.
    pub(crate) fn decide(&self, decide: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.shared.decide.lock().unwrap() = Arc::new(decide);
    }

    /// Path of the certificate, for `SSL_CERT_FILE`.
    pub(crate) fn certificate(&self) -> &str {
        self.certificate.0.to_str().unwrap()
    }

    /// Number of executed requests whose body contains `text`.
    pub(crate) fn done(&self, text: &str) -> usize {
        self.shared.done.lock().unwrap().iter().filter(|body| body.contains(text)).count()
    }

    /// The version of HTTP of each connection.
    pub(crate) fn versions(&self) -> Vec<&'static str> {
        self.shared.versions.lock().unwrap().clone()
    }
}

impl Shared {
    fn act(&self, asked: &Asked) -> Act {
        let decide = Arc::clone(&self.decide.lock().unwrap());
        let act = decide(asked);
        if matches!(act, Act::Answer | Act::Headers(..) | Act::Last) {
            self.done.lock().unwrap().push(asked.body.clone());
        }
        act
    }
}

/// The answer's body, if its call has one.
fn answer_to(body: &str) -> Option<&'static str> {
    if body.contains("grant_type") {
        return Some(r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#);
    }
    body.contains("verification_code").then_some(r#"{"consent_challenge_id":"challenge"}"#)
}

fn padding(act: Act) -> Vec<(String, String)> {
    let Act::Headers(total, each) = act else { return Vec::new() };
    (0..total / each).map(|number| (format!("x-padding-{number}"), "v".repeat(each))).collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Writes a string in HPACK's format, without Huffman coding.
fn hpack_string(text: &str, into: &mut Vec<u8>) {
    if let Ok(short @ 0..127) = u8::try_from(text.len()) {
        into.push(short);
    } else {
        into.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            into.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        into.push(u8::try_from(rest).unwrap());
    }
    into.extend(text.as_bytes());
}

/// The frames of an answer.
fn answer_frames(stream: u32, body: Option<&str>, act: Act) -> Vec<u8> {
    // `:status: 200` and `:status: 204` of the static table.
    let mut block = vec![if body.is_some() { 0x88 } else { 0x89 }];
    for (name, value) in padding(act) {
        block.push(0);
        hpack_string(&name, &mut block);
        hpack_string(&value, &mut block);
    }
    let end_stream = u8::from(body.is_none());
    let chunks: Vec<&[u8]> = block.chunks(16_000).collect();
    let mut frames = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let end_headers = if number + 1 == chunks.len() { 4 } else { 0 };
        let (kind, flags) = if number == 0 { (1, end_stream | end_headers) } else { (9, end_headers) };
        frames.extend(frame(kind, flags, stream, chunk));
    }
    if let Some(body) = body {
        frames.extend(frame(0, 1, stream, body.as_bytes()));
    }
    frames
}

async fn speak_http2(
    tls: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    connection: usize,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(tls);
    let mut preface = [0; 24];
    reader.read_exact(&mut preface).await?;
    let (out, mut frames) = mpsc::unbounded_channel::<Vec<u8>>();
    // An empty text ends the connection.
    let writing = tokio::spawn(async move {
        while let Some(bytes) = frames.recv().await {
            if bytes.is_empty() {
                break;
            }
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    });
    let send = |bytes: Vec<u8>| drop(out.send(bytes));
    send(frame(4, 0, 0, &[]));
    let mut bodies = std::collections::HashMap::<u32, String>::new();
    // The highest stream processed so far, and the last one that will be processed if the connection is to end.
    let (mut number, mut highest, mut last) = (0, 0, None::<u32>);
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length as usize];
        reader.read_exact(&mut payload).await?;
        match kind {
            0 => {
                if length > 0 {
                    send(frame(8, 0, 0, &length.to_be_bytes()));
                }
                bodies.entry(stream).or_default().push_str(&String::from_utf8_lossy(&payload));
            }
            1 => drop(bodies.entry(stream).or_default()),
            4 if flags & 1 == 0 => send(frame(4, 1, 0, &[])),
            6 if flags & 1 == 0 => send(frame(6, 1, 0, &payload)),
            _ => {}
        }
        if !(kind <= 1 && flags & 1 == 1) || last.is_some_and(|last| stream > last) {
            continue;
        }
        let asked = Asked { connection, number, body: bodies.remove(&stream).unwrap_or_default() };
        number += 1;
        let go_away = |at: u32| frame(7, 0, 0, &[at.to_be_bytes(), 0_u32.to_be_bytes()].concat());
        let act = shared.act(&asked);
        match act {
            Act::Reset(reason) => send(frame(3, 0, stream, &reason.to_be_bytes())),
            Act::GoAwayBelow | Act::GoAwayAt => {
                let at = if act == Act::GoAwayBelow { highest } else { stream.max(highest) };
                send(go_away(at));
                last = Some(at);
                let (out, latency) = (out.clone(), shared.latency * 2);
                tokio::spawn(async move {
                    sleep(latency).await;
                    let _ = out.send(Vec::new());
                });
            }
            Act::Silence => std::future::pending().await,
            Act::Answer | Act::Headers(..) | Act::Last => {
                let ends = act == Act::Last;
                highest = highest.max(stream);
                if ends {
                    send(go_away(highest));
                    last = Some(highest);
                }
                let (out, latency) = (out.clone(), shared.latency);
                let answer = answer_frames(stream, answer_to(&asked.body), act);
                tokio::spawn(async move {
                    sleep(latency).await;
                    let _ = out.send(answer);
                    if ends {
                        sleep(latency).await;
                        let _ = out.send(Vec::new());
                    }
                });
            }
        }
    }
    writing.abort();
    Ok(())
}

async fn speak_http1(
    mut tls: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    for number in 0.. {
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&buffer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
                if body.len() >= length.unwrap_or(0_usize) {
                    break (head.to_owned(), body.to_owned());
                }
            }
            if tls.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        drop(head);
        buffer.clear();
        let asked = Asked { connection, number, body };
        let act = shared.act(&asked);
        match act {
            Act::Silence => std::future::pending().await,
            Act::Reset(_) | Act::GoAwayBelow | Act::GoAwayAt => return Ok(()),
            Act::Answer | Act::Headers(..) | Act::Last => {
                sleep(shared.latency).await;
                let mut answer = match answer_to(&asked.body) {
                    Some(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len()),
                    None => "HTTP/1.1 204 No Content\r\n".to_owned(),
                };
                for (name, value) in padding(act) {
                    for part in [&name, ": ", &value, "\r\n"] {
                        answer.push_str(part);
                    }
                }
                if act == Act::Last {
                    answer.push_str("connection: close\r\n");
                }
                answer.push_str("\r\n");
                answer.push_str(answer_to(&asked.body).unwrap_or_default());
                tls.write_all(answer.as_bytes()).await?;
                tls.flush().await?;
                if act == Act::Last {
                    return tls.shutdown().await;
                }
            }
        }
    }
    Ok(())
}
