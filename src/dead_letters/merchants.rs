//! Whose dead letters somebody may see and touch.

use crate::contract::{MerchantId, MerchantScope, look_into};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// The merchants whose jobs a user of the gateway may see and touch.
///
/// A job that names no merchant belongs to `xco.merchant_id`. A job that cannot be read belongs to no merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchants {
    /// Their ids in lower case.
    allowed: BTreeSet<String>,
    /// Whether a job that names no merchant belongs to one of them.
    unnamed: bool,
}

impl Merchants {
    /// `default` is `xco.merchant_id`, the merchant of jobs that name none.
    pub fn new(allowed: &[MerchantId], default: Option<&MerchantId>) -> Self {
        let allowed: BTreeSet<String> = allowed.iter().map(|id| id.as_str().to_ascii_lowercase()).collect();
        let unnamed = default.is_some_and(|id| allowed.contains(&id.as_str().to_ascii_lowercase()));
        Self { allowed, unnamed }
    }

    /// Those of a scope. `None`: all merchants.
    pub fn of(scope: &MerchantScope) -> Option<Self> {
        scope.merchants().map(|(allowed, default)| Self::new(allowed, default))
    }

    /// Whether a job belongs to one of them, and every job that would follow it as well.
    pub fn covers(&self, job: &str) -> bool {
        look_into(job).is_some_and(|job| self.covers_tree(&job, self.unnamed))
    }

    /// `inherited`: whether the merchant is covered that holds where the job names none.
    fn covers_tree(&self, job: &Value, inherited: bool) -> bool {
        let Value::Object(members) = job else { return false };
        let own = match members.get("merchant_id") {
            None | Some(Value::Null) => inherited,
            Some(Value::String(id)) => self.allowed.contains(&id.to_ascii_lowercase()),
            Some(_) => false,
        };
        // A faulty `next` holds no jobs: nothing follows.
        own && match members.get("next") {
            Some(Value::Object(next)) => next.values().all(|job| !job.is_object() || self.covers_tree(job, own)),
            _ => true,
        }
    }

    /// Whether `other` covers every merchant of these.
    pub fn is_within(&self, other: &Self) -> bool {
        self.allowed.is_subset(&other.allowed) && (!self.unnamed || other.unnamed)
    }

    /// Their ids, for the audit stream.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11111111-89ab-cdef-0123-456789abcdef";
    const TWO: &str = "22222222-89ab-cdef-0123-456789abcdef";

    fn id(text: &str) -> MerchantId {
        MerchantId::from_checked(text)
    }

    #[test]
    fn a_job_belongs_to_the_merchant_that_it_names_or_to_the_default() {
        let two = TWO.to_ascii_uppercase();
        let job = |members: &str| format!(r#"{{"type":"CheckUser"{members}}}"#);
        let own = Merchants::new(&[id(ONE)], Some(&id(ONE)));
        let other = Merchants::new(&[id(&two)], Some(&id(ONE)));
        let named = |id: &str| job(&format!(r#","merchant_id":"{id}""#));
        for (text, of_own, of_other) in [
            (job(""), true, false),
            (job(r#","merchant_id":null"#), true, false),
            (named(ONE), true, false),
            (named(TWO), false, true),
            (named(&two), false, true),
            (job(r#","merchant_id":7"#), false, false),
            ("no JSON".to_owned(), false, false),
            ("[]".to_owned(), false, false),
        ] {
            assert_eq!((own.covers(&text), other.covers(&text)), (of_own, of_other), "{text}");
        }
        assert!(!Merchants::new(&[id(ONE)], None).covers(&job("")));
        assert_eq!(Merchants::of(&MerchantScope::only([&id(ONE)], Some(&id(ONE)))), Some(own));
        assert_eq!(Merchants::of(&MerchantScope::all()), None);
    }

    #[test]
    fn what_follows_belongs_to_the_same_merchants() {
        let one = Merchants::new(&[id(ONE)], None);
        let both = Merchants::new(&[id(ONE), id(TWO)], None);
        let with = |child: &str| format!(r#"{{"merchant_id":"{ONE}","next":{{"absent":{child}}}}}"#);
        let deep = format!(r#"{{"next":{{"created":{{"merchant_id":"{TWO}"}}}}}}"#);
        assert!(one.covers(&with("{}")) && one.covers(&with("17")) && !one.covers(&with(&deep)));
        assert!(both.covers(&with(&deep)) && one.is_within(&both) && !both.is_within(&one));
    }
}
