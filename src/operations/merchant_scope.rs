//! The merchants whose jobs somebody may touch and see.

use crate::contract::MerchantId;

/// A set of merchants, or all of them. A job that names no merchant belongs to `xco.merchant_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerchantScope {
    /// Empty: all merchants.
    merchants: Vec<MerchantId>,
    default: Option<MerchantId>,
}

impl MerchantScope {
    /// All merchants.
    pub const fn all() -> Self {
        Self { merchants: Vec::new(), default: None }
    }

    /// These merchants; all if there are none. `default` is `xco.merchant_id`.
    pub fn new(merchants: &[MerchantId], default: Option<&MerchantId>) -> Self {
        Self { merchants: merchants.to_vec(), default: default.cloned() }
    }

    /// Whether it is all merchants.
    pub fn is_all(&self) -> bool {
        self.merchants.is_empty()
    }

    /// Whether a job that names `merchant` is in the scope.
    pub fn allows(&self, merchant: Option<&str>) -> bool {
        let merchant = merchant.or_else(|| self.default.as_ref().map(MerchantId::as_str));
        self.is_all() || merchant.is_some_and(|named| self.merchants.iter().any(|allowed| is_same(allowed, named)))
    }

    /// The merchant that a job without one gets: the only one in the scope, unless the job belongs to it anyway.
    pub(super) fn to_fill_in(&self) -> Option<&MerchantId> {
        match self.merchants.as_slice() {
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

    #[test]
    fn a_job_without_a_merchant_belongs_to_the_configured_one() {
        let a = MerchantId::from_checked("3fa85f64-5717-4562-b3fc-2c963f66afa6");
        let b = MerchantId::from_checked("00000000-5717-4562-b3fc-2c963f66afa6");
        assert!(MerchantScope::all().allows(None) && MerchantScope::all().allows(Some("x")));
        let scope = MerchantScope::new(std::slice::from_ref(&a), Some(&a));
        assert!(scope.allows(None) && scope.allows(Some("3FA85F64-5717-4562-b3fc-2c963f66afa6")));
        assert!(!scope.allows(Some(b.as_str())));
        assert_eq!(scope.to_fill_in(), None);
        let scope = MerchantScope::new(std::slice::from_ref(&a), Some(&b));
        assert!(!scope.allows(None));
        assert_eq!(scope.to_fill_in(), Some(&a));
        assert!(!MerchantScope::new(&[a], None).allows(None));
    }
}
