//! A simulator of the XCO API over real HTTP, with faults to order.
//!
//! It plays the five calls and the token endpoint as far as they are public, and both ways where they are not
//! ([`SandboxConfig`]). Every call and every effect is recorded, so that a test can show that nothing unsafe was done
//! twice. Its memory grows with the users it is given; logs are bounded.
//!
//! # Control
//!
//! The methods of [`Sandbox`], and the same over HTTP (JSON; bodies as [`FaultOrder`] and [`NewSandboxUser`] say):
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
