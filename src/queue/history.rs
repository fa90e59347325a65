//! The history of the queue: three rings of records in plain strings, each record at `(start / step) mod points`.
//!
//! | ring | step × points | span |
//! |---|---|---|
//! | `{NS:0}:history:10s` | 10 s × 360 | 1 h |
//! | `{NS:0}:history:1m` | 1 min × 720 | 12 h |
//! | `{NS:0}:history:10m` | 10 min × 1,008 | 7 d |
//!
//! The size is fixed, whatever the load. One process records a step: a worker or a gateway. A second one does no harm, because
//! counters in a record are cumulative and the last write wins. What is read is not trusted: a slot counts only if its record has
//! the version and the start that belong there.

mod latency;
mod record;
mod sample;

pub use latency::{BOUNDS_MS, Histogram, LatencyCounts, add_latency};
pub use record::{LaneSample, RECORD_BYTES, Sample};
pub use sample::{REASONS, collect};

use super::{Keys, Link};
use latency::LIFE_S;
use redis::{RedisResult, Value, cmd, pipe};

/// How long one recorded step keeps others from recording, in milliseconds: a little less than the shortest step.
const TURN_MS: u64 = 9_000;

/// One of the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// An hour, in steps of 10 s.
    Hour,
    /// Twelve hours, in steps of a minute.
    HalfDay,
    /// Seven days, in steps of ten minutes.
    Week,
}

impl Ring {
    /// All of them, the shortest step first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::HalfDay, Self::Week];

    /// Seconds between two records.
    pub const fn step_s(self) -> u64 {
        match self {
            Self::Hour => 10,
            Self::HalfDay => 60,
            Self::Week => 600,
        }
    }

    /// Number of records.
    pub const fn points(self) -> u64 {
        match self {
            Self::Hour => 360,
            Self::HalfDay => 720,
            Self::Week => 1_008,
        }
    }

    /// The step in the key's name.
    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "10s",
            Self::HalfDay => "1m",
            Self::Week => "10m",
        }
    }

    /// When the step of this moment began, in seconds since 1970.
    pub const fn start_s(self, now_s: u64) -> u64 {
        now_s - now_s % self.step_s()
    }

    /// Where the record of a step is, in records.
    const fn slot(self, start_s: u64) -> u64 {
        start_s / self.step_s() % self.points()
    }

    const fn offset(self, start_s: u64) -> u64 {
        self.slot(start_s) * RECORD_BYTES as u64
    }

    const fn bytes(self) -> u64 {
        self.points() * RECORD_BYTES as u64
    }
}

/// Takes the step of this moment for this process. `false`: another process has it.
pub async fn take_turn(link: &mut Link, keys: &Keys, now_ms: u64) -> RedisResult<bool> {
    let mut set = cmd("SET");
    set.arg(keys.history_turn()).arg(Ring::Hour.start_s(now_ms / 1000)).arg("NX").arg("PX").arg(TURN_MS);
    Ok(link.query::<Value>(&set).await? == Value::Okay)
}

/// Writes a sample into each ring that has no record of its step yet, and into the shortest in any case. Two round trips.
pub async fn write(link: &mut Link, keys: &Keys, sample: &Sample, now_ms: u64) -> RedisResult<()> {
    let at_s = now_ms / 1000;
    let mut asked = pipe();
    for ring in Ring::ALL {
        let (key, offset) = (keys.history(ring.name()), ring.offset(ring.start_s(at_s)));
        asked.cmd("GETRANGE").arg(&key).arg(offset).arg(offset + RECORD_BYTES as u64 - 1);
        asked.cmd("GETRANGE").arg(&key).arg(ring.bytes() - 1).arg(ring.bytes() - 1);
        asked.cmd("PTTL").arg(&key);
    }
    let found: Vec<(Vec<u8>, Vec<u8>, i64)> = link.pipeline(&asked).await?;
    let mut written = pipe();
    for (ring, (record, last_byte, life_ms)) in Ring::ALL.into_iter().zip(found) {
        let (key, start_s) = (keys.history(ring.name()), ring.start_s(at_s));
        let is_sized = !last_byte.is_empty();
        if !is_sized {
            // Sized at once, so that it does not grow step by step.
            written.cmd("SETRANGE").arg(&key).arg(ring.bytes() - 1).arg(&[0_u8][..]).ignore();
        }
        let is_there = Sample::decode(&record, start_s).is_some();
        if ring == Ring::Hour || !is_there {
            let offset = ring.offset(start_s);
            written.cmd("SETRANGE").arg(&key).arg(offset).arg(&sample.encode(start_s)[..]).ignore();
        }
        // Redis may have refused the expiry of the last step.
        let is_endless = life_ms < 0;
        if is_endless || !is_there && ring != Ring::Hour {
            written.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
        }
        if ring == Ring::HalfDay && !is_there {
            written.cmd("EXPIRE").arg(keys.history(Ring::Hour.name())).arg(LIFE_S).ignore();
        }
    }
    link.pipeline(&written).await
}

/// Returns the records of a ring up to this moment, the oldest first: the start of each step, in seconds since 1970, and the
/// sample. Steps without a record are missing. O(points of the ring).
pub async fn read(link: &mut Link, keys: &Keys, ring: Ring, now_ms: u64) -> RedisResult<Vec<(u64, Sample)>> {
    let bytes: Vec<u8> =
        link.query(cmd("GETRANGE").arg(keys.history(ring.name())).arg(0).arg(ring.bytes() - 1)).await?;
    Ok(records(ring, &bytes, now_ms / 1000))
}

/// The records among these bytes that belong where they are.
fn records(ring: Ring, bytes: &[u8], now_s: u64) -> Vec<(u64, Sample)> {
    let newest_s = ring.start_s(now_s);
    let starts = (0..ring.points()).rev().filter_map(|back| newest_s.checked_sub(back * ring.step_s()));
    let found = starts.filter_map(|start_s| {
        let at = usize::try_from(ring.offset(start_s)).ok()?;
        Some((start_s, Sample::decode(bytes.get(at..at + RECORD_BYTES)?, start_s)?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(waiting: u32) -> Sample {
        let mut sample = Sample::default();
        sample.lanes[0].waiting = waiting;
        sample
    }

    /// A ring with a record of each of these steps, written in order.
    fn ring_of(ring: Ring, steps: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(ring.bytes()).unwrap()];
        for step in steps {
            let start_s = step * ring.step_s();
            let at = usize::try_from(ring.offset(start_s)).unwrap();
            bytes[at..at + RECORD_BYTES].copy_from_slice(&sample(u32::try_from(step).unwrap()).encode(start_s));
        }
        bytes
    }

    #[test]
    fn a_ring_wraps_and_forgets_what_is_older_than_its_span() {
        for ring in Ring::ALL {
            let points = ring.points();
            let bytes = ring_of(ring, 1000..1000 + 3 * points);
            assert_eq!(bytes.len() as u64, ring.points() * 256);
            let now_s = (1000 + 3 * points - 1) * ring.step_s() + 7;
            let read = records(ring, &bytes, now_s);
            assert_eq!(read.len() as u64, points);
            let steps: Vec<u64> = read.iter().map(|(_, sample)| u64::from(sample.lanes[0].waiting)).collect();
            assert!(steps.is_sorted() && steps[0] == 1000 + 2 * points, "{ring:?}");
            assert_eq!(read[0].0, steps[0] * ring.step_s());
        }
    }

    #[test]
    fn a_gap_stays_a_gap_and_an_old_slot_is_known_as_old() {
        let ring = Ring::Hour;
        // Steps 5 to 9 were not recorded; their slots hold what was there a round earlier.
        let bytes = ring_of(ring, (0..360).chain(360..365).chain(370..375));
        let read = records(ring, &bytes, 374 * 10);
        let steps: Vec<u64> = read.iter().map(|(start_s, _)| start_s / 10).collect();
        assert_eq!((steps.first(), steps.last(), steps.len()), (Some(&15), Some(&374), 355));
        assert!(!steps.contains(&365) && !steps.contains(&5));
        // Long after the last record there is none.
        assert!(records(ring, &bytes, 10_000 * 10).is_empty());
    }

    #[test]
    fn garbage_is_no_record() {
        let ring = Ring::HalfDay;
        let mut bytes = ring_of(ring, 1..3);
        bytes.truncate(RECORD_BYTES * 2 + 17);
        assert_eq!(records(ring, &bytes, 180).len(), 1);
        assert!(records(ring, b"", 180).is_empty());
        assert!(records(ring, &vec![0xff; RECORD_BYTES * 720], 180).is_empty());
        assert!(records(ring, &vec![0x01; RECORD_BYTES * 720], 180).is_empty());
        // At the beginning of time.
        assert!(records(ring, &vec![0; RECORD_BYTES * 720], 0).is_empty());
    }
}
