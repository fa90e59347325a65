//! Who may do what at the HTTP faces: bearer tokens, their roles, merchants and rates.

mod principal;
mod rate;
mod this_machine;
mod tokens;

pub use principal::{AccessError, Principal, from, person_name};
pub use rate::{Exceeded, OpenStream, POLICY, REQUESTS_PER_SECOND, TokenRate};
pub use this_machine::only_this_machine;
pub use tokens::{Token, Tokens};
