//! `xco-worker`: the job queue between a merchant's signup pages and Purse Express Checkout (XCO).
//!
//! A merchant's system `XADD`s a job; a worker calls XCO with retry, backoff and per-caller limits; every job ends in
//! exactly one completion, whatever is killed on the way.
//!
//! # The map
//!
//! | module | what lives there | may import |
//! |---|---|---|
//! | [`contract`] | jobs, arguments, validation, completions, error kinds, identifiers: pure data, no I/O | – |
//! | [`rules`] | operators' rules, pauses and cancellations: pure | `contract` |
//! | [`config`] | configuration: file, environment, flags; every fault at once | `contract` |
//! | [`net`] | host names, certificates, and what goes wrong there; delays between attempts | `config` |
//! | [`telemetry`] | logs, traces, metrics, the worker's HTTP endpoint | `contract`, `config`, `net` |
//! | [`xco`] | the XCO API: client, token, wire types, problem documents, status → failure | `contract`, `config`, `net`, `telemetry` |
//! | [`limits`] | which bucket a call spends and at what rate; breaker, adaptive concurrency, retry budget: pure | `contract`, `config` |
//! | [`jobs`] | one file a job type, its policy beside it: state and answer → verdict, pure | `contract`, `config`, `limits`, `xco` (types) |
//! | [`dead_letters`] | what a dead letter is, which are meant, what may be shown, whether it may be replayed, what a replay would do: pure | `contract`, `config`, `limits`, `jobs` |
//! | [`queue`] | Redis: keys, scripts, reading, admission, finishing, maintenance | `contract`, `rules`, `config`, `limits`, `dead_letters` (types), `net`, `telemetry` |
//! | [`worker`] | the apalis backend and layers, slots, life cycle | all of the above but `dead_letters` |
//! | [`completions`] | following the completion stream, as a web tier does | `contract`, `config`, `net`, `queue` (keys, connections) |
//! | [`backfill`] | files of customers → rows → jobs; completions → results of rows: pure | `contract`, `config` |
//! | [`operations`] | what a program or an operator can do: typed requests, reports and errors | all of the above but `worker` |
//! | [`access`] | who may do what at the HTTP faces: tokens, roles, merchants, rates | `config`, `contract`, `operations` |
//! | [`console`] | pages for operators, on the same operations | `access`, `operations`, `completions`, `net`, `config`, `contract`, `telemetry` |
//! | [`gateway`] | HTTP for web tiers and operators: requests → operations, errors → RFC 9457 | `access`, `console`, `operations`, `completions`, `net`, `config`, `contract`, `telemetry` |
//! | [`client`] | for Rust programs: typed jobs, submit and wait, completions as streams | `operations`, `completions`, `config`, `contract` |
//! | [`sandbox`] | a simulator of the XCO API over real HTTP, with faults to order | – |
//! | [`cli`] | one file a command: arguments → request, report → text | `operations`, `contract`, `config`, `telemetry`, `completions`, `worker`, `sandbox`, `gateway` |
//!
//! Nothing imports upwards; `tests/architecture.rs` keeps it so.

pub mod access;
pub mod backfill;
pub mod cli;
pub mod client;
pub mod completions;
pub mod config;
pub mod console;
pub mod contract;
pub mod dead_letters;
pub mod gateway;
pub mod jobs;
pub mod limits;
pub mod net;
pub mod operations;
pub mod queue;
pub mod rules;
pub mod sandbox;
pub mod telemetry;
pub mod worker;
pub mod xco;
