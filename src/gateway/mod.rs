//! The HTTP interface for web tiers and operators: parses, authorises and renders. What it does is in
//! [`operations`](crate::operations) and [`completions`](crate::completions).

mod access;
mod layers;
mod load;
mod openapi;
mod problem;
mod routes;
mod serve;
mod state;
mod ticket;
mod ticket_uses;

pub use openapi::openapi_document;
pub use serve::{Gateway, GatewayError};
