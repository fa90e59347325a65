//! Assigns a job to a partition (contract §1).

use super::{CallerId, Job, JobId};

/// Returns the partition of `key`: its CRC-32 (IEEE, as in zlib and PHP's `crc32`) modulo `partitions`.
///
/// Producers in every language compute the same value. 0 partitions count as one.
pub fn partition_of(key: &str, partitions: u16) -> u16 {
    let remainder = crc32fast::hash(key.as_bytes()) % u32::from(partitions.max(1));
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
    use super::*;

    #[test]
    fn known_answers() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(u32::from(partition_of("123456789", 1000)), 0xCBF4_3926 % 1000);
        assert_eq!(partition_of("123456789", 1), 0);
        assert_eq!(partition_of("123456789", 0), 0);
        assert_eq!(partition_of("", 16), 0);
        assert_eq!(u32::from(partition_of("123456789", u16::MAX)), 0xCBF4_3926 % 65_535);
    }

    #[test]
    fn spreads_evenly() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(partition_of(&format!("203.0.113.{n}"), 8))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
