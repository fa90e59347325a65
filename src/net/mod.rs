//! What the connections to Redis and to XCO share: host names, certificates, and messages for their faults.

mod names;
mod tls;

pub use names::{LookUp, Looked, Lookup, LookupPace, Names};
pub use tls::{TlsFault, TlsFiles, TlsFilesFault, find_below, tls_fault};
