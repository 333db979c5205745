//! How fast this node takes part.
//!
//! A node whose timers are late reads answers late too, takes those who gave them for silent, and what it
//! tells of them costs everybody work: on a machine with too much to do that feeds itself. So it probes more
//! rarely and gives more time, as Lifeguard has it for SWIM. For the same reason news that never ends travels
//! at a slower pace than news that comes alone. Owns both; refuses to know what the protocol does with them.

use std::time::Duration;

use arw_kit::moment::Moment;

use super::config::{GOSSIP_PERIOD, GOSSIP_PERIOD_LASTING, GOSSIP_ROUNDS_QUICK};

/// A probe that begins later than this was held up: it is a fifth of a period.
const LATE: Duration = Duration::from_millis(50);

/// The slowest pace: a period of 2 s. Where others are not late they find out before; where all are, a death
/// may take half a minute.
const FACTOR_MAX: u32 = 8;

/// Suspects get at most so much more time: 4.8 s, in which they are told 24 times.
const VERDICT_FACTOR_MAX: u32 = 4;

/// The pace of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    factor: u32,
    rounds: u32,
    refilled_at: Moment,
}

impl Default for Pace {
    fn default() -> Self {
        Self { factor: 1, rounds: GOSSIP_ROUNDS_QUICK, refilled_at: Moment::ZERO }
    }
}

impl Pace {
    /// MEMBER-20: a probe began so much later than it was due. Each late one doubles the factor, each one in
    /// time takes one off.
    pub(super) fn note_probe(&mut self, late: Duration) {
        self.factor = if late > LATE { self.factor * 2 } else { self.factor - 1 }.clamp(1, FACTOR_MAX);
    }

    /// MEMBER-20: a time of the protocol, as this node takes it now.
    pub(super) fn stretch(self, span: Duration) -> Duration {
        span * self.factor
    }

    /// MEMBER-20: the time of a suspect, as this node gives it now.
    pub(super) fn stretch_verdict(self, span: Duration) -> Duration {
        span * self.factor.min(VERDICT_FACTOR_MAX)
    }

    /// Nobody is left to be probed, so nothing says any more that this node is late.
    pub(super) fn alone(&mut self) {
        self.factor = 1;
    }

    /// MEMBER-21: when the next round of gossip is, of which one is taken.
    pub(super) fn next_gossip(&mut self, now: Moment) -> Duration {
        let earned =
            now.since(self.refilled_at).as_millis() / self.stretch(GOSSIP_PERIOD_LASTING).as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.rounds = self.rounds.saturating_add(earned).min(GOSSIP_ROUNDS_QUICK);
            self.refilled_at = now;
        }
        let is_quick = self.rounds > 0;
        self.rounds = self.rounds.saturating_sub(1);
        self.stretch(if is_quick { GOSSIP_PERIOD } else { GOSSIP_PERIOD_LASTING })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_node_that_runs_late_takes_longer_and_recovers() {
        // MEMBER-20
        let mut pace = Pace::default();
        let factors = |pace: &mut Pace, late: u32, times: usize| -> Vec<u128> {
            let note = |_| {
                pace.note_probe(MILLI * late);
                pace.stretch(MILLI).as_millis()
            };
            (0..times).map(note).collect()
        };
        assert_eq!(factors(&mut pace, 50, 2), [1, 1], "the jitter of a busy machine");
        assert_eq!(factors(&mut pace, 51, 5), [2, 4, 8, 8, 8]);
        assert_eq!(factors(&mut pace, 0, 9), [7, 6, 5, 4, 3, 2, 1, 1, 1]);
    }

    #[test]
    fn news_that_comes_alone_is_quick_and_news_without_end_is_not() {
        // MEMBER-21
        let mut pace = Pace::default();
        let mut now = Moment::ZERO + Duration::from_secs(9);
        let mut rounds = |pace: &mut Pace, span: Duration| -> u32 {
            let end = now + span;
            let mut count = 0;
            while now < end {
                now = now + pace.next_gossip(now);
                count += 1;
            }
            count
        };
        let first = rounds(&mut pace, Duration::from_secs(1));
        assert!(first >= GOSSIP_ROUNDS_QUICK, "{first} in the first second");
        let later = rounds(&mut pace, Duration::from_secs(10));
        assert!(later <= 10_000 / 250 + 10_000 / 310, "{later} in ten more");
    }
}
