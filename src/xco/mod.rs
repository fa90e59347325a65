//! The XCO API: five calls over HTTP, a token, and what each answer means.

mod api;
mod client;
mod error;
mod problem;
mod token;
mod wire;

pub use api::{Answer, Call, CallContext, CallReport, XcoApi};
pub use client::XcoClient;
pub use error::{CallFailure, FailureKind};
