//! Ports for servers that are told where to listen.

use rand::Rng;
use std::{
    collections::HashSet,
    net::TcpListener,
    sync::{LazyLock, Mutex},
};

static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that nobody listens on, and that nobody is given by chance until the server listens on it: below those that
/// systems hand out (to listeners on port 0, and to every outgoing connection), and once only in a test program.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..20_000);
        let fresh = HANDED_OUT.lock().unwrap().insert(port);
        if fresh && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
