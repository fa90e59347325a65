//! Limits of XCO that the worker is not configured for: the cost of learning them.

use crate::{
    jobs::{self, LANE},
    stage::Stage,
};
use std::time::{Duration, Instant};
use xco_worker::sandbox::{Route, SandboxLimit};

const CALLER: SandboxLimit = SandboxLimit { per_second: 30.0, burst: 5 };
const CLIENT: SandboxLimit = SandboxLimit { per_second: 50.0, burst: 10 };
const MERCHANT: &str = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";
const BULK: &str = "{xco:0}:jobs:bulk";

pub(crate) fn measure(lasting: Duration) {
    println!(
        "\nXCO's limits (a caller 30/s, the client 50/s) are unknown to the worker; more jobs than they let through"
    );
    let mut stage = Stage::start((Some(CALLER), Some(CLIENT)), |config| config.limits.caller = None);
    let minutes = lasting.as_secs().div_ceil(60);
    let count = |limit: SandboxLimit| (limit.per_second * 1.2 * lasting.as_secs_f64()) as usize;
    let check = |n: usize| {
        format!(r#"{{"type":"CheckUser","id":"check-{n}","caller_id":"one","args":{{"email":"n{n}@example.com"}}}}"#)
    };
    let create = |n: usize| {
        format!(
            r#"{{"type":"CreateUser","id":"create-{n}","merchant_id":"{MERCHANT}","args":{{"customer_reference":"r{n}","user":{{"email":"u{n}@example.com"}}}}}}"#
        )
    };
    jobs::add(&mut stage.redis, LANE, (0..count(CALLER)).map(check));
    jobs::add(&mut stage.redis, BULK, (0..count(CLIENT)).map(create));
    let start = Instant::now();
    while start.elapsed() < lasting {
        std::thread::sleep(lasting.saturating_sub(start.elapsed()));
    }
    for (what, route, limit) in [("a caller's", Route::Exists, CALLER), ("the client's", Route::Create, CLIENT)] {
        let calls = stage.sandbox.calls_of(route);
        let first = calls.first().map_or(0, |call| call.at_us);
        println!("  {what} bucket:");
        for minute in 0..minutes {
            let of_minute: Vec<_> = calls.iter().filter(|call| (call.at_us - first) / 60_000_000 == minute).collect();
            let refused = of_minute.iter().filter(|call| call.status == Some(429)).count();
            let per_1000 = 1000.0 * refused as f64 / of_minute.len().max(1) as f64;
            let used = 100.0 * (of_minute.len() - refused) as f64 / (60.0 * limit.per_second);
            println!(
                "    minute {:>2}: {:>5} calls, {refused:>4} answered 429: {per_1000:6.1} in 1,000; {used:5.1} % of the limit used",
                minute + 1,
                of_minute.len()
            );
        }
    }
}
