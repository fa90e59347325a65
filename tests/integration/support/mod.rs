//! Shared support of the test binaries. None of them uses all of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod certificates;
mod clock;
mod container;
pub(crate) mod gateway;
mod jobs;
pub(crate) mod messy;
pub(crate) mod openapi;
mod ports;
mod redis_server;
mod rig;
mod schema;
mod skipped;
mod users;

pub(crate) use clock::{ServerClock, Step};
pub(crate) use jobs::{
    account, consent, create, finalize, in_time, keys, limit, moment, other_than, start, timing, verify, with,
};
pub(crate) use ports::free_port;
pub(crate) use redis_server::RedisServer;
pub(crate) use rig::{MERCHANT, Rig, Setup, check};
pub(crate) use skipped::report_skipped;
pub(crate) use users::as_user;
