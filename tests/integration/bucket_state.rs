//! The state of a limiter bucket in Redis, after a clock that went back or changes by others.

use super::support::RedisServer;
use redis::Connection;
use rstest::rstest;

/// Opens the bucket, reports when the next call may go, lets a job take that call or wait for it, and saves.
const LOOK: &str = concat!(
    include_str!("../../src/queue/lua/limiter/limiter.lua"),
    include_str!("../../src/queue/lua/limiter/turns.lua"),
    r"
local now_us = limiter_now()
local rate = limiter_rate(ARGV[1], ARGV[2], ARGV[2], 0)
local bucket = limiter_open(limiter_read(KEYS[1]), rate, now_us)
local slot = limiter_slot(bucket, now_us)
if ARGV[3] == 'take' then
  limiter_enter(bucket, now_us)
end
limiter_save(KEYS[1], bucket, now_us)
return {math.ceil(slot - now_us), math.ceil(bucket.closed), bucket.strikes or 0, math.ceil(bucket.interval)}
"
);

const KEY: &str = "bucket-of-the-test";
/// Ten calls a second, three at once.
const INTERVAL_US: i64 = 100_000;
const TOLERANCE_US: i64 = 200_000;
const SECOND_US: f64 = 1_000_000.0;

struct Look {
    wait_us: i64,
    closed: bool,
    strikes: i64,
    interval_us: i64,
}

fn look(connection: &mut Connection, how: &str) -> Look {
    let [wait_us, closed_us, strikes, interval_us]: [i64; 4] = redis::cmd("EVAL")
        .arg(LOOK)
        .arg(1)
        .arg(KEY)
        .arg(INTERVAL_US)
        .arg(TOLERANCE_US)
        .arg(how)
        .query(connection)
        .unwrap();
    Look { wait_us, closed: closed_us > 0, strikes, interval_us }
}

fn now_us(connection: &mut Connection) -> f64 {
    let (seconds, micros): (u32, u32) = redis::cmd("TIME").query(connection).unwrap();
    f64::from(seconds) * SECOND_US + f64::from(micros)
}

fn connection() -> (RedisServer, Connection) {
    let redis = RedisServer::start();
    let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    (redis, connection)
}

fn set(connection: &mut Connection, value: &[u8]) {
    redis::cmd("DEL").arg(KEY).exec(connection).unwrap();
    redis::cmd("SET").arg(KEY).arg(value).exec(connection).unwrap();
}

/// The packed form: TAT, closed until, consecutive 429s, learned rate, start of its growth, calls since the last 429,
/// time of that 429, turns, handed back until, the refused rate, spent.
fn packed(fields: [f64; 11]) -> Vec<u8> {
    fields.into_iter().flat_map(f64::to_le_bytes).collect()
}

const EMPTY: [f64; 11] = [0.0; 11];

fn with(changes: &[(usize, f64)]) -> Vec<u8> {
    let mut fields = EMPTY;
    for (place, value) in changes {
        fields[*place] = *value;
    }
    packed(fields)
}

#[rstest]
#[case::infinite(b"inf".to_vec())]
#[case::no_number(b"nan".to_vec())]
#[case::huge(b"1e300".to_vec())]
#[case::minus_infinite(b"-inf".to_vec())]
#[case::hexadecimal(b"0xffffffffffffffff".to_vec())]
#[case::text(b"what is this?".to_vec())]
#[case::nothing(Vec::new())]
#[case::bytes((0..=255).collect())]
#[case::too_short(packed(EMPTY)[..87].to_vec())]
#[case::too_long([packed(EMPTY), vec![0]].concat())]
#[case::packed_no_number(with(&[(0, f64::NAN)]))]
#[case::packed_no_numbers(packed([f64::NAN; 11]))]
#[case::packed_infinite(with(&[(10, f64::INFINITY)]))]
#[case::packed_infinities(with(&[(1, f64::INFINITY), (0, f64::NEG_INFINITY)]))]
#[case::packed_minus_infinite(with(&[(7, f64::NEG_INFINITY)]))]
#[case::packed_huge(with(&[(4, 1e300)]))]
#[case::all_bits_set(vec![0xff; 88])]
#[case::closed_until_2100(with(&[(1, 4_102_444_800_000_000.0)]))]
#[case::reserved_until_2100(with(&[(0, 4_102_444_800_000_000.0)]))]
#[case::lined_up_until_2100(with(&[(7, 4_102_444_800_000_000.0)]))]
fn a_bucket_that_cannot_be_read_is_an_empty_one(#[case] value: Vec<u8>) {
    let (_redis, mut connection) = connection();
    set(&mut connection, &value);
    // A burst of three, then the rate.
    for call in 0..3 {
        assert_eq!(look(&mut connection, "take").wait_us, 0, "call {call}");
    }
    let life_ms: i64 = redis::cmd("PTTL").arg(KEY).query(&mut connection).unwrap();
    assert!((1..5_000).contains(&life_ms), "it is overwritten, and expires: {life_ms}");
    let wait_us = look(&mut connection, "take").wait_us;
    assert!((1..=INTERVAL_US).contains(&wait_us), "{wait_us}");
}

#[rstest]
#[case::a_list("RPUSH")]
#[case::a_set("SADD")]
fn a_key_of_another_type_is_an_empty_bucket(#[case] command: &str) {
    let (_redis, mut connection) = connection();
    redis::cmd(command).arg(KEY).arg("x").exec(&mut connection).unwrap();
    assert_eq!(look(&mut connection, "take").wait_us, 0);
    let kind: String = redis::cmd("TYPE").arg(KEY).query(&mut connection).unwrap();
    assert_eq!(kind, "string");
}

#[rstest]
#[case::tiny_rates(with(&[(1, 1.0), (3, 1e-300), (9, 1e-300), (6, 1.0)]))]
#[case::a_negative_rate(with(&[(1, 1.0), (3, -1.0), (9, -1.0), (6, 1.0)]))]
fn a_rate_that_cannot_be_holds_nobody_up_for_long(#[case] value: Vec<u8>) {
    let (_redis, mut connection) = connection();
    let mut value = value;
    // Learned just now.
    let now_us = now_us(&mut connection);
    value[32..40].copy_from_slice(&now_us.to_le_bytes());
    value[8..16].copy_from_slice(&now_us.to_le_bytes());
    set(&mut connection, &value);
    look(&mut connection, "take");
    let Look { wait_us, interval_us, .. } = look(&mut connection, "take");
    assert!(wait_us <= 61_000_000 && interval_us <= 60_000_000, "{wait_us}, {interval_us}");
}

const STEPS_S: [f64; 4] = [20.0, 600.0, 3_600.0, 86_400.0];

#[test]
fn calls_that_lie_in_the_future_count_as_a_full_bucket() {
    let (_redis, mut connection) = connection();
    for step_s in STEPS_S {
        let tat = now_us(&mut connection) + step_s * SECOND_US;
        set(&mut connection, format!("{tat:.0}").as_bytes());
        let wait_us = look(&mut connection, "look").wait_us;
        assert!((0..=INTERVAL_US).contains(&wait_us), "{step_s} s: {wait_us}");
        // At the next look the bucket is not full again.
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert_eq!(look(&mut connection, "look").wait_us, 0, "{step_s} s");
        let life_ms: i64 = redis::cmd("PTTL").arg(KEY).query(&mut connection).unwrap();
        assert!((0..2_000).contains(&life_ms), "{step_s} s: {life_ms}");
    }
}

#[test]
fn a_closure_keeps_what_is_left_of_it_and_what_was_learned() {
    let (_redis, mut connection) = connection();
    for step_s in STEPS_S {
        let then = now_us(&mut connection) + step_s * SECOND_US;
        let closed = then + 5.0 * SECOND_US;
        let rate = 50.0 / SECOND_US;
        set(&mut connection, &packed([closed, closed, 2.0, rate, closed, 7.0, then, 0.0, 0.0, 0.0, closed]));
        let Look { wait_us, closed, strikes, .. } = look(&mut connection, "look");
        assert!(closed && strikes == 2, "{step_s} s: {strikes}");
        assert!((4_900_000..=5_000_001).contains(&wait_us), "{step_s} s: {wait_us}");
        std::thread::sleep(std::time::Duration::from_millis(200));
        let later_us = look(&mut connection, "look").wait_us;
        assert!(later_us <= wait_us - 200_000, "it goes on from where it was: {later_us}, before {wait_us}");
    }
}

#[test]
fn a_long_line_of_reservations_is_no_step_and_moves_with_one() {
    let (_redis, mut connection) = connection();
    let now = now_us(&mut connection);
    // Reservations reach two hours ahead, and calls have been made up to now.
    let line = |at: f64| with(&[(0, at + 7_200.0 * SECOND_US), (10, at + 100_000.0)]);
    set(&mut connection, &line(now));
    let wait_us = look(&mut connection, "take").wait_us;
    assert!((7_190_000_000..=7_200_000_000).contains(&wait_us), "{wait_us}");
    // A state written now contains its time. Ten minutes later the clock is set back.
    let mut value: Vec<u8> = redis::cmd("GET").arg(KEY).query(&mut connection).unwrap();
    for place in [0, 10] {
        let field: f64 = f64::from_le_bytes(value[place * 8..place * 8 + 8].try_into().unwrap());
        value[place * 8..place * 8 + 8].copy_from_slice(&(field + 600.0 * SECOND_US).to_le_bytes());
    }
    let written = f64::from_le_bytes(value[16..24].try_into().unwrap());
    let moved = written + 600_000.0 / 2_f64.powi(42);
    value[16..24].copy_from_slice(&moved.to_le_bytes());
    set(&mut connection, &value);
    let stepped_us = look(&mut connection, "take").wait_us;
    assert!((wait_us - 1_000_000..=wait_us + 1_000_000).contains(&stepped_us), "{stepped_us}, before {wait_us}");
    // The format of the previous version, without that time: the calls made so far decide.
    set(&mut connection, &line(now + 600.0 * SECOND_US));
    let stepped_us = look(&mut connection, "take").wait_us;
    assert!((7_190_000_000..=7_201_000_000).contains(&stepped_us), "{stepped_us}");
}

/// During an upgrade, workers of two versions share the buckets.
#[test]
fn the_version_before_reads_what_is_written_now() {
    let (_redis, mut connection) = connection();
    let now = now_us(&mut connection);
    let closed = now + 5.0 * SECOND_US;
    set(&mut connection, &packed([closed, closed, 3.0, 0.0, 0.0, 7.0, now, 0.0, 0.0, 0.0, closed]));
    look(&mut connection, "take");
    let value: Vec<u8> = redis::cmd("GET").arg(KEY).query(&mut connection).unwrap();
    assert_eq!(value.len(), 88);
    let field = |place: usize| f64::from_le_bytes(value[place * 8..place * 8 + 8].try_into().unwrap());
    assert!((3.0..4.0).contains(&field(2)), "strikes, and a fraction: {}", field(2));
    assert!((field(1) - closed).abs() < 1.0);
}
