//! What connections share: host names, certificates, messages for their faults, and the delays between attempts; and a server for
//! HTTP.

mod backoff;
mod http_server;
mod names;
mod streamed;
mod tls;

pub use backoff::Backoff;
pub use http_server::{ConnectionHandle, HttpServer, PeerAddress, ServerLimits};
pub use names::{LookUp, Looked, Lookup, LookupPace, Names};
pub use streamed::streamed;
pub use tls::{TlsFault, TlsFiles, TlsFilesFault, find_below, tls_fault};
