//! What every test stands on.

mod redis_server;
mod rig;

pub(crate) use redis_server::RedisServer;
pub(crate) use rig::{MERCHANT, Rig, Setup, check};
