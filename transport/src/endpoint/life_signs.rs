//! How often a connection with nothing to say gives a sign of life, and how long it may be silent.
//!
//! Owns both times, by how many peers a node has. QUIC fixes them when a connection begins: each side brings
//! its own, the shorter silence holds for both, and whoever brought it gives the signs that it asks for.
//! Refuses to know who is alive: that is membership's.

use std::time::Duration;

/// WIRE-22: signs of life that a node gives per second, to all peers together. One costs both ends some 20
/// µs, with its answer: of 16 nobody notices anything, and 200 nodes in one process would need more than two
/// cores for one per second and connection.
const PER_SECOND: u32 = 16;

/// With few peers each gets one per second, and a crash is known after three.
const EVERY_LEAST: Duration = Duration::from_secs(1);

/// Routers with address translation forget a connection that says nothing for half a minute.
const EVERY_MOST: Duration = Duration::from_secs(12);

/// Signs that may be lost in a row.
const LOST_MAX: u32 = 3;

/// The life signs of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LifeSigns {
    /// Who dialed gives one after so much silence.
    pub(super) every: Duration,
    /// The connection is over after so much silence.
    pub(super) silence_max: Duration,
}

impl LifeSigns {
    /// WIRE-22: of a connection that begins while this node has so many peers, or wants them.
    pub(super) fn for_peers(peers: usize) -> Self {
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        let every =
            (Duration::from_secs(1).saturating_mul(peers) / PER_SECOND).clamp(EVERY_LEAST, EVERY_MOST);
        Self { every, silence_max: every * LOST_MAX }
    }

    /// Who was dialed speaks only when the other has missed its turn: an answer is a sign of life too, so one
    /// side's are enough for both.
    pub(super) fn every_when_dialed(self) -> Duration {
        self.every * 5 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_peers_get_a_sign_per_second_and_many_share_what_a_node_gives() {
        // WIRE-22
        let every = |peers| LifeSigns::for_peers(peers).every.as_millis();
        assert_eq!([0, 1, 16].map(every), [1_000; 3]);
        assert_eq!([24, 32, 100, 192].map(every), [1_500, 2_000, 6_250, 12_000]);
        assert_eq!([199, 1_000, usize::MAX].map(every), [12_000; 3]);
    }

    #[test]
    fn two_signs_of_either_side_may_be_lost() {
        // WIRE-22
        for peers in [0, 1, 50, 199, 5_000] {
            let signs = LifeSigns::for_peers(peers);
            assert!(signs.every < signs.every_when_dialed());
            assert!(signs.every_when_dialed() * 2 < signs.silence_max);
        }
        assert_eq!(LifeSigns::for_peers(4).silence_max, Duration::from_secs(3));
    }
}
