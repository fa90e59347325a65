//! The merchants whose jobs somebody may touch and see.

use super::{MerchantId, look_into};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// A set of merchants, or all of them. A job that names no merchant belongs to `xco.merchant_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MerchantScope(Option<Only>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Only {
    #[serde(deserialize_with = "merchants")]
    merchants: BTreeSet<MerchantId>,
    #[serde(deserialize_with = "merchant")]
    default: Option<MerchantId>,
}

fn merchants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<MerchantId>, D::Error> {
    let ids = Vec::<String>::deserialize(deserializer)?;
    Ok(ids.iter().map(|id| MerchantId::from_checked(id)).collect())
}

fn merchant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MerchantId>, D::Error> {
    let id = Option::<String>::deserialize(deserializer)?;
    Ok(id.map(|id| MerchantId::from_checked(&id)))
}

impl MerchantScope {
    /// All merchants.
    pub const fn all() -> Self {
        Self(None)
    }

    /// These merchants alone; none if `merchants` is empty. `default` is `xco.merchant_id`.
    pub fn only<'a>(merchants: impl IntoIterator<Item = &'a MerchantId>, default: Option<&MerchantId>) -> Self {
        Self(Some(Only { merchants: merchants.into_iter().cloned().collect(), default: default.cloned() }))
    }

    /// Whether it is all merchants.
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The ids of the merchants. `None`: all merchants.
    pub fn ids(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.as_ref().map(|only| only.merchants.iter().map(MerchantId::as_str))
    }

    /// Whether a job that names `merchant` is in the scope.
    pub fn allows(&self, merchant: Option<&str>) -> bool {
        let Some(Only { merchants, default }) = &self.0 else { return true };
        let merchant = merchant.or_else(|| default.as_ref().map(MerchantId::as_str));
        merchant.is_some_and(|named| merchants.iter().any(|allowed| is_same(allowed, named)))
    }

    /// Whether a job is in the scope, by the JSON of the job or of its completion. What is no text names no merchant.
    pub fn covers(&self, json: &Value) -> bool {
        self.is_all() || self.allows(json["merchant_id"].as_str())
    }

    /// Whether a job is in the scope, and every job that would follow it. A job that cannot be read, or whose merchant is no text,
    /// belongs to no merchant.
    pub fn covers_tree(&self, job: &str) -> bool {
        self.is_all() || look_into(job).is_some_and(|job| self.covers_value(&job, self.allows(None)))
    }

    /// `inherited`: whether the merchant is in the scope that holds where the job names none.
    fn covers_value(&self, job: &Value, inherited: bool) -> bool {
        let Value::Object(members) = job else { return false };
        let own = match members.get("merchant_id") {
            None | Some(Value::Null) => inherited,
            Some(Value::String(id)) => self.allows(Some(id)),
            Some(_) => false,
        };
        // A faulty `next` holds no jobs: nothing follows.
        own && match members.get("next") {
            Some(Value::Object(next)) => next.values().all(|job| !job.is_object() || self.covers_value(job, own)),
            _ => true,
        }
    }

    /// Whether `other` covers every merchant of this scope.
    pub fn is_within(&self, other: &Self) -> bool {
        let of_default = !self.allows(None) || other.allows(None);
        other.is_all() || of_default && self.ids().is_some_and(|mut ids| ids.all(|id| other.allows(Some(id))))
    }

    /// The merchant that a job without one gets: the only one in the scope, unless the job belongs to it anyway.
    pub fn to_fill_in(&self) -> Option<&MerchantId> {
        let mut merchants = self.0.as_ref()?.merchants.iter();
        merchants.next().filter(|_| merchants.next().is_none() && !self.allows(None))
    }
}

/// UUIDs are the same in upper and lower case.
fn is_same(allowed: &MerchantId, named: &str) -> bool {
    allowed.as_str().eq_ignore_ascii_case(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const OURS: &str = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";
    const THEIRS: &str = "0f0e6a3f-7c53-4d4b-9f3c-2f4c7f0f3b22";

    #[test]
    fn a_job_that_names_no_merchant_belongs_to_the_configured_one() {
        let (ours, theirs) = (MerchantId::from_checked(OURS), MerchantId::from_checked(THEIRS));
        let nameless = [json!({}), json!({"merchant_id": 7}), json!({"merchant_id": null}), Value::Null];
        let scope = MerchantScope::only([&ours], Some(&ours));
        assert!(scope.covers(&json!({"merchant_id": OURS})) && !scope.covers(&json!({"merchant_id": THEIRS})));
        assert!(scope.covers(&json!({"merchant_id": OURS.to_uppercase()})));
        let other = MerchantScope::only([&theirs], Some(&ours));
        let none = MerchantScope::only([], Some(&ours));
        let unconfigured = MerchantScope::only([&ours], None);
        for json in nameless {
            assert!(scope.covers(&json) && MerchantScope::all().covers(&json), "{json}");
            assert!(!other.covers(&json) && !none.covers(&json) && !unconfigured.covers(&json), "{json}");
        }
        assert_eq!((scope.to_fill_in(), other.to_fill_in()), (None, Some(&theirs)));
        assert_eq!((none.to_fill_in(), MerchantScope::only([&ours, &theirs], None).to_fill_in()), (None, None));
    }

    const ONE: &str = "11111111-89ab-cdef-0123-456789abcdef";
    const TWO: &str = "22222222-89ab-cdef-0123-456789abcdef";

    fn id(text: &str) -> MerchantId {
        MerchantId::from_checked(text)
    }

    #[test]
    fn a_job_belongs_to_the_merchant_that_it_names_or_to_the_default() {
        let two = TWO.to_ascii_uppercase();
        let job = |members: &str| format!(r#"{{"type":"CheckUser"{members}}}"#);
        let own = MerchantScope::only([&id(ONE)], Some(&id(ONE)));
        let other = MerchantScope::only([&id(&two)], Some(&id(ONE)));
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
            assert_eq!((own.covers_tree(&text), other.covers_tree(&text)), (of_own, of_other), "{text}");
        }
        assert!(!MerchantScope::only([&id(ONE)], None).covers_tree(&job("")));
        assert!(MerchantScope::all().covers_tree("no JSON"));
        let kept: MerchantScope = serde_json::from_value(json!(own)).unwrap();
        assert_eq!((kept, json!(MerchantScope::all())), (own, Value::Null));
    }

    #[test]
    fn what_follows_belongs_to_the_same_merchants() {
        let one = MerchantScope::only([&id(ONE)], None);
        let both = MerchantScope::only([&id(ONE), &id(TWO)], None);
        let with = |child: &str| format!(r#"{{"merchant_id":"{ONE}","next":{{"absent":{child}}}}}"#);
        let deep = format!(r#"{{"next":{{"created":{{"merchant_id":"{TWO}"}}}}}}"#);
        assert!(one.covers_tree(&with("{}")) && one.covers_tree(&with("17")) && !one.covers_tree(&with(&deep)));
        assert!(both.covers_tree(&with(&deep)) && one.is_within(&both) && !both.is_within(&one));
        assert!(both.is_within(&MerchantScope::all()) && !MerchantScope::all().is_within(&both));
    }
}
