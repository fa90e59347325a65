//! A person in a search, named by a seal instead of an address or a number, so that the search can be shared.

use crate::config::TicketKey;
use hmac::{Hmac, Mac};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;
use sha2::Sha256;
use std::{
    fmt::{self, Write},
    sync::Arc,
};

/// Marks the form of a seal's text.
const FORM: &str = "h1.";
/// Bytes of a seal: enough to tell the people of a queue apart.
const BYTES: usize = 8;

type Seal = [u8; BYTES];

/// Seals people, and knows them again. A seal is the beginning of an HMAC-SHA-256 of the address or number, so that nobody without a
/// key can try out whom it names.
#[derive(Debug)]
pub struct PersonSeals {
    /// The first seals, all are compared. Never empty.
    keys: Vec<SecretSlice<u8>>,
}

impl PersonSeals {
    /// Takes the keys that sign tickets. Without any, makes one that only this process knows.
    pub fn new(keys: &[TicketKey]) -> Self {
        let mut keys: Vec<_> = keys.iter().map(|key| key.secret.clone()).collect();
        if keys.is_empty() {
            let mut secret = vec![0; 32];
            rand::rng().fill_bytes(&mut secret);
            keys.push(SecretSlice::from(secret));
        }
        Self { keys }
    }

    /// The seal of an email address or a phone number, as text: `h1.` and 16 hexadecimal digits.
    pub fn seal(&self, person: &str) -> String {
        let seal = self.keys.first().map(|key| seal(key, person)).unwrap_or_default();
        seal.iter().fold(FORM.to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads a seal. `None` for any other text.
    pub fn read(self: &Arc<Self>, text: &str) -> Option<SealedPerson> {
        let digits = text.strip_prefix(FORM).filter(|digits| digits.len() == 2 * BYTES && digits.is_ascii())?;
        let mut seal = Seal::default();
        for (byte, at) in seal.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        Some(SealedPerson { seal, seals: Arc::clone(self) })
    }
}

/// The same person has the same seal, however the address is written.
fn seal(key: &SecretSlice<u8>, person: &str) -> Seal {
    // A key of any length is accepted.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret()) else { return Seal::default() };
    // Another use of the same keys is tickets.
    mac.update(b"xco-person\n");
    mac.update(person.trim().to_ascii_lowercase().as_bytes());
    let mut seal = Seal::default();
    seal.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(byte, of_mac)| *byte = of_mac);
    seal
}

/// A person whom a search looks for by a seal.
#[derive(Clone)]
pub struct SealedPerson {
    seal: Seal,
    seals: Arc<PersonSeals>,
}

impl SealedPerson {
    /// Whether the JSON of a job or of its completion is about this person.
    pub(super) fn is_in(&self, json: &Value) -> bool {
        let (args, user) = (&json["args"], &json["result"]["user"]);
        ["email", "phone_number"]
            .into_iter()
            .flat_map(|name| [&args[name], &args["user"][name], &user[name]])
            .filter_map(Value::as_str)
            .any(|person| self.seals.keys.iter().any(|key| seal(key, person) == self.seal))
    }
}

impl PartialEq for SealedPerson {
    fn eq(&self, other: &Self) -> bool {
        self.seal == other.seal
    }
}

impl Eq for SealedPerson {}

impl fmt::Debug for SealedPerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedPerson(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn key(byte: u8) -> TicketKey {
        TicketKey { id: "a".to_owned(), secret: SecretSlice::from(vec![byte; 32]) }
    }

    #[test]
    fn a_person_is_known_by_the_seal_and_nobody_by_the_text() {
        let seals = Arc::new(PersonSeals::new(&[key(1)]));
        let text = seals.seal(" Ada@Example.com ");
        assert!(text.len() == 19 && text == seals.seal("ada@example.com") && !text.contains("ada"), "{text}");
        let ada = seals.read(&text).unwrap();
        for job in [
            json!({"args": {"email": "ADA@example.com"}}),
            json!({"args": {"user": {"email": "ada@example.com"}}}),
            json!({"result": {"user": {"email": "ada@example.com"}}}),
        ] {
            assert!(ada.is_in(&job), "{job}");
        }
        for job in
            [json!({"args": {"email": "eve@example.com"}}), json!({"meta": {"email": "ada@example.com"}}), json!(7)]
        {
            assert!(!ada.is_in(&job), "{job}");
        }
        let by_phone = seals.read(&seals.seal("+33612345678")).unwrap();
        assert!(by_phone.is_in(&json!({"args": {"phone_number": "+33612345678"}})));
        for wrong in [
            "",
            "h1.",
            "h1.0123",
            "h2.0123456789abcdef",
            "h1.0123456789abcdeg",
            "h1.0123456789abcdef0",
            "h1.é23456789abcdef",
        ] {
            assert!(seals.read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_seal_is_still_known_after_a_change_of_keys_and_to_nobody_without_them() {
        let text = PersonSeals::new(&[key(1)]).seal("ada@example.com");
        let job = json!({"args": {"email": "ada@example.com"}});
        let knows = |keys: &[TicketKey]| Arc::new(PersonSeals::new(keys)).read(&text).unwrap().is_in(&job);
        assert!(knows(&[key(2), key(1)]));
        assert!(!knows(&[key(2)]) && !knows(&[]));
    }
}
