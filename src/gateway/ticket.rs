//! Tickets: each lets a browser wait for one job, for some minutes.
//!
//! `x1.<key id>.<payload>.<mac>`, base64url without padding. The payload is JSON: `j` the job's id, `p` its partition, `e` the
//! end of the ticket's life in Unix seconds, `m` the job's merchant if it has one. The MAC is HMAC-SHA-256 over
//! `xco-wait-ticket\n` and everything before the last dot.

use crate::config::{GatewayConfig, TicketKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::time::Duration;

/// Longer than any ticket: an id may be derived four times from one of 128 characters.
const MAX_TICKET_BYTES: usize = 2_048;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The id of the job.
    #[serde(rename = "j")]
    pub(crate) job: String,
    /// The partition of the job.
    #[serde(rename = "p")]
    pub(crate) partition: u16,
    /// The ticket is valid until this time, in Unix seconds.
    #[serde(rename = "e")]
    pub(crate) expires_s: u64,
    /// The merchant that the job names.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) merchant: Option<String>,
}

/// Signs and verifies tickets.
#[derive(Debug)]
pub(crate) struct Tickets {
    /// The first signs, all verify. Never empty.
    keys: Vec<TicketKey>,
    ttl: Duration,
}

impl Tickets {
    /// Takes the configured keys. Without any, makes one that only this process knows.
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let mut keys = config.ticket_keys.clone();
        if keys.is_empty() {
            let mut secret = vec![0; 32];
            rand::rng().fill_bytes(&mut secret);
            keys.push(TicketKey { id: "r".to_owned(), secret: SecretSlice::from(secret) });
        }
        Self { keys, ttl: config.ticket_ttl }
    }

    /// Issues a ticket for a job.
    pub(crate) fn issue(&self, job: &str, partition: u16, merchant: Option<&str>, now_s: u64) -> Option<String> {
        let expires_s = now_s.saturating_add(self.ttl.as_secs());
        let ticket = Ticket { job: job.to_owned(), partition, expires_s, merchant: merchant.map(ToOwned::to_owned) };
        sign(self.keys.first()?, &ticket)
    }

    /// Reads a ticket for `job`. `None` for every ticket that is forged, stale or for another job.
    pub(crate) fn verify(&self, text: &str, job: &str, now_s: u64) -> Option<Ticket> {
        if text.len() > MAX_TICKET_BYTES {
            return None;
        }
        let (signed, mac) = text.rsplit_once('.')?;
        let (version_and_key, payload) = signed.rsplit_once('.')?;
        let key_id = version_and_key.strip_prefix("x1.")?;
        let key = self.keys.iter().find(|key| key.id == key_id)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // Compares in constant time.
        keyed(key, signed)?.verify_slice(&mac).ok()?;
        let ticket: Ticket = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (ticket.job == job && now_s < ticket.expires_s).then_some(ticket)
    }
}

fn sign(key: &TicketKey, ticket: &Ticket) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).ok()?);
    let signed = format!("x1.{}.{payload}", key.id);
    let mac = URL_SAFE_NO_PAD.encode(keyed(key, &signed)?.finalize().into_bytes());
    Some(format!("{signed}.{mac}"))
}

fn keyed(key: &TicketKey, signed: &str) -> Option<Hmac<Sha256>> {
    // A key of any length is accepted.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.secret.expose_secret()).ok()?;
    mac.update(b"xco-wait-ticket\n");
    mac.update(signed.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tickets() -> Tickets {
        let key = TicketKey { id: "a".to_owned(), secret: SecretSlice::from((0..32).collect::<Vec<u8>>()) };
        Tickets { keys: vec![key], ttl: Duration::from_secs(600) }
    }

    #[test]
    fn the_vector_of_the_specification() {
        let ticket = tickets().issue("signup-42", 0, None, 1_795_374_300).unwrap();
        let wanted =
            "x1.a.eyJqIjoic2lnbnVwLTQyIiwicCI6MCwiZSI6MTc5NTM3NDkwMH0.5UEeA9G_UJifzh-QDexS7gEJFqfB9dZWoS19BtOy8mQ";
        assert_eq!(ticket, wanted);
    }

    #[test]
    fn only_a_fresh_ticket_for_this_job_is_valid() {
        let tickets = tickets();
        let ticket = tickets.issue("signup-42", 3, Some("m"), 1_000).unwrap();
        let read = tickets.verify(&ticket, "signup-42", 1_599).unwrap();
        assert_eq!((read.partition, read.merchant.as_deref()), (3, Some("m")));
        assert!(tickets.verify(&ticket, "signup-42", 1_600).is_none());
        assert!(tickets.verify(&ticket, "signup-43", 1_000).is_none());
        for place in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            // The last digit of a MAC has two bits that mean nothing, so change one that counts.
            forged[place] = if forged[place] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            if forged != ticket {
                assert!(tickets.verify(&forged, "signup-42", 1_000).is_none(), "{place}");
            }
        }
        assert!(tickets.verify("", "", 0).is_none() && tickets.verify(&"x".repeat(9_999), "", 0).is_none());
    }

    #[test]
    fn an_older_key_still_verifies_after_a_change() {
        let old = tickets();
        let ticket = old.issue("j", 0, None, 0).unwrap();
        let new = TicketKey { id: "b".to_owned(), secret: SecretSlice::from(vec![7; 32]) };
        let both = Tickets { keys: vec![new, old.keys[0].clone()], ttl: old.ttl };
        assert!(both.verify(&ticket, "j", 0).is_some());
        assert!(old.verify(&both.issue("j", 0, None, 0).unwrap(), "j", 0).is_none());
    }
}
