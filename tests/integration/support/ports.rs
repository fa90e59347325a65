//! Ports for servers that are told where to listen.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{LazyLock, Mutex},
};

static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that nobody listens on, and that nobody is given by chance until the server listens on it: below those that
/// systems hand out (to listeners on port 0, and to every outgoing connection), and once only in a test program.
pub(crate) fn free_port() -> u16 {
    loop {
        // Drawn with what seeds the standard library's maps: the benchmarks that use this have no other source.
        let drawn = RandomState::new().hash_one(());
        let port = 10_000 + u16::try_from(drawn % 10_000).unwrap();
        let fresh = HANDED_OUT.lock().unwrap().insert(port);
        if fresh && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
