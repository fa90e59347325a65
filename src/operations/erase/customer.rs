//! Whether a job, a completion or a dead letter names a customer.

use crate::{
    contract::{Origin, look_into},
    operations::jobs::{JobFilter, Sieve},
};
use memchr::{memchr, memmem};
use serde_json::Value;
use std::{collections::BTreeSet, fmt};
use unicode_normalization::UnicodeNormalization;

/// Whose data is to be erased: by any of these. `Debug` does not reveal them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomerToErase {
    /// The merchant's own identifier of the customer.
    pub reference: Option<String>,
    /// The email address, in upper or lower case.
    pub email: Option<String>,
    /// The phone number in E.164 form, such as `+33612345678`.
    pub phone_number: Option<String>,
    /// Ids of jobs about the customer. An earlier run reports those that it had to leave.
    pub jobs: BTreeSet<String>,
}

impl fmt::Debug for CustomerToErase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerToErase").field("by", &self.by()).finish_non_exhaustive()
    }
}

impl CustomerToErase {
    /// By what the customer is named. It holds no personal data.
    pub fn by(&self) -> Vec<&'static str> {
        let given = [
            ("customer_reference", self.reference.is_some()),
            ("email", self.email.is_some()),
            ("phone_number", self.phone_number.is_some()),
            ("jobs", !self.jobs.is_empty()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// Tells which texts name a customer.
pub(super) struct Matcher<'a> {
    customer: &'a CustomerToErase,
    /// In normal form C and lower case.
    email: Option<String>,
    /// Each excludes most texts that do not hold one of the names.
    sieves: Vec<Sieve>,
    /// An address with other letters than ASCII's has several spellings, which no sieve knows.
    skips_sieves: bool,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(customer: &'a CustomerToErase) -> Self {
        let CustomerToErase { reference, email, phone_number, .. } = customer;
        let all = JobFilter::default();
        let filters = [
            reference.as_ref().map(|_| JobFilter { customer: reference.clone(), ..all.clone() }),
            email.as_ref().map(|_| JobFilter { email: email.clone(), ..all.clone() }),
            phone_number.as_ref().map(|_| JobFilter { phone_number: phone_number.clone(), ..all.clone() }),
        ];
        Self {
            customer,
            email: email.as_deref().map(folded),
            sieves: filters.iter().flatten().map(Sieve::new).collect(),
            skips_sieves: email.as_ref().is_some_and(|email| !email.is_ascii()),
        }
    }

    /// Whether the job with this id is one of the named jobs.
    pub(super) fn is_named(&self, id: &str) -> bool {
        self.customer.jobs.contains(id)
    }

    /// Whether a job may be one of the named jobs, by its bytes. A job without an id of its own always may, and one with escapes.
    pub(super) fn may_be_named(&self, job: &[u8]) -> bool {
        let mut ids = self.customer.jobs.iter();
        let is_hidden = memchr(b'\\', job).is_some();
        ids.any(|id| is_hidden || id.parse::<Origin>().is_ok() || memmem::find(job, id.as_bytes()).is_some())
    }

    /// Whether a job, a completion or an error names the customer. What is not a JSON object is taken as text.
    pub(super) fn fits(&self, document: &[u8]) -> bool {
        if !self.skips_sieves && !self.sieves.iter().any(|sieve| sieve.lets_through(document)) {
            return false;
        }
        match std::str::from_utf8(document).ok().and_then(look_into) {
            Some(object @ Value::Object(_)) => self.names(&object, ""),
            _ => self.is_in_text(&String::from_utf8_lossy(document)),
        }
    }

    /// Whether what a replay or a discard was asked to do names the customer: in its filter, or in an edit of jobs.
    pub(super) fn fits_request(&self, request: &str) -> bool {
        match serde_json::from_str(request) {
            Ok(request) => self.is_requested(&request, ""),
            Err(_) => self.is_in_text(request),
        }
    }

    /// Values may be JSON within a text. Each such level doubles the escapes of the next, so there are few.
    fn is_requested(&self, value: &Value, member: &str) -> bool {
        match value {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(inner @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
                    self.is_requested(&inner, member)
                }
                // The text that a filter looks for.
                _ if member == "text" => self.is_in_text(text),
                _ => self.names(value, if member == "caller" { "caller_id" } else { member }),
            },
            Value::Array(items) => items.iter().any(|item| self.is_requested(item, member)),
            Value::Object(members) => {
                // An edit sets the member at `pointer` to the value in `text`.
                let pointer = members.get("pointer").and_then(Value::as_str);
                let set = pointer.map(|pointer| pointer.rsplit('/').next().unwrap_or_default());
                let named =
                    |name: &'_ str| if name == "text" { set.unwrap_or("text").to_owned() } else { name.to_owned() };
                members.iter().any(|(name, value)| self.is_requested(value, &named(name)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Whether a value, or one within it, names the customer. The depth is that of parsed JSON, which is bounded.
    fn names(&self, value: &Value, member: &str) -> bool {
        match value {
            Value::String(text) => {
                // A reference may be any word, so it counts only where references are.
                let is_reference = matches!(member, "customer_reference" | "caller_id");
                (is_reference && self.customer.reference.as_ref() == Some(text)) || self.has_contact(text)
            }
            Value::Array(items) => items.iter().any(|item| self.names(item, member)),
            Value::Object(members) => members.iter().any(|(name, value)| self.names(value, name)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn is_in_text(&self, text: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        self.has_contact(text)
            || self.customer.reference.as_ref().is_some_and(|wanted| holds(text, wanted, is_part, is_part))
    }

    /// Whether the email address or the phone number is in a text, such as a message of XCO's.
    fn has_contact(&self, text: &str) -> bool {
        let is_local = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let is_domain = |c: char| c.is_alphanumeric() || c == '-';
        let is_digit = |c: char| c.is_ascii_digit();
        self.email.as_ref().is_some_and(|email| text.contains('@') && holds(&folded(text), email, is_local, is_domain))
            || self.customer.phone_number.as_ref().is_some_and(|phone| holds(text, phone, is_digit, is_digit))
    }
}

fn folded(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase()
}

/// Whether a text holds a word that is not a part of a longer one: it neither follows a character that may precede it within a
/// word, nor goes on with one that may follow. A dot goes on with a word only if another character of a word comes after it.
fn holds(text: &str, word: &str, precedes: impl Fn(char) -> bool, follows: impl Fn(char) -> bool) -> bool {
    text.match_indices(word).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let mut after = text.get(at + found.len()..).unwrap_or_default().chars();
        let goes_on = match after.next() {
            Some('.') => after.next().is_some_and(&follows),
            next => next.is_some_and(&follows),
        };
        !before.is_some_and(&precedes) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> CustomerToErase {
        CustomerToErase {
            reference: Some("created".to_owned()),
            email: Some("Ada@Example.com".to_owned()),
            phone_number: Some("+33612345678".to_owned()),
            jobs: BTreeSet::new(),
        }
    }

    #[test]
    fn a_customer_is_found_wherever_a_document_names_them() {
        let customer = ada();
        let matcher = Matcher::new(&customer);
        for document in [
            r#"{"args":{"email":"ada@example.COM"}}"#,
            r#"{"args":{"user":{"phone_number":"+33612345678"}}}"#,
            r#"{"caller_id":"created"}"#,
            r#"{"next":{"absent":{"args":{"customer_reference":"created"}}}}"#,
            r#"{"meta":{"contact":"ada@example.com"}}"#,
            r#"{"error":{"problem":{"detail":"There is a user with ada@example.com."}}}"#,
            r#"{"args":{"email":"\u0061da@example.com"}}"#,
            "not JSON: ada@example.com, +33612345678",
            "not JSON: [created]",
            r#"["created"]"#,
        ] {
            assert!(matcher.fits(document.as_bytes()), "{document}");
        }
        for other in [
            r#"{"outcome":"created","status":"created"}"#,
            r#"{"meta":{"reference":"created"}}"#,
            r#"{"args":{"email":"eve.ada@example.com"}}"#,
            r#"{"args":{"email":"ada@example.com.au"}}"#,
            r#"{"args":{"phone_number":"+336123456789"}}"#,
            r#"{"args":{"phone_number":"+3361234567"}}"#,
            r#"{"customer_reference":"created-2"}"#,
            "not JSON: created_at",
            "",
        ] {
            assert!(!matcher.fits(other.as_bytes()), "{other}");
        }
        assert!(Matcher::new(&ada()).fits(b"\xff ada@example.com"), "invalid UTF-8 hides nothing");
    }

    #[test]
    fn requests_of_replays_name_a_customer_in_filters_and_edits() {
        let customer = ada();
        let matcher = Matcher::new(&customer);
        let whole = serde_json::json!({"whole": r#"{"args":{"email":"\u0061da@example.com"}}"#}).to_string();
        let plan =
            serde_json::json!({"request": r#"{"filter":{"customer_reference":"created"}}"#, "of": 1}).to_string();
        for request in [
            r#"{"filter":{"caller":"created"}}"#,
            r#"{"filter":{"text":"a created one"}}"#,
            r#"{"replay":{"changes":{"set":[{"pointer":"/args/customer_reference","text":"created"}]}}}"#,
            r#"{"replay":{"changes":{"set":[{"pointer":"/args/customer_reference","text":"\"created\""}]}}}"#,
            r#"{"replay":{"changes":{"set":[{"pointer":"/args/user","text":"{\"email\":\"ADA@example.com\"}"}]}}}"#,
            &whole,
            &plan,
            "not JSON: ada@example.com",
        ] {
            assert!(matcher.fits_request(request), "{request}");
        }
        for other in [
            r#"{"filter":{"batch":"created"}}"#,
            r#"{"filter":{"text":"created_at"}}"#,
            r#"{"replay":{"changes":{"set":[{"pointer":"/meta/state","text":"created"}]}}}"#,
            r#"{"kind":"created"}"#,
            "",
        ] {
            assert!(!matcher.fits_request(other), "{other}");
        }
    }

    #[test]
    fn spellings_of_an_accent_are_the_same_address() {
        let customer = CustomerToErase { email: Some("zoé@example.com".to_owned()), ..CustomerToErase::default() };
        let decomposed = "{\"args\":{\"email\":\"ZOE\u{301}@example.com\"}}";
        assert!(Matcher::new(&customer).fits(decomposed.as_bytes()));
    }

    #[test]
    fn debug_says_only_by_what_a_customer_is_named() {
        assert_eq!(
            format!("{:?}", ada()),
            r#"CustomerToErase { by: ["customer_reference", "email", "phone_number"], .. }"#
        );
    }
}
