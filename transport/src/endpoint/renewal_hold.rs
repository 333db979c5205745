//! Whom an issuer renews after its folder was restored from a backup.
//!
//! A decider. Owns how long it waits for word of removals that the backup does not know. Refuses to know who
//! brings it.

use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

/// WIRE-21: for so long after each start nobody is renewed: members that run dial within seconds, and those
/// on a machine that is being started, too, within minutes.
const HELD_AT_LEAST: Duration = Duration::from_secs(3_600);

/// And without another member not before so long after the restore: of the ten days that a renewal may take
/// a week is left.
const HELD_AT_MOST: Duration = Duration::from_secs(3 * 24 * 3_600);

/// WIRE-21: a member tells the removals that it knows right after its hello.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// The time during which renewals wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RenewalHold {
    at_least: Moment,
    at_most: Moment,
}

impl RenewalHold {
    /// For a node that starts now. `None`: it was not restored, or long ago.
    pub(super) fn at_start(now: Moment, wall: WallTime, restored_at: Option<WallTime>) -> Option<Self> {
        // Where the clock has been set back since, it is as if it were restored now.
        let left = HELD_AT_MOST.checked_sub(wall.since(restored_at?)).filter(|left| !left.is_zero())?;
        Some(Self { at_least: now + HELD_AT_LEAST, at_most: now + left })
    }

    /// Whether a member has to wait for its certificate. `others_told`: another member than that one has told
    /// what it knows.
    pub(super) fn holds(&self, now: Moment, others_told: bool) -> bool {
        now < self.at_most && (now < self.at_least || !others_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESTORED: WallTime = WallTime::from_millis(1_800_000_000_000);

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    #[test]
    fn nobody_is_renewed_for_an_hour_and_alone_not_for_three_days_and_then_it_ends_by_itself() {
        // WIRE-21
        let at = |hours_later| Moment::ZERO + hours(hours_later);
        let hold = RenewalHold::at_start(at(0), RESTORED, Some(RESTORED)).unwrap();
        assert!(hold.holds(at(0), true) && !hold.holds(at(1), true), "whoever knew of it has told it");
        assert!(hold.holds(at(1), false) && hold.holds(at(71), false) && !hold.holds(at(72), false));
    }

    #[test]
    fn each_start_within_three_days_waits_anew_and_no_later_one_does() {
        // WIRE-21
        let start = |wall| RenewalHold::at_start(Moment::ZERO, wall, Some(RESTORED));
        let again = start(RESTORED + hours(48)).unwrap();
        assert!(again.holds(Moment::ZERO, true) && !again.holds(Moment::ZERO + hours(1), true));
        assert!(
            again.holds(Moment::ZERO + hours(23), false) && !again.holds(Moment::ZERO + hours(24), false)
        );
        assert_eq!(start(RESTORED + hours(72)), None);
        assert!(start(RESTORED - hours(9_000)).is_some(), "the clock was ahead when it was restored");
        assert_eq!(RenewalHold::at_start(Moment::ZERO, RESTORED, None), None);
    }
}
