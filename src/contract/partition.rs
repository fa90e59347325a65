//! Assigns a job to a partition (contract §1).

use super::{CallerId, Job, JobId};
use std::{
    num::{NonZero, TryFromIntError},
    ops::Range,
};

/// The number of partitions of a queue; at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(NonZero<u16>);

impl Partitions {
    /// A queue that is not divided.
    pub const ONE: Self = Self(NonZero::<u16>::MIN);

    /// `None` if `count` is 0.
    pub const fn new(count: u16) -> Option<Self> {
        match NonZero::new(count) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The numbers by which the partitions are called, from 0 on.
    pub const fn numbers(self) -> Range<u16> {
        0..self.get()
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<i64> for Partitions {
    type Error = TryFromIntError;

    fn try_from(count: i64) -> Result<Self, Self::Error> {
        NonZero::try_from(u16::try_from(count)?).map(Self)
    }
}

/// Returns the partition of `key`: its CRC-32 (IEEE, as in zlib and PHP's `crc32`) modulo `partitions`.
///
/// Producers in every language compute the same value.
pub fn partition_of(key: &str, partitions: Partitions) -> u16 {
    let remainder = crc32fast::hash(key.as_bytes()) % u32::from(partitions.get());
    // A remainder modulo a `u16` fits a `u16`.
    u16::try_from(remainder).unwrap_or(0)
}

impl Job {
    /// Returns the text that decides the partition: the effective caller, else the job's id. A job with neither may go
    /// to any partition.
    pub fn partition_key(&self) -> Option<&str> {
        self.effective_caller.as_ref().map(CallerId::as_str).or_else(|| self.id.as_ref().map(JobId::as_str))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn known_answers() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        let of = |key, count| u32::from(partition_of(key, Partitions::new(count).unwrap()));
        assert_eq!(of("123456789", 1000), 0xCBF4_3926 % 1000);
        assert_eq!(of("123456789", 1), 0);
        assert_eq!(of("", 16), 0);
        assert_eq!(of("123456789", u16::MAX), 0xCBF4_3926 % 65_535);
    }

    #[test]
    fn there_is_at_least_one() {
        assert_eq!(Partitions::new(0), None);
        assert_eq!(Partitions::try_from(256).map(Partitions::get), Ok(256));
        assert!([0, -1, 65_536].into_iter().all(|count: i64| Partitions::try_from(count).is_err()));
        assert_eq!(Partitions::default().numbers().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn spreads_evenly() {
        let eight = Partitions::new(8).unwrap();
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(partition_of(&format!("203.0.113.{n}"), eight))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
