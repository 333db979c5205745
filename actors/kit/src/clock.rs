//! The only place that reads clocks.
//!
//! Owns the node's [`Clock`]. It follows tokio's clock, so a test that pauses tokio's time pauses every
//! decision with it. Refuses to know what the time is for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::moment::{Moment, WallTime};

/// A node's clock: monotonic moments for decisions, calendar time for people. Cheap to copy.
///
/// ```
/// # use arw_kit::clock::Clock;
/// let clock = Clock::system();
/// assert!(clock.now() <= clock.now());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    wall_origin: WallTime,
    follows_calendar: bool,
}

impl Clock {
    /// A clock that starts at [`START`] now and reads the machine's calendar.
    #[must_use]
    pub fn system() -> Self {
        Self { origin: tokio::time::Instant::now(), wall_origin: read_calendar(), follows_calendar: true }
    }

    /// A clock for tests: calendar time starts at `wall` and advances only with tokio's (pausable) time.
    #[must_use]
    pub fn starting_at(wall: WallTime) -> Self {
        Self { origin: tokio::time::Instant::now(), wall_origin: wall, follows_calendar: false }
    }

    /// Monotonic now.
    #[must_use]
    pub fn now(&self) -> Moment {
        START + tokio::time::Instant::now().duration_since(self.origin)
    }

    /// Calendar now.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        if self.follows_calendar {
            return read_calendar();
        }
        self.wall_origin + self.now().since(START)
    }

    /// The tokio instant of `moment`, for `sleep_until`.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> tokio::time::Instant {
        self.origin + moment.since(START)
    }

    /// Where a journaled calendar time lies on this clock: never later than now. Times before this process
    /// began lie before [`START`], so that a restart window goes on across a restart of the node.
    #[must_use]
    pub fn moment_of(&self, past: WallTime) -> Moment {
        self.now().minus(self.wall().since(past))
    }
}

/// The moment at which every clock starts: a year after [`Moment::ZERO`], so that what an earlier process
/// journaled within the last year still has a moment.
pub const START: Moment = Moment::from_nanos(Duration::from_secs(365 * 24 * 3600).as_nanos() as u64);

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the calendar")]
fn read_calendar() -> WallTime {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    WallTime::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
