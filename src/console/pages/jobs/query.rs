//! What is typed into the search field: `state:delayed type:StartOtp batch:spring`.

use crate::{
    contract::{JobType, Status},
    operations::jobs::{JobFilter, Stage},
};

/// The tokens of a search, with what each finds.
pub(super) const TOKENS: [(&str, &str); 9] = [
    ("state:", "waiting, in_flight, delayed, ended, succeeded, failed, expired, cancelled, rejected"),
    ("lane:", "interactive, bulk"),
    ("type:", "CheckUser, CreateUser, StartOtp, …"),
    ("caller:", "whose limit the job spends"),
    ("customer:", "the customer's reference"),
    ("batch:", "the name of a batch"),
    ("since:", "2h, 30m, or a time in RFC 3339"),
    ("email:", "a person; so does any word with @"),
    ("phone:", "a person; so does +49…"),
];
/// Longest text of a search.
const LONGEST: usize = 1_000;

/// A search. `Debug` does not show it.
pub(super) struct Search {
    text: String,
    filter: JobFilter,
    is_personal: bool,
}

impl Search {
    /// Reads what was typed. The error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a search has at most {LONGEST} characters"));
        }
        let (mut filter, mut is_personal) = (JobFilter::default(), false);
        for word in text.split_whitespace() {
            let (name, value) = word.split_once(':').filter(|(name, _)| is_token(name)).unwrap_or(("", word));
            if value.is_empty() {
                return Err(format!("{name}: what?"));
            }
            let owned = || Some(value.to_owned());
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
                "email" => (filter.email, is_personal) = (owned(), true),
                "phone" => (filter.phone_number, is_personal) = (owned(), true),
                _ if value.contains('@') => (filter.email, is_personal) = (owned(), true),
                _ if value.starts_with('+') => (filter.phone_number, is_personal) = (owned(), true),
                _ if filter.id.is_none() => filter.id = owned(),
                _ => return Err("one id or reference at a time".to_owned()),
            }
        }
        Ok(Self { text: text.trim().to_owned(), filter, is_personal })
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

    #[test]
    fn tokens_and_words_make_a_filter() {
        let search =
            Search::parse(" state:delayed state:failed lane:bulk type:StartOtp batch:spring signup-1:x ").unwrap();
        let filter = search.filter();
        assert_eq!((filter.stage, filter.status), (vec![Stage::Delayed], vec![Status::Failed]));
        assert_eq!((filter.lane, filter.job_type), (Some(Lane::Bulk), vec![JobType::StartOtp]));
        assert_eq!((filter.batch.as_deref(), search.word()), (Some("spring"), Some("signup-1:x")));
        assert!(!search.is_personal());
        for wrong in ["state:x", "lane:x", "type:x", "since:x", "batch:", "a b", &"x".repeat(1_001)] {
            assert!(Search::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_person_is_known_as_one() {
        for text in ["ada@example.com", "email:ada@example.com", "+4915112345678", "phone:+4915112345678"] {
            assert!(Search::parse(text).unwrap().is_personal(), "{text}");
        }
    }
}
