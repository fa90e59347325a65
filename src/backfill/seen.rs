//! Which customers a run has met.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

/// What finding duplicates costs in memory, at most, for each row: two entries of a table that may just have grown.
pub const BYTES_PER_ROW: usize = 80;

/// Where a customer was met first: file (from 0) and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: u64,
}

/// References and emails met so far, as 64-bit hashes with a key of this run's own: of ten million rows, two that differ
/// look alike with a probability below one in 100,000, and no file can be made to bring that about.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    places: HashMap<u64, u64>,
}

const LINE_BITS: u32 = 40;

impl Seen {
    /// Notes a customer, unless one with its reference or its email (whatever its case) was noted before: then by which of
    /// the two, and where.
    pub(super) fn note(&mut self, reference: &str, email: &str, place: Place) -> Result<(), (&'static str, Place)> {
        let keys = [
            ("customer_reference", self.hasher.hash_one((0_u8, reference))),
            ("email", self.hasher.hash_one((1_u8, email.to_lowercase()))),
        ];
        for (what, key) in keys {
            if let Some(packed) = self.places.get(&key) {
                let file = usize::try_from(packed >> LINE_BITS).unwrap_or(usize::MAX);
                return Err((what, Place { file, line: packed & ((1 << LINE_BITS) - 1) }));
            }
        }
        let packed = ((place.file as u64) << LINE_BITS) | (place.line & ((1 << LINE_BITS) - 1));
        for (_, key) in keys {
            if let Entry::Vacant(vacant) = self.places.entry(key) {
                vacant.insert(packed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_known_again_by_either() {
        let mut seen = Seen::default();
        let place = |file, line| Place { file, line };
        assert_eq!(seen.note("c1", "Ada@example.com", place(0, 2)), Ok(()));
        assert_eq!(seen.note("c1", "b@example.com", place(0, 3)), Err(("customer_reference", place(0, 2))));
        assert_eq!(seen.note("c2", "ada@EXAMPLE.com", place(1, 4)), Err(("email", place(0, 2))));
        // What was a duplicate itself makes none.
        assert_eq!(seen.note("c2", "b@example.com", place(1, 5)), Ok(()));
        assert_eq!(seen.note("ada@example.com", "c1", place(1, 6)), Ok(()));
        assert_eq!(seen.note("c2", "z", place(3, 1)), Err(("customer_reference", place(1, 5))));
    }
}
