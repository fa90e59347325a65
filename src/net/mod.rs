//! What connections share: host names, certificates, and messages for their faults; and a server for HTTP.

mod http_server;
mod names;
mod tls;

pub use http_server::{ConnectionHandle, HttpServer, PeerAddress, ServerLimits};
pub use names::{LookUp, Looked, Lookup, LookupPace, Names};
pub use tls::{TlsFault, TlsFiles, TlsFilesFault, find_below, tls_fault};
