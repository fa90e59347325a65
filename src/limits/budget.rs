//! The retry budget: retries are at most a share of first attempts, so that a struggling XCO is not hammered.

/// Earns a share of a retry with every first attempt and pays one for each retry; beyond it, delays stretch.
///
/// As in Finagle's retry budgets: a little is always there (`reserve`), so that a quiet worker may retry at all.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    share_percent: u32,
    /// Hundredths of a retry.
    balance: i64,
}

const RETRY: i64 = 100;
/// Ten retries are there at the start, and after any quiet.
const RESERVE: i64 = 10 * RETRY;
/// What a storm of first attempts can save up.
const MOST: i64 = 1_000 * RETRY;
/// What a storm of retries can owe: bounds how far delays stretch.
const LEAST: i64 = -MOST;

impl RetryBudget {
    /// Retries are to be at most `share_percent` of first attempts; 0 turns the budget off.
    pub const fn new(share_percent: u32) -> Self {
        Self { share_percent, balance: RESERVE }
    }

    /// A first attempt was made.
    pub fn earn(&mut self) {
        self.balance = (self.balance + i64::from(self.share_percent)).min(MOST);
    }

    /// A retry is to be made after `delay_ms`: pays for it, and returns how long it must wait, which is longer where there is
    /// nothing left to pay with: twice as long at a debt of ten retries, three times at twenty, and so on up to sixteen.
    pub fn spend(&mut self, delay_ms: u64) -> u64 {
        if self.share_percent == 0 {
            return delay_ms;
        }
        self.balance = (self.balance - RETRY).max(LEAST);
        let owed = u64::try_from(-self.balance).unwrap_or(0);
        // At least something, so that full jitter's zero does not undo the stretch.
        let stretch = (1 + owed / (10 * RETRY.unsigned_abs())).min(16);
        if stretch == 1 { delay_ms } else { delay_ms.max(100).saturating_mul(stretch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_the_share_nothing_is_stretched() {
        let mut budget = RetryBudget::new(20);
        for _ in 0..1_000 {
            for _ in 0..5 {
                budget.earn();
            }
            assert_eq!(budget.spend(50), 50);
        }
    }

    #[test]
    fn beyond_it_delays_stretch_and_come_back() {
        let mut budget = RetryBudget::new(20);
        let delays: Vec<u64> = (0..300).map(|_| budget.spend(100)).collect();
        assert_eq!(delays[0], 100);
        assert!(delays.is_sorted());
        assert_eq!(delays[299], 1_600);
        for _ in 0..2_000 {
            budget.earn();
        }
        assert_eq!(budget.spend(100), 100);
    }

    #[test]
    fn zero_turns_it_off() {
        let mut budget = RetryBudget::new(0);
        assert!((0..1_000).all(|_| budget.spend(7) == 7));
    }
}
