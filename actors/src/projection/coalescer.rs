//! When a change is worth publishing.
//!
//! Owns the least time between two versions. A decider: the actor that publishes brings the time and the
//! timer.

use std::time::Duration;

use arw_kit::moment::Moment;

/// Readers are people and pollers: twenty versions a second look live, and a busy node does not render more.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// What to do about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalesced {
    /// Publish now.
    Publish,
    /// Publish at this moment; changes until then ride along.
    At(Moment),
}

/// Spaces versions without ever dropping the last change: the first change after a quiet time goes out at
/// once, further ones wait for the rest of the interval.
///
/// ```
/// use arw_kit::moment::Moment;
/// use arw_actors::projection::{Coalesced, Coalescer, PUBLISH_INTERVAL};
///
/// let (mut coalescer, start) = (Coalescer::new(PUBLISH_INTERVAL), Moment::ZERO);
/// assert_eq!(coalescer.changed(start), Coalesced::Publish);
/// assert_eq!(coalescer.changed(start), Coalesced::At(start + PUBLISH_INTERVAL));
/// assert!(coalescer.due(start + PUBLISH_INTERVAL));
/// assert_eq!(coalescer.next_deadline(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Coalescer {
    interval: Duration,
    published_at: Option<Moment>,
    pending: Option<Moment>,
}

impl Coalescer {
    /// At most one version per `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, published_at: None, pending: None }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Moment) -> Coalesced {
        let at = self.pending.or_else(|| self.published_at.map(|at| at + self.interval)).unwrap_or(now);
        if at <= now {
            self.publish(now);
            return Coalesced::Publish;
        }
        self.pending = Some(at);
        Coalesced::At(at)
    }

    /// A timer rang: true when it is time to publish what has changed.
    #[must_use]
    pub fn due(&mut self, now: Moment) -> bool {
        let due = self.pending.is_some_and(|at| at <= now);
        if due {
            self.publish(now);
        }
        due
    }

    /// When to call [`Coalescer::due`]; `None` while nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.pending
    }

    fn publish(&mut self, now: Moment) {
        self.published_at = Some(now);
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the times of the changes: each is followed by a publication within the interval, and two
        /// publications are at least an interval apart.
        #[test]
        fn no_change_is_dropped_and_no_two_versions_are_too_close(gaps in proptest::collection::vec(0_u64..120, 1..60)) {
            let mut coalescer = Coalescer::new(PUBLISH_INTERVAL);
            let mut now = Moment::from_nanos(1);
            let mut published: Vec<Moment> = Vec::new();
            for gap in gaps {
                let until = now + Duration::from_millis(gap);
                if let Some(at) = coalescer.next_deadline().filter(|at| *at <= until) {
                    prop_assert!(coalescer.due(at));
                    prop_assert_eq!(coalescer.next_deadline(), None);
                    published.push(at);
                }
                now = until;
                match coalescer.changed(now) {
                    Coalesced::Publish => {
                        prop_assert_eq!(coalescer.next_deadline(), None);
                        published.push(now);
                    }
                    Coalesced::At(at) => {
                        prop_assert!(at > now && at.since(now) <= PUBLISH_INTERVAL);
                        prop_assert_eq!(coalescer.next_deadline(), Some(at));
                    }
                }
            }
            prop_assert!(published.windows(2).all(|pair| pair[1].since(pair[0]) >= PUBLISH_INTERVAL));
        }
    }
}
