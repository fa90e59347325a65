//! Bounds of a server.

use std::time::Duration;

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Maximum number of connections at once.
    pub max_connections: usize,
    /// Maximum number of connections from one address, without those that [`ConnectionHandle::trust`](super::ConnectionHandle::trust) names. `None`: no bound.
    pub max_per_address: Option<usize>,
    /// Whether a client is disconnected in the middle of its request, if all others have a request under way too. If not,
    /// the new client is refused.
    pub evicts_busy: bool,
    /// Time within which the head of a request must arrive. A kept connection is closed if no request arrives in this time.
    pub head_timeout: Duration,
    /// Maximum size of a request's head, in bytes.
    pub max_head_bytes: usize,
    /// A client that does not read its answer for this time is disconnected.
    pub write_timeout: Duration,
    /// Maximum duration of a connection; `None`: no bound, and a connection may carry several requests.
    pub connection_life: Option<Duration>,
    /// Time for sending the last answers when the server stops.
    pub closing: Duration,
}
