//! Fingerprints of customers. A later backfill of the same merchant recognises its customers by them.

use super::dedupe::mailbox;
use sha2::{Digest, Sha256};

/// Makes the fingerprints of one merchant's customers. Fingerprints that were made with another salt cannot be compared with these.
#[derive(Clone)]
pub struct Fingerprints {
    /// Has read the salt and the merchant.
    begun: Sha256,
}

impl Fingerprints {
    /// The salt stands for the installation: fingerprints of two installations have nothing in common. `merchant_id` is that of the
    /// jobs; `None`: the workers' own.
    pub fn new(salt: &str, merchant_id: Option<&str>) -> Self {
        let merchant =
            merchant_id.map(|id| uuid::Uuid::try_parse(id).map_or_else(|_| id.to_owned(), |id| id.to_string()));
        let mut begun = Sha256::new();
        add(&mut begun, salt);
        add(&mut begun, &merchant.unwrap_or_default());
        Self { begun }
    }

    /// The fingerprint of a customer: the same for all spellings of the mailbox, and never 0 or [`u64::MAX`]. Two customers among
    /// two million have the same one with a probability below one in a million.
    pub fn of(&self, reference: &str, email: &str) -> u64 {
        let mut hash = self.begun.clone();
        add(&mut hash, reference);
        add(&mut hash, &mailbox(email));
        let first = hash.finalize().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes));
        first.clamp(1, u64::MAX - 1)
    }
}

/// Adds a text with its length: `ab`, `c` and `a`, `bc` differ.
fn add(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_one_customer_of_one_merchant_in_one_installation() {
        let merchant = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";
        let of = |salt, merchant, reference, email| Fingerprints::new(salt, merchant).of(reference, email);
        let one = of("s", None, "c1", "a@example.com");
        assert_eq!(one, of("s", None, "c1", "A@EXAMPLE.com"));
        let capitals = merchant.to_uppercase();
        assert_eq!(of("s", Some(merchant), "c", "a@b.de"), of("s", Some(&capitals), "c", "a@b.de"));
        for other in [
            of("t", None, "c1", "a@example.com"),
            of("s", Some(merchant), "c1", "a@example.com"),
            of("s", None, "c2", "a@example.com"),
            of("s", None, "c1", "b@example.com"),
            of("s", None, "c1a", "@example.com"),
        ] {
            assert_ne!(one, other);
        }
    }
}
