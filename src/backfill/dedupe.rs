//! The customers that a run has met, to find duplicates.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};
use unicode_normalization::UnicodeNormalization;

/// Maximum memory for each row, to find duplicates: two entries of a table that may just have grown, or three if the
/// reference is not in ASCII.
pub const BYTES_PER_ROW: usize = 120;

/// The place of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowPlace {
    /// The file, counted from 0.
    pub file: usize,
    /// The line that the row begins in.
    pub line: u64,
}

/// The references and emails met so far, as 64-bit hashes. The key of the hash is random in each run, so that no file can be
/// made to collide. In ten million rows, the probability that two different customers collide is below one in 100,000.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    places: HashMap<u64, u64>,
}

const LINE_BITS: u32 = 40;

impl Seen {
    /// Adds a customer. Returns the place of an earlier reference that looks the same and is written in another Unicode form.
    ///
    /// # Errors
    /// An earlier customer has the same reference or the same mailbox: which of the two, and its place.
    pub(super) fn note(
        &mut self,
        reference: &str,
        email: &str,
        place: RowPlace,
    ) -> Result<Option<RowPlace>, (&'static str, RowPlace)> {
        let by_reference = |reference: &str| self.hasher.hash_one((0_u8, reference));
        let by_form = |normal: &str| self.hasher.hash_one((2_u8, normal));
        let keys =
            [("customer_reference", by_reference(reference)), ("email", self.hasher.hash_one((1_u8, mailbox(email))))];
        for (what, key) in keys {
            if let Some(first) = self.find(key) {
                return Err((what, first));
            }
        }
        let normal: String = reference.nfc().collect();
        let form = by_form(&normal);
        let alike = self.find(form).or_else(|| self.find(by_reference(&normal)));
        // A reference in ASCII is its own normal form.
        let keys = keys.into_iter().chain((!reference.is_ascii()).then_some(("", form)));
        let packed = ((place.file as u64) << LINE_BITS) | (place.line & ((1 << LINE_BITS) - 1));
        for (_, key) in keys {
            if let Entry::Vacant(vacant) = self.places.entry(key) {
                vacant.insert(packed);
            }
        }
        Ok(alike)
    }

    fn find(&self, key: u64) -> Option<RowPlace> {
        let packed = self.places.get(&key)?;
        let file = usize::try_from(packed >> LINE_BITS).unwrap_or(usize::MAX);
        Some(RowPlace { file, line: packed & ((1 << LINE_BITS) - 1) })
    }
}

/// The common form of all spellings of a mailbox: in lower case, with its domain in ASCII (`xn--mnchen-3ya.de` for
/// `münchen.de`).
pub(super) fn mailbox(email: &str) -> String {
    let email: String = email.nfc().collect();
    let Some((local, domain)) = email.rsplit_once('@') else { return email.to_lowercase() };
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    format!("{}@{domain}", local.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_known_again_by_either() {
        let mut seen = Seen::default();
        let place = |file, line| RowPlace { file, line };
        assert_eq!(seen.note("c1", "Ada@example.com", place(0, 2)), Ok(None));
        assert_eq!(seen.note("c1", "b@example.com", place(0, 3)), Err(("customer_reference", place(0, 2))));
        assert_eq!(seen.note("c2", "ada@EXAMPLE.com", place(1, 4)), Err(("email", place(0, 2))));
        // What was a duplicate itself makes none.
        assert_eq!(seen.note("c2", "b@example.com", place(1, 5)), Ok(None));
        assert_eq!(seen.note("ada@example.com", "c1", place(1, 6)), Ok(None));
        assert_eq!(seen.note("c2", "z", place(3, 1)), Err(("customer_reference", place(1, 5))));
    }

    #[test]
    fn a_mailbox_is_the_same_in_every_spelling() {
        let place = |line| RowPlace { file: 0, line };
        let mut seen = Seen::default();
        assert_eq!(seen.note("1", "Ann@m\u{fc}nchen.de", place(2)), Ok(None));
        for same in ["ann@xn--mnchen-3ya.de", "ann@XN--MNCHEN-3YA.DE", "ann@mu\u{308}nchen.de", "ANN@M\u{dc}NCHEN.de"] {
            assert_eq!(seen.note(same, same, place(3)), Err(("email", place(2))), "{same}");
        }
        assert_eq!(seen.note("2", "ann@munchen.de", place(4)), Ok(None));
    }

    #[test]
    fn references_that_look_alike_are_told() {
        let place = |line| RowPlace { file: 0, line };
        let mut seen = Seen::default();
        assert_eq!(seen.note("Ren\u{e9}", "1", place(2)), Ok(None));
        assert_eq!(seen.note("Rene\u{301}", "2", place(3)), Ok(Some(place(2))));
        assert_eq!(seen.note("Rene", "3", place(4)), Ok(None));
        // KELVIN SIGN, whose normal form is in ASCII.
        assert_eq!(seen.note("K1", "4", place(5)), Ok(None));
        assert_eq!(seen.note("\u{212a}1", "5", place(6)), Ok(Some(place(5))));
        assert_eq!(seen.note("\u{212a}2", "6", place(7)), Ok(None));
        assert_eq!(seen.note("K2", "7", place(8)), Ok(Some(place(7))));
    }
}
