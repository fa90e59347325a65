//! What is typed into the search field: `state:delayed type:StartOtp batch:spring`.

use crate::{
    contract::{JobType, Status},
    operations::{
        Selector,
        jobs::{JobFilter, PersonSeals, Stage},
    },
};
use std::sync::Arc;

/// The tokens of a search, with what each finds.
pub(super) const TOKENS: [(&str, &str); 10] = [
    ("state:", "waiting, in_flight, delayed, ended, succeeded, failed, expired, cancelled, rejected"),
    ("lane:", "interactive, bulk"),
    ("type:", "CheckUser, CreateUser, StartOtp, …"),
    ("caller:", "whose limit the job spends"),
    ("customer:", "the customer's reference"),
    ("batch:", "the name of a batch"),
    ("since:", "2h, 30m, or a time in RFC 3339"),
    ("email:", "a person; so does any word with @"),
    ("phone:", "a person; so does +49…"),
    ("person:", "a person, sealed: what an address or a number becomes"),
];
/// Longest text of a search.
const LONGEST: usize = 1_000;

/// A search. `Debug` does not show it.
pub(super) struct Search {
    text: String,
    /// The text with a seal in place of each person.
    sealed: String,
    filter: JobFilter,
    is_personal: bool,
}

impl Search {
    /// Reads what was typed. The error is a sentence.
    pub(super) fn parse(text: &str, seals: &Arc<PersonSeals>) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a search has at most {LONGEST} characters"));
        }
        let (mut filter, mut is_personal) = (JobFilter::default(), false);
        let mut sealed = Vec::new();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once(':').filter(|(name, _)| is_token(name)).unwrap_or(("", word));
            if value.is_empty() {
                return Err(format!("{name}: what?"));
            }
            let owned = || Some(value.to_owned());
            let is_person = match name {
                "email" | "phone" => true,
                "" => value.contains('@') || value.starts_with('+'),
                _ => false,
            };
            sealed.push(if is_person { format!("person:{}", seals.seal(value)) } else { word.to_owned() });
            is_personal |= is_person;
            match name {
                "state" => match (Stage::from_name(value), Status::from_name(value)) {
                    (Some(stage), _) => filter.stage.push(stage),
                    (None, Some(status)) => filter.status.push(status),
                    (None, None) => return Err("there is no such state".to_owned()),
                },
                "lane" => filter.lane = Some(value.parse().map_err(|_| "there are the lanes interactive and bulk")?),
                "type" => filter.job_type.push(
                    JobType::from_name(value)
                        .ok_or_else(|| format!("there is no such type; there are {}", JobType::names()))?,
                ),
                "caller" => filter.caller = owned(),
                "customer" => filter.customer = owned(),
                "batch" => filter.batch = owned(),
                "since" => filter.since = Some(value.parse().map_err(|wanted| format!("since: {wanted}"))?),
                "person" => {
                    let person = seals.read(value).ok_or("person: a sealed person is h1. and 16 digits from 0 to f")?;
                    filter.people.push(person);
                }
                _ if is_person => {
                    let person = seals.read(&seals.seal(value));
                    filter.people.extend(person);
                }
                _ if filter.id.is_none() => filter.id = owned(),
                _ => return Err("one id or reference at a time".to_owned()),
            }
        }
        Ok(Self { text: text.trim().to_owned(), sealed: sealed.join(" "), filter, is_personal })
    }

    /// The search with a seal in place of each person: it may stand in an address.
    pub(super) fn sealed(&self) -> &str {
        &self.sealed
    }

    /// The jobs that it finds, as a cancellation can name them. `None` if a cancellation would cover others as well, or if it names
    /// nothing.
    pub(super) fn selector(&self) -> Option<Selector> {
        let JobFilter { stage, status, job_type, lane, batch, caller, customer, people, id, since, .. } = &self.filter;
        let is_more = !stage.is_empty() || !status.is_empty() || !people.is_empty() || id.is_some() || since.is_some();
        let job_type = match job_type.as_slice() {
            [] => None,
            [one] => Some(*one),
            _ => return None,
        };
        let selector = Selector {
            lane: *lane,
            job_type,
            caller: caller.clone(),
            customer: customer.clone(),
            batch: batch.clone(),
            id: None,
        };
        (!is_more && !selector.is_everything()).then_some(selector)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names a person by address or number.
    pub(super) const fn is_personal(&self) -> bool {
        self.is_personal
    }

    pub(super) fn filter(&self) -> JobFilter {
        self.filter.clone()
    }

    /// The word without a token: an id or a reference.
    pub(super) fn word(&self) -> Option<&str> {
        self.filter.id.as_deref().filter(|_| self.filter.customer.is_none())
    }
}

fn is_token(name: &str) -> bool {
    TOKENS.iter().any(|(token, _)| token.strip_suffix(':') == Some(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::Lane;

    fn parse(text: &str) -> Result<Search, String> {
        Search::parse(text, &Arc::new(PersonSeals::new(&[])))
    }

    #[test]
    fn tokens_and_words_make_a_filter() {
        let search = parse(" state:delayed state:failed lane:bulk type:StartOtp batch:spring signup-1:x ").unwrap();
        let filter = search.filter();
        assert_eq!((filter.stage, filter.status), (vec![Stage::Delayed], vec![Status::Failed]));
        assert_eq!((filter.lane, filter.job_type), (Some(Lane::Bulk), vec![JobType::StartOtp]));
        assert_eq!((filter.batch.as_deref(), search.word()), (Some("spring"), Some("signup-1:x")));
        assert!(!search.is_personal());
        for wrong in ["state:x", "lane:x", "type:x", "since:x", "batch:", "a b", "person:ada", &"x".repeat(1_001)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_person_is_known_as_one() {
        for text in ["ada@example.com", "email:ada@example.com", "+4915112345678", "phone:+4915112345678"] {
            assert!(parse(text).unwrap().is_personal(), "{text}");
        }
    }

    #[test]
    fn a_person_is_sealed_and_found_again_by_the_seal() {
        let seals = Arc::new(PersonSeals::new(&[]));
        let typed = Search::parse("ada@example.com state:ended phone:+33612345678", &seals).unwrap();
        let sealed = typed.sealed();
        assert!(
            !sealed.contains("ada") && !sealed.contains("336") && sealed.contains(" state:ended person:h1."),
            "{sealed}"
        );
        let again = Search::parse(sealed, &seals).unwrap();
        assert!(!again.is_personal() && again.filter() == typed.filter() && again.sealed() == sealed);
    }

    #[test]
    fn only_what_a_cancellation_can_name_is_offered_for_one() {
        let selector = |text: &str| parse(text).unwrap().selector();
        let named = selector("batch:spring type:CreateUser lane:bulk caller:a customer:b").unwrap();
        assert_eq!((named.batch.as_deref(), named.caller.as_deref()), (Some("spring"), Some("a")));
        for text in [
            "",
            "signup-1",
            "batch:a state:delayed",
            "batch:a since:2h",
            "ada@example.com",
            "batch:a state:failed",
            "type:CheckUser type:StartOtp",
        ] {
            assert!(selector(text).is_none(), "{text}");
        }
    }
}
