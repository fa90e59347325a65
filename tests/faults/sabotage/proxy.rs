//! A proxy that understands commands, and sends scripts with a prefix that makes commands in them fail.

use super::{Sabotage, resp};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::ReadHalf, tcp::WriteHalf},
    task::JoinHandle,
    time::timeout,
};

const PREFIX: &str = include_str!("prefix.lua");

/// A hash that no script has. Redis answers `NOSCRIPT`, in order, and the client sends the text.
const NO_SCRIPT: &[u8] = b"0000000000000000000000000000000000000000";

/// A script that a client has loaded.
#[derive(Debug, Clone)]
struct Known {
    /// Name in its header, such as `finish.lua`.
    name: String,
    /// Hash of its text with the prefix.
    sabotaged: String,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    sabotage: Mutex<Option<Sabotage>>,
    rng: Mutex<StdRng>,
    /// By hash.
    scripts: Mutex<HashMap<Vec<u8>, Known>>,
}

/// A running proxy for one Redis.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy for the Redis with that URL. Random choices follow from `seed`. Nothing fails until
    /// [`Proxy::set`].
    pub(crate) async fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("redis://").to_owned(),
            sabotage: Mutex::new(None),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            scripts: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Sets what goes wrong from now on.
    pub(crate) fn set(&self, sabotage: Sabotage) {
        *self.shared.sabotage.lock().unwrap() = Some(sabotage);
    }

    /// Lets everything through unchanged from now on.
    pub(crate) fn calm(&self) {
        *self.shared.sabotage.lock().unwrap() = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connect(client, Arc::clone(&shared)));
    }
}

async fn connect(mut client: TcpStream, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(&shared.upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        () = ask(&mut from_client, &mut to_server, &shared) => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Forwards commands one by one until one side closes.
async fn ask(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, shared: &Shared) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return,
        }
        let (mut at, mut out) = (0, Vec::with_capacity(buffer.len()));
        loop {
            match resp::command(&buffer[at..]) {
                Ok(Some(command)) => {
                    let raw = &buffer[at..at + command.length];
                    let parts: Vec<&[u8]> = command.parts.iter().map(|part| &raw[part.clone()]).collect();
                    match shared.instead(&parts).await {
                        Some(other) => out.extend(other),
                        None => out.extend(raw),
                    }
                    at += command.length;
                }
                Ok(None) => break,
                Err(resp::Malformed) => return,
            }
        }
        buffer.drain(..at);
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// The command to send instead, if this one must be replaced.
    async fn instead(&self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let is =
            |place: usize, name: &str| parts.get(place).is_some_and(|part| part.eq_ignore_ascii_case(name.as_bytes()));
        if is(0, "SCRIPT") && is(1, "LOAD") && parts.len() == 3 {
            self.learn(parts[2]).await;
            return None;
        }
        if !is(0, "EVALSHA") || parts.len() < 3 {
            return None;
        }
        let known = self.scripts.lock().unwrap().get(parts[1]).cloned();
        let Some(known) = known else {
            let mut unknown = parts.to_vec();
            unknown[1] = NO_SCRIPT;
            return Some(resp::packed(unknown.into_iter()));
        };
        let spec = {
            let sabotage = self.sabotage.lock().unwrap();
            sabotage.as_ref()?.spec(&known.name, &mut self.rng.lock().unwrap())?.to_string()
        };
        let mut other = parts.to_vec();
        other[1] = known.sabotaged.as_bytes();
        other.push(spec.as_bytes());
        Some(resp::packed(other.into_iter()))
    }

    /// Remembers a script that a client loads, and loads its version with the prefix first. (The client's own user may
    /// only run loaded scripts.)
    async fn learn(&self, text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else { return };
        let double = with_prefix(text);
        let loaded = async {
            let mut server = TcpStream::connect(&self.upstream).await.ok()?;
            let parts: [&[u8]; 3] = [b"SCRIPT", b"LOAD", double.as_bytes()];
            server.write_all(&resp::packed(parts.into_iter())).await.ok()?;
            let mut reply = Vec::with_capacity(64);
            while !reply.ends_with(b"\r\n") || reply.len() < 40 {
                server.read_buf(&mut reply).await.ok().filter(|length| *length > 0)?;
            }
            reply.starts_with(b"$40").then_some(())
        };
        if timeout(Duration::from_secs(5), loaded).await.ok().flatten().is_none() {
            return;
        }
        let known = Known { name: name_of(text), sabotaged: sha(&double) };
        self.scripts.lock().unwrap().insert(sha(text).into_bytes(), known);
    }
}

fn sha(text: &str) -> String {
    redis::Script::new(text).get_hash().to_owned()
}

fn with_prefix(text: &str) -> String {
    match text.split_once('\n') {
        // The first line has a meaning for Redis and must stay first.
        Some((first, rest)) if first.starts_with("#!") => format!("{first}\n{PREFIX}\n{rest}"),
        _ => format!("{PREFIX}\n{text}"),
    }
}

/// Name of a script, from the last header in it: shared code comes before a script's own text.
pub(crate) fn name_of(text: &str) -> String {
    text.lines()
        .rev()
        .find_map(|line| {
            let name = line.strip_prefix("-- ")?.split_once(".lua: ")?.0;
            (!name.contains(' ')).then(|| format!("{name}.lua"))
        })
        .unwrap_or_else(|| "a script without a header".to_owned())
}

#[test]
fn the_last_header_names_a_script() {
    let text = "-- limiter.lua: arithmetic\nlocal a = 1\n-- finish.lua: ends\n-- KEYS 1\nreturn 1 -- no.lua: x";
    assert_eq!(name_of(text), "finish.lua");
    assert_eq!(name_of("return 1"), "a script without a header");
    assert!(with_prefix("#!lua flags=allow-oom\nreturn 1").starts_with("#!lua flags=allow-oom\n-- Stands"));
}

#[tokio::test]
async fn commands_of_a_script_are_refused_as_redis_would() {
    use super::{Noted, Refusal, noted};
    let redis = crate::support::RedisServer::own(&["--save", "", "--appendonly", "no"]);
    let proxy = Proxy::start(redis.url(), 0).await;
    let connect =
        async |url: String| redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (mut around, mut through) = (connect(redis.url().to_owned()).await, connect(proxy.url()).await);
    let text = "-- probe.lua: writes twice\nredis.call('GET', KEYS[1]) local first = redis.pcall('SET', KEYS[1], ARGV[1])\n\
        redis.call('LPUSH', KEYS[2], #ARGV) return first.err or #ARGV";
    let script = redis::Script::new(text);
    let mut run = async || script.key("a").key("b").arg("x").invoke_async::<String>(&mut through).await;
    let kth = |k| Sabotage::Kth { k, refusal: Refusal::WrongType, again: false };

    assert_eq!(run().await.unwrap(), "1", "nothing is added to its arguments");
    proxy.set(kth(1));
    assert_eq!(run().await.unwrap(), Refusal::WrongType.text(), "what pcall is told");
    proxy.set(kth(2));
    let error = run().await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");
    let note = |k, command: &str, key: &str| Noted {
        script: "probe.lua".to_owned(),
        k,
        command: command.to_owned(),
        key: key.to_owned(),
    };
    assert_eq!(noted(&mut around).await, [note(1, "set", "a"), note(2, "lpush", "b")]);
    proxy.set(kth(3));
    assert_eq!(run().await.unwrap(), "1");
    assert_eq!(noted(&mut around).await, []);
    let length: u32 = redis::cmd("LLEN").arg("b").query_async(&mut around).await.unwrap();
    assert_eq!(length, 3, "what was refused was not done");

    proxy.set(Sabotage::Forbid("LPUSH".to_owned()));
    assert_eq!(run().await.unwrap_err().code(), Some("NOPERM"));
    proxy.set(Sabotage::WrongKey("a".to_owned()));
    assert_eq!(run().await.unwrap_err().code(), Some("WRONGTYPE"), "reading it, too");
    proxy.set(kth(2));
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut around).await.unwrap();
    assert_eq!(run().await.unwrap_err().code(), Some("WRONGTYPE"), "it is loaded anew");
    proxy.calm();
    assert_eq!(run().await.unwrap(), "1");
}
