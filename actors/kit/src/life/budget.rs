//! How many restarts are allowed, and how long to wait before each.
//!
//! Plain values and arithmetic: no clock, no randomness.

use std::collections::VecDeque;
use std::time::Duration;

use crate::moment::Moment;

/// At most `max` restarts within `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimits {
    /// Restarts that a window allows; 0 means that the first failure is final.
    pub max: u32,
    /// Length of the sliding window.
    pub window: Duration,
}

impl Default for RestartLimits {
    /// Three restarts within five seconds: enough for a hiccup, too few for a loop. OTP's own default is one.
    fn default() -> Self {
        Self { max: 3, window: Duration::from_secs(5) }
    }
}

/// How much of a restart budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartUse {
    /// Restarts within the window.
    pub used: u32,
    /// Restarts that the window allows.
    pub max: u32,
    /// Length of the window.
    pub window: Duration,
    /// When all of it is available again; `None` while nothing is used.
    pub resets_at: Option<Moment>,
}

/// The restarts within the window.
///
/// BUDGET-1: exactly OTP's rule. A restart counts while no more than `window` has passed since; one more than
/// `max` of them is too many.
///
/// ```
/// use arw_kit::moment::Moment;
/// use arw_kit::life::{RestartBudget, RestartLimits};
/// use std::time::Duration;
/// let mut budget = RestartBudget::new(RestartLimits { max: 1, window: Duration::from_secs(5) });
/// let t = |s| Moment::ZERO + Duration::from_secs(s);
/// assert!(budget.spend(t(0)));
/// assert!(!budget.spend(t(5)));
/// assert!(!budget.spend(t(6)), "a refused restart was attempted all the same, and counts");
/// assert!(budget.spend(t(12)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    limits: RestartLimits,
    spent: VecDeque<Moment>,
}

impl RestartBudget {
    /// Nothing spent.
    #[must_use]
    pub fn new(limits: RestartLimits) -> Self {
        Self { limits, spent: VecDeque::new() }
    }

    /// Counts one restart at `now` and says whether it is allowed.
    pub fn spend(&mut self, now: Moment) -> bool {
        self.forget_old(now);
        self.spent.push_back(now);
        // One more than `max` is all that a refusal needs to remember.
        while self.spent.len() > self.limits.max as usize + 1 {
            self.spent.pop_front();
        }
        self.spent.len() <= self.limits.max as usize
    }

    /// Takes over restarts that happened before this budget was made, for example before the node restarted.
    pub fn restore(&mut self, at: impl IntoIterator<Item = Moment>) {
        self.spent.extend(at);
        self.spent.make_contiguous().sort_unstable();
        while self.spent.len() > self.limits.max as usize + 1 {
            self.spent.pop_front();
        }
    }

    /// Forgets everything, for example after an operator's intervention.
    pub fn reset(&mut self) {
        self.spent.clear();
    }

    /// What is used at `now`.
    #[must_use]
    pub fn usage(&self, now: Moment) -> RestartUse {
        let counts = |at: &&Moment| now.since(**at) <= self.limits.window;
        let used = self.spent.iter().filter(counts).count();
        RestartUse {
            used: u32::try_from(used).unwrap_or(u32::MAX).min(self.limits.max),
            max: self.limits.max,
            window: self.limits.window,
            resets_at: self.spent.back().filter(counts).map(|newest| *newest + self.limits.window),
        }
    }

    fn forget_old(&mut self, now: Moment) {
        while self.spent.front().is_some_and(|at| now.since(*at) > self.limits.window) {
            self.spent.pop_front();
        }
    }
}

/// Waits before restarts: `first`, then doubled each time up to `max`, each with up to a fifth of jitter
/// either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart; zero restarts at once.
    pub first: Duration,
    /// Before the second restart when `first` is zero.
    pub second: Duration,
    /// Never longer than this (jitter included).
    pub max: Duration,
    /// Having run so long, a child starts over with `first`.
    pub reset_after: Duration,
}

impl Default for Backoff {
    /// At once, then 100 ms doubling to 30 s: a single crash should not be felt, a loop should not burn a
    /// core.
    fn default() -> Self {
        Self {
            first: Duration::ZERO,
            second: Duration::from_millis(100),
            max: Duration::from_secs(30),
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// No waiting at all.
    pub const NONE: Backoff = Backoff {
        first: Duration::ZERO,
        second: Duration::ZERO,
        max: Duration::ZERO,
        reset_after: Duration::MAX,
    };

    /// The wait before restart number `consecutive` (0 is the first); `chance` spreads it.
    #[must_use]
    pub fn delay(&self, consecutive: u32, chance: u64) -> Duration {
        let base = match (consecutive, self.first.is_zero()) {
            (0, _) => self.first,
            (n, true) => self.second.saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX)),
            (n, false) => self.first.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)),
        };
        // 80 % to 120 %, in thousandths.
        let spread = 800 + u32::try_from(chance % 401).unwrap_or(200);
        (base.min(self.max).saturating_mul(spread) / 1000).min(self.max)
    }
}

/// A small generator for jitter, seeded from outside so that decisions replay.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        // xorshift64*: spread is all that is asked of it.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// OTP's `add_restart` and `in_period`, written down independently: the list of all restarts, newest
    /// first.
    fn otp_allows(restarts: &mut Vec<u64>, now: u64, intensity: usize, period: u64) -> bool {
        restarts.insert(0, now);
        restarts.retain(|at| now <= at + period);
        restarts.len() <= intensity
    }

    proptest! {
        #[test]
        fn the_budget_allows_exactly_what_otp_allows(
            gaps in proptest::collection::vec(0_u64..8, 1..60),
            max in 0_u32..5,
            window in 0_u64..12,
        ) {
            let mut budget = RestartBudget::new(RestartLimits { max, window: Duration::from_secs(window) });
            let mut otp = Vec::new();
            let mut now = 100;
            for gap in gaps {
                now += gap;
                let moment = Moment::ZERO + Duration::from_secs(now);
                let allowed = budget.spend(moment);
                prop_assert_eq!(allowed, otp_allows(&mut otp, now, max as usize, window));
                prop_assert_eq!(budget.usage(moment).used, u32::try_from(otp.len()).unwrap().min(max));
            }
        }

        #[test]
        fn a_budget_restored_from_its_history_goes_on_as_if_nothing_had_happened(
            gaps in proptest::collection::vec(0_u64..8, 2..40), cut in 0_usize..40, max in 0_u32..5,
        ) {
            let limits = RestartLimits { max, window: Duration::from_secs(10) };
            let at: Vec<Moment> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(Moment::ZERO + Duration::from_secs(*now)) }).collect();
            let cut = cut.min(at.len());
            let mut whole = RestartBudget::new(limits);
            at[..cut].iter().for_each(|t| { whole.spend(*t); });
            let mut resumed = RestartBudget::new(limits);
            resumed.restore(at[..cut].iter().rev().copied());
            for t in &at[cut..] {
                prop_assert_eq!(whole.spend(*t), resumed.spend(*t));
            }
        }

        #[test]
        fn waits_grow_to_their_limit_and_never_pass_it(n in 0_u32..80, chance: u64) {
            let backoff = Backoff::default();
            let delay = backoff.delay(n, chance);
            prop_assert!(delay <= backoff.max);
            prop_assert!(n != 0 || delay.is_zero());
            prop_assert!(n < 12 || delay >= backoff.max / 5 * 4);
        }
    }
}
