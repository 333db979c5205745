//! Whether the store can write, and when to try again.
//!
//! Owns [`StoreHealth`] and the decider behind it. Refuses to know SQL and threads.

use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

/// Whether writes work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// They do.
    Ok,
    /// They do not; the store tries again by itself.
    Degraded {
        /// Why, and what to do about it.
        reason: String,
        /// Since when.
        since: WallTime,
        /// Writes that were refused since then.
        lost: u64,
    },
}

impl StoreHealth {
    /// Writes work.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// The first try comes quickly: most troubles (a lock, a short spike) pass at once.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Later tries are rare enough to cost nothing, and soon enough that a person sees the recovery.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Decides when writes count as working. Invariant: `retry_at` is set exactly while degraded.
#[derive(Debug)]
pub(super) struct HealthTable {
    health: StoreHealth,
    retry_at: Option<Moment>,
    // Survives a recovery until a real batch has been committed: a store that flaps is not probed ever
    // faster.
    pause: Duration,
}

impl HealthTable {
    pub(super) fn new() -> Self {
        Self { health: StoreHealth::Ok, retry_at: None, pause: RETRY_FIRST }
    }

    pub(super) fn health(&self) -> &StoreHealth {
        &self.health
    }

    pub(super) fn retry_at(&self) -> Option<Moment> {
        self.retry_at
    }

    /// Writes failed for a reason that is the database's; `lost` of them were refused.
    pub(super) fn failed(&mut self, now: Moment, wall: WallTime, reason: String, lost: u64) {
        let (since, before) = match &self.health {
            StoreHealth::Ok => (wall, 0),
            StoreHealth::Degraded { since, lost, .. } => (*since, *lost),
        };
        self.health = StoreHealth::Degraded { reason, since, lost: before.saturating_add(lost) };
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    /// Writes came while none can be made.
    pub(super) fn refused(&mut self, count: u64) {
        if let StoreHealth::Degraded { lost, .. } = &mut self.health {
            *lost = lost.saturating_add(count);
        }
    }

    /// A trial write worked.
    pub(super) fn recovered(&mut self) {
        self.health = StoreHealth::Ok;
        self.retry_at = None;
    }

    /// A real batch was committed.
    pub(super) fn committed(&mut self) {
        if self.health.is_ok() {
            self.pause = RETRY_FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_nanos(1_000_000_000);
    const WALL: WallTime = WallTime::from_millis(5);

    #[test]
    fn tries_become_rarer_up_to_a_limit() {
        let mut table = HealthTable::new();
        let pauses: Vec<u128> = (0..9)
            .map(|_| {
                table.failed(NOW, WALL, "full".into(), 1);
                table.retry_at().unwrap().since(NOW).as_millis()
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn the_first_moment_of_trouble_stays_and_losses_add_up() {
        let mut table = HealthTable::new();
        table.failed(NOW, WALL, "full".into(), 2);
        table.refused(3);
        table.failed(NOW, WallTime::from_millis(99), "still full".into(), 1);
        assert_eq!(
            *table.health(),
            StoreHealth::Degraded { reason: "still full".into(), since: WALL, lost: 6 }
        );
    }

    #[test]
    fn only_a_real_commit_makes_the_next_try_quick_again() {
        let mut table = HealthTable::new();
        table.failed(NOW, WALL, "full".into(), 1);
        table.recovered();
        assert_eq!((table.health(), table.retry_at()), (&StoreHealth::Ok, None));
        table.failed(NOW, WALL, "full".into(), 1);
        assert_eq!(table.retry_at().unwrap().since(NOW), RETRY_FIRST * 2);
        table.recovered();
        table.committed();
        table.failed(NOW, WALL, "full".into(), 1);
        assert_eq!(table.retry_at().unwrap().since(NOW), RETRY_FIRST);
    }
}
