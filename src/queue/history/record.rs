//! The form of a record: 256 bytes, little endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | flags: 1 breaker open · 2 interactive lane paused · 4 bulk lane paused · 8 delayed jobs counted exactly |
//! | 2 | workers |
//! | 4 | start of the step, seconds since 1970 |
//! | 8 | by lane: waiting, in flight, age of the oldest entry in ms |
//! | 32 | delayed jobs: all, by limit, retry, `run_at`, pause, breaker |
//! | 56 | dead letters |
//! | 60 | completions by status since ever: succeeded, failed, expired, cancelled, rejected |
//! | 80 | calls and failed calls of the last minute; 429s since ever |
//! | 92 | worker slots: allowed, used |
//! | 100 | histogram of interactive `timings_ms.total`, since ever |
//! | 164 | histogram of `timings_ms.xco`, since ever |
//! | 228 | milliseconds for which the breaker stays open |
//! | 232 | rules in force, closed callers: two bytes each |
//! | 236 | unused |
//!
//! Counters since ever wrap: only their differences are of use.

use super::latency::Histogram;

/// Size of a record.
pub const RECORD_BYTES: usize = 256;

const VERSION: u8 = 1;

const BREAKER_OPEN: u8 = 1;
const LANE_PAUSED: [u8; 2] = [2, 4];
const DELAYED_EXACT: u8 = 8;

/// How the queue was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Workers call XCO no more, for now.
    pub breaker_open: bool,
    /// The delayed jobs were counted by reason. Otherwise those counts are projected from some of them.
    pub delayed_exact: bool,
    /// Workers that run.
    pub workers: u16,
    /// The lanes, by [`crate::contract::Lane`].
    pub lanes: [LaneSample; 2],
    /// Delayed jobs.
    pub delayed: u32,
    /// Of these: by limit, retry, `run_at`, pause, breaker.
    pub delayed_by: [u32; 5],
    /// Dead letters.
    pub dead_letters: u32,
    /// Completions by [`crate::contract::Status`], since ever.
    pub completions: [u32; 5],
    /// Calls that ended within the last minute.
    pub calls_last_minute: u32,
    /// Those of them that failed because of XCO or the network.
    pub failures_last_minute: u32,
    /// Calls that XCO answered with 429, since ever.
    pub rate_limited: u32,
    /// Worker slots that may be used.
    pub slots_allowed: u32,
    /// Worker slots that are used.
    pub slots_used: u32,
    /// How long interactive jobs took, since ever.
    pub people: Histogram,
    /// How long the calls of a job took, since ever.
    pub xco: Histogram,
    /// Milliseconds for which the breaker stays open.
    pub breaker_open_ms: u32,
    /// Operators' rules in force.
    pub rules: u16,
    /// Callers and shared limits that are closed because of a 429.
    pub closed_limits: u16,
}

/// A lane at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneSample {
    /// Entries that no worker has read.
    pub waiting: u32,
    /// Entries that a worker has.
    pub in_flight: u32,
    /// Age of the oldest entry in milliseconds.
    pub oldest_ms: u32,
    /// An operator paused the whole lane.
    pub paused: bool,
}

impl Sample {
    /// The record of the step that began then.
    pub fn encode(&self, start_s: u64) -> [u8; RECORD_BYTES] {
        let mut writer = Writer { bytes: [0; RECORD_BYTES], at: 0 };
        let mut flags = 0;
        let mut set = |flag: u8, holds: bool| flags |= if holds { flag } else { 0 };
        set(BREAKER_OPEN, self.breaker_open);
        set(DELAYED_EXACT, self.delayed_exact);
        for (lane, flag) in self.lanes.iter().zip(LANE_PAUSED) {
            set(flag, lane.paused);
        }
        writer.put(&[VERSION, flags]);
        writer.put(&self.workers.to_le_bytes());
        writer.put_all(&[seconds(start_s)]);
        for lane in &self.lanes {
            writer.put_all(&[lane.waiting, lane.in_flight, lane.oldest_ms]);
        }
        writer.put_all(&[self.delayed]);
        writer.put_all(&self.delayed_by);
        writer.put_all(&[self.dead_letters]);
        writer.put_all(&self.completions);
        writer.put_all(&[self.calls_last_minute, self.failures_last_minute, self.rate_limited]);
        writer.put_all(&[self.slots_allowed, self.slots_used]);
        writer.put_all(&self.people.0);
        writer.put_all(&self.xco.0);
        writer.put_all(&[self.breaker_open_ms]);
        writer.put(&self.rules.to_le_bytes());
        writer.put(&self.closed_limits.to_le_bytes());
        writer.bytes
    }

    /// Reads a record; `None` if it is none, or not that of the step that began then.
    pub fn decode(bytes: &[u8], start_s: u64) -> Option<Self> {
        if bytes.len() != RECORD_BYTES || bytes[0] != VERSION {
            return None;
        }
        let flags = bytes[1];
        let mut reader = Reader { bytes, at: 2 };
        let workers = reader.short();
        if reader.number() != seconds(start_s) {
            return None;
        }
        let mut lane = |flag: u8| {
            let [waiting, in_flight, oldest_ms] = reader.numbers();
            LaneSample { waiting, in_flight, oldest_ms, paused: flags & flag != 0 }
        };
        let lanes = LANE_PAUSED.map(&mut lane);
        Some(Self {
            breaker_open: flags & BREAKER_OPEN != 0,
            delayed_exact: flags & DELAYED_EXACT != 0,
            workers,
            lanes,
            delayed: reader.number(),
            delayed_by: reader.numbers(),
            dead_letters: reader.number(),
            completions: reader.numbers(),
            calls_last_minute: reader.number(),
            failures_last_minute: reader.number(),
            rate_limited: reader.number(),
            slots_allowed: reader.number(),
            slots_used: reader.number(),
            people: Histogram(reader.numbers()),
            xco: Histogram(reader.numbers()),
            breaker_open_ms: reader.number(),
            rules: reader.short(),
            closed_limits: reader.short(),
        })
    }
}

/// Seconds since 1970 in four bytes. They wrap in the year 2106.
const fn seconds(start_s: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "only compared with another")]
    let seconds = start_s as u32;
    seconds
}

struct Writer {
    bytes: [u8; RECORD_BYTES],
    at: usize,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }

    fn put_all(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.put(&number.to_le_bytes());
        }
    }
}

/// Reads numbers one after the other; 0 beyond the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let found = self.bytes.get(self.at..self.at + N).and_then(|bytes| bytes.try_into().ok());
        self.at += N;
        found.unwrap_or([0; N])
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn numbers<const N: usize>(&mut self) -> [u32; N] {
        std::array::from_fn(|_| self.number())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_its_layout_stays() {
        let lane = |waiting, paused| LaneSample { waiting, in_flight: 2, oldest_ms: 3, paused };
        let sample = Sample {
            breaker_open: true,
            delayed_exact: true,
            workers: 4,
            lanes: [lane(5, false), lane(6, true)],
            delayed: 7,
            delayed_by: [8, 9, 10, 11, 12],
            dead_letters: 13,
            completions: [14, 15, 16, 17, u32::MAX],
            calls_last_minute: 18,
            failures_last_minute: 19,
            rate_limited: 20,
            slots_allowed: 21,
            slots_used: 22,
            people: Histogram(std::array::from_fn(|n| u32::try_from(n).unwrap() + 100)),
            xco: Histogram(std::array::from_fn(|n| u32::try_from(n).unwrap() + 200)),
            breaker_open_ms: 23,
            rules: 24,
            closed_limits: 25,
        };
        let start_s = 1_795_374_670;
        let bytes = sample.encode(start_s);
        assert_eq!(Sample::decode(&bytes, start_s), Some(sample));
        assert_eq!(bytes[..8], [1, 1 | 4 | 8, 4, 0, 0x4e, 0x3e, 0x03, 0x6b]);
        for (at, value) in [(8, 5), (20, 6), (32, 7), (56, 13), (60, 14), (80, 18), (92, 21), (100, 100), (164, 200)] {
            assert_eq!(bytes[at], value, "at {at}");
        }
        assert_eq!((bytes[228], bytes[232], bytes[234]), (23, 24, 25));
        assert!(bytes[236..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_record_of_another_step_or_version_is_none() {
        let bytes = Sample::default().encode(100);
        assert!(Sample::decode(&bytes, 100).is_some() && Sample::decode(&bytes, 110).is_none());
        assert!(Sample::decode(&bytes[..255], 100).is_none());
        let mut other = bytes;
        other[0] = 2;
        assert!(Sample::decode(&other, 100).is_none());
    }
}
