//! The retry budget. It keeps retries to a share of first attempts, so that they do not overload a struggling XCO.

/// A balance of retries. Each first attempt earns a fraction of a retry, time earns ten retries per second, and each
/// retry costs one. When the balance is negative, delays become longer, up to `retry.cap`.
///
/// As in Finagle's retry budgets, a worker may always retry a little, even with few first attempts.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    share_percent: u32,
    /// The balance in hundredths of a retry.
    balance: i64,
    /// When the balance last earned from time, in milliseconds on a monotonic clock.
    earned_at_ms: u64,
}

const RETRY: i64 = 100;
/// The balance at the start and after a quiet period: ten retries.
const RESERVE: i64 = 10 * RETRY;
/// Maximum balance that many first attempts can earn.
const MOST: i64 = 1_000 * RETRY;
/// Maximum debt that many retries can cause. It bounds how long delays become, and how long that lasts.
const LEAST: i64 = -150 * RETRY;

impl RetryBudget {
    /// Limits retries to `share_percent` of first attempts. 0 turns the budget off.
    pub const fn new(share_percent: u32) -> Self {
        Self { share_percent, balance: RESERVE, earned_at_ms: 0 }
    }

    /// Records a first attempt.
    pub fn earn(&mut self) {
        self.balance = (self.balance + i64::from(self.share_percent)).min(MOST);
    }

    /// Pays for a retry after `delay_ms` and returns the delay it must have. With a debt the delay is longer: twice as
    /// long from ten retries, three times from twenty, and so on up to sixteen times. It is never extended beyond
    /// `cap_ms`. `now_ms` is monotonic.
    pub fn spend(&mut self, delay_ms: u64, cap_ms: u64, now_ms: u64) -> u64 {
        if self.share_percent == 0 {
            return delay_ms;
        }
        let passed_ms = now_ms.saturating_sub(self.earned_at_ms);
        self.earned_at_ms = now_ms;
        if self.balance < RESERVE {
            // Ten retries per second are one hundredth of a retry per millisecond.
            let earned = i64::try_from(passed_ms).unwrap_or(i64::MAX);
            self.balance = self.balance.saturating_add(earned).min(RESERVE);
        }
        self.balance = (self.balance - RETRY).max(LEAST);
        let owed = u64::try_from(-self.balance).unwrap_or(0);
        // A minimum delay, because full jitter can return zero, which no factor extends.
        let stretch = (1 + owed / (10 * RETRY.unsigned_abs())).min(16);
        if stretch == 1 { delay_ms } else { delay_ms.max(100).saturating_mul(stretch).min(cap_ms.max(delay_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u64 = 60_000;

    #[test]
    fn within_the_share_nothing_is_stretched() {
        let mut budget = RetryBudget::new(20);
        for _ in 0..1_000 {
            for _ in 0..5 {
                budget.earn();
            }
            assert_eq!(budget.spend(50, CAP, 0), 50);
        }
    }

    #[test]
    fn beyond_it_delays_stretch_and_come_back() {
        let mut budget = RetryBudget::new(20);
        let delays: Vec<u64> = (0..300).map(|_| budget.spend(100, CAP, 0)).collect();
        assert_eq!(delays[0], 100);
        assert!(delays.is_sorted());
        assert_eq!(delays[299], 1_600);
        for _ in 0..800 {
            budget.earn();
        }
        assert_eq!(budget.spend(100, CAP, 0), 100);
    }

    #[test]
    fn after_a_storm_quiet_alone_brings_it_back_within_seconds() {
        let mut budget = RetryBudget::new(20);
        for _ in 0..475 {
            budget.spend(50, CAP, 1_000);
        }
        assert_eq!(budget.spend(50, CAP, 1_000), 1_600);
        assert_eq!(budget.spend(50, CAP, 17_000), 50);
    }

    #[test]
    fn no_delay_is_stretched_beyond_the_cap_and_none_is_shortened() {
        let mut budget = RetryBudget::new(20);
        assert!((0..500).all(|_| budget.spend(50, 200, 0) <= 200));
        assert_eq!(budget.spend(3_000, 200, 0), 3_000, "XCO asked for it");
    }

    #[test]
    fn zero_turns_it_off() {
        let mut budget = RetryBudget::new(0);
        assert!((0..1_000).all(|_| budget.spend(7, CAP, 0) == 7));
    }
}
