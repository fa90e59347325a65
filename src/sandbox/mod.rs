//! A simulator of the XCO API over real HTTP, with faults on demand.
//!
//! It implements the five calls and the token endpoint as documented publicly. Where the documentation is open, the
//! configuration selects the behaviour ([`SandboxConfig`]). It records every call and every effect, so that a test can
//! prove that nothing unsafe was done twice. Its memory grows with the number of users; its records are bounded.
//!
//! # Control
//!
//! The methods of [`Sandbox`] are also available over HTTP (JSON, with bodies like [`FaultOrder`] and
//! [`NewSandboxUser`]):
//!
//! | | |
//! |---|---|
//! | `GET /_sandbox/otp?email=…` or `?phone_number=…` | the code that is valid now |
//! | `GET /_sandbox/state` | counts |
//! | `GET /_sandbox/calls?route=…&caller_id=…&key=…&limit=…` | the latest calls |
//! | `GET /_sandbox/effects?key=…&limit=…` | the latest effects |
//! | `POST /_sandbox/faults` | orders a fault; `DELETE` withdraws all |
//! | `POST /_sandbox/outage` | `{"on": true}`, `{"on": false}` or `{"for_ms": 5000}`, each with an optional `status` |
//! | `POST /_sandbox/tokens/revoke` | every token issued so far is refused |
//! | `POST /_sandbox/users` | a customer who has an account |
//! | `POST /_sandbox/reset` | as started: no users, faults or records |

mod api;
mod buckets;
mod config;
mod connection;
mod control;
mod fault;
mod model;
mod oauth;
mod record;
mod reply;
mod server;
mod state;
mod validate;

pub use config::{ConflictStyle, Latency, SandboxConfig, SandboxLimit};
pub use fault::{Fault, FaultKind, FaultOrder};
pub use model::NewSandboxUser;
pub use record::{CallRecord, Effect, EffectKind, Route, Stats};
pub use server::Sandbox;
