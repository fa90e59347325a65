//! What connections to Redis and to XCO have in common: host names, certificates, and the words for what goes wrong there.

mod names;
mod tls;

pub use names::{LookUp, Looked, Lookup, Names, Pace};
pub use tls::{TlsFault, TlsFiles, TlsFilesFault, find_below, tls_fault};
