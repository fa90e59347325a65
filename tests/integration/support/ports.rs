//! Ports for servers that must be told where to listen.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{LazyLock, Mutex},
};

static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A free port, which no other program gets by chance before the server listens on it: it is below the ports that
/// systems assign (to listeners on port 0 and to outgoing connections), and unique within a test program.
pub(crate) fn free_port() -> u16 {
    loop {
        // Random numbers from the standard library's map seeds: the benchmarks that use this have no other source.
        let drawn = RandomState::new().hash_one(());
        let port = 10_000 + u16::try_from(drawn % 10_000).unwrap();
        let fresh = HANDED_OUT.lock().unwrap().insert(port);
        if fresh && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
