//! The console in headless Chromium, as operators use it. Where Chromium or its driver is not installed, these tests are skipped:
//! stderr and the file `$SKIPPED_FILE` say so.

mod chromium;
mod dead_letters;
mod driver;
mod every_page;
mod keys;
mod live;
mod reader;

use super::{
    Console,
    support::{check, with},
};
use chromium::Browser;
use xco_worker::sandbox::{Fault, Route};

/// A caller whom only operators may see.
const CALLER: &str = "203.0.113.9";

/// A worker, and this number of jobs that failed because XCO answered 503: `signup-0` and so on. Each has a dead letter.
async fn fail(console: &mut Console, count: usize) {
    console.rig.start_worker();
    for number in 0..count {
        console.rig.sandbox.order(Fault::status(503).on(Route::Exists));
        let job = with(check(&format!("signup-{number}"), CALLER), "max_attempts", 1);
        assert_eq!(console.rig.complete(job).await["error"]["kind"], "upstream");
    }
}
