//! The merchants whose jobs somebody may touch and see.

use super::MerchantId;
use serde_json::Value;

/// A set of merchants, or all of them. A job that names no merchant belongs to `xco.merchant_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerchantScope(Option<Only>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Only {
    merchants: Vec<MerchantId>,
    default: Option<MerchantId>,
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

    /// The merchants of the scope, and that of jobs which name none. `None`: all merchants.
    pub fn merchants(&self) -> Option<(&[MerchantId], Option<&MerchantId>)> {
        self.0.as_ref().map(|only| (only.merchants.as_slice(), only.default.as_ref()))
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

    /// The merchant that a job without one gets: the only one in the scope, unless the job belongs to it anyway.
    pub fn to_fill_in(&self) -> Option<&MerchantId> {
        match self.0.as_ref()?.merchants.as_slice() {
            [only] if !self.allows(None) => Some(only),
            _ => None,
        }
    }
}

/// UUIDs are the same in upper and lower case.
fn is_same(allowed: &MerchantId, named: &str) -> bool {
    allowed.as_str().eq_ignore_ascii_case(named)
}

#[cfg(test)]
mod tests {
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
}
