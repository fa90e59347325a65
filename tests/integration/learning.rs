//! How the limiter learns an unknown limit: its arithmetic, run in Redis through simulated minutes.

use super::support::RedisServer;
use rstest::rstest;

const SCRIPT: &str = concat!(
    include_str!("../../src/queue/lua/limiter/limiter.lua"),
    include_str!("../../src/queue/lua/limiter/turns.lua"),
    include_str!("../../src/queue/lua/limiter/strikes.lua"),
    include_str!("learning.lua")
);

const MINUTES: u32 = 6;

/// A limit: calls per second, and calls at once after a pause. 0 means none.
#[derive(Debug, Clone, Copy)]
struct Limit(f64, u32);

impl Limit {
    fn us(self) -> [u64; 2] {
        if self.0 == 0.0 {
            return [0, 0];
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds at most")]
        let interval_us = (1e6 / self.0) as u64;
        [interval_us, interval_us * u64::from(self.1 - 1)]
    }
}

/// One minute: 429s in a thousand calls, and percent of the limit used.
#[derive(Debug, Clone, Copy)]
struct Minute {
    refused: f64,
    used: f64,
}

fn play(told: Limit, theirs: Limit, takes_ms: u32, retry_after_us: i64) -> Vec<Minute> {
    let redis = RedisServer::start();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let per_minute = 60.0 * theirs.0;
    let numbers: Vec<u32> = redis::cmd("EVAL")
        .arg(SCRIPT)
        .arg(1)
        .arg("bucket-of-the-test")
        .arg(&told.us())
        .arg(&theirs.us())
        .arg((1.2 * per_minute * f64::from(MINUTES)).round())
        .arg(MINUTES)
        .arg(64)
        .arg(takes_ms)
        .arg(retry_after_us)
        .query(&mut connection)
        .unwrap();
    redis::cmd("DEL").arg("bucket-of-the-test").exec(&mut connection).unwrap();
    numbers
        .chunks_exact(2)
        .map(|minute| {
            let (calls, refused) = (f64::from(minute[0]), f64::from(minute[1]));
            Minute { refused: 1000.0 * refused / calls.max(1.0), used: 100.0 * (calls - refused) / per_minute }
        })
        .collect()
}

const UNTOLD: Limit = Limit(0.0, 1);

#[rstest]
#[case::a_callers(UNTOLD, Limit(30.0, 5), 20, 1_000_000)]
#[case::with_a_large_burst(UNTOLD, Limit(50.0, 50), 20, 1_000_000)]
#[case::a_slow_xco(UNTOLD, Limit(30.0, 5), 200, 1_000_000)]
#[case::told_too_much(Limit(100.0, 10), Limit(30.0, 5), 20, 1_000_000)]
#[case::without_retry_after(UNTOLD, Limit(30.0, 5), 20, -1)]
#[case::with_a_retry_after_of_nothing(UNTOLD, Limit(30.0, 5), 20, 0)]
#[case::a_clients(UNTOLD, Limit(500.0, 10), 20, 1_000_000)]
fn an_unknown_limit_is_found_and_then_used(
    #[case] told: Limit,
    #[case] theirs: Limit,
    #[case] takes_ms: u32,
    #[case] retry_after_us: i64,
) {
    let minutes = play(told, theirs, takes_ms, retry_after_us);
    assert!(minutes[0].refused <= 200.0, "{minutes:#?}");
    for minute in &minutes[2..] {
        assert!(minute.refused <= 3.0 && minute.used >= 80.0, "{minutes:#?}");
    }
}

#[test]
fn a_low_limit_and_a_long_retry_after_are_lived_with() {
    // One call in a cycle of 25 s shows that the limit still exists.
    for minute in &play(UNTOLD, Limit(5.0, 1), 20, 1_000_000)[2..] {
        assert!(minute.refused <= 15.0 && minute.used >= 80.0, "{minute:?}");
    }
    // Five of thirty seconds are closed.
    for minute in &play(UNTOLD, Limit(30.0, 5), 20, 5_000_000)[2..] {
        assert!(minute.refused <= 3.0 && minute.used >= 70.0, "{minute:?}");
    }
}
