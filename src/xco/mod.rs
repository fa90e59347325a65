//! The XCO API: five calls over HTTP, the access token, and the meaning of each answer.
//!
//! [`XcoClient`] makes the calls of [`XcoApi`]. It promises that:
//!
//! - a call ends within `xco.timeout`, including the wait for a token;
//! - no answer is read beyond `xco.max_response_bytes`;
//! - a request is repeated only once after a 401 about the token, and after the server reports that it did not process it;
//! - a failure that *may* have taken effect says so ([`FailureKind::effect_unknown`]).

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
