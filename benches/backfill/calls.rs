//! Follows the calls that the sandbox gets. Of two million customers, no more is kept than a hash for each.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};
use xco_worker::sandbox::{Route, Sandbox};

/// The calls so far.
#[derive(Default)]
pub(crate) struct Calls {
    /// The number of the next call.
    next: u64,
    hasher: RandomState,
    /// How often each customer was looked up.
    checks: HashMap<u64, u32>,
    pub(crate) creations: u64,
    /// Calls of the API by second, since the sandbox was started.
    by_second: HashMap<u64, u64>,
}

impl Calls {
    /// Reads the calls since the last time. The sandbox keeps enough of them for seconds.
    pub(crate) fn follow(&mut self, sandbox: &Sandbox) {
        for call in sandbox.calls_from(self.next) {
            assert_eq!(call.seq, self.next, "the sandbox has dropped calls that were not read");
            self.next += 1;
            match call.route {
                Route::Exists => {
                    let customer = self.hasher.hash_one(call.key.unwrap().to_lowercase());
                    *self.checks.entry(customer).or_default() += 1;
                }
                Route::Create => self.creations += 1,
                _ => continue,
            }
            *self.by_second.entry(call.at_us / 1_000_000).or_default() += 1;
        }
    }

    /// Number of calls of the API.
    pub(crate) fn count(&self) -> u64 {
        self.by_second.values().sum()
    }

    /// The most calls within one second.
    pub(crate) fn most_in_a_second(&self) -> u64 {
        self.by_second.values().copied().max().unwrap_or(0)
    }

    /// Checks that each of these customers was looked up once, and no other.
    pub(crate) fn check(&self, emails: impl Iterator<Item = String>) {
        let mut count = 0;
        for email in emails {
            let checks = self.checks.get(&self.hasher.hash_one(email.to_lowercase()));
            assert_eq!(checks, Some(&1), "{email} was looked up {} times", checks.copied().unwrap_or(0));
            count += 1;
        }
        assert_eq!(self.checks.len(), count, "customers that were not in the file");
    }
}
