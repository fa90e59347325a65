//! The XCO API: five calls over HTTP, a token, and what each answer means.
//!
//! [`XcoClient`] makes the calls of [`XcoApi`]. What it promises beyond them: a call ends within `xco.timeout`, token
//! included; no answer is read beyond `xco.max_response_bytes`; nothing is repeated except once after a 401 that is about
//! the token, and where the server says that it did not process the request; and a failure that *may* have taken effect says so ([`FailureKind::effect_unknown`]).

mod answer;
mod api;
mod client;
mod coding;
mod error;
mod http_version;
mod number;
mod pool;
mod problem;
mod retry_after;
mod route;
mod setup;
mod token;
mod token_endpoint;
mod transport;
mod wire;

pub use api::{Answer, Call, CallContext, CallReport, XcoApi};
pub use client::XcoClient;
pub use error::{CallFailure, FailureKind};
pub use pool::install_tls_provider;
pub use setup::{SetupFault, XcoSetupError};
