//! Peers whose life is doubted, although their connection stands.
//!
//! Owns when a doubt is settled: by an answer on the connection, or by its silence. What others say of a peer
//! ends no connection, because work lives and dies with it, and one member that lies could end them all.
//! Refuses to know connections.

use std::collections::BTreeMap;
use std::time::Duration;

use arw_kit::moment::Moment;

use crate::identity::NodeId;

/// WIRE-23: how long a doubted peer may take to answer: as long as a connection of a small cluster may be
/// silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Which connection: the node, and the number of its connection.
type Key = (NodeId, u64);

/// A peer that was asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) key: Key,
    /// What it had answered by then.
    pub(super) answered_before: u64,
    until: Moment,
}

/// All of them: at most one per peer.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: BTreeMap<NodeId, Doubt>,
}

impl Doubts {
    /// WIRE-23: a peer is doubted. `true`: it has to be asked; `false`: it is being asked already.
    pub(super) fn begin(&mut self, now: Moment, key: Key, answered_before: u64) -> bool {
        if self.open.get(&key.0).is_some_and(|doubt| doubt.key == key) {
            return false;
        }
        self.open.insert(key.0, Doubt { key, answered_before, until: now + ANSWER_WITHIN });
        true
    }

    /// The connection is over, whatever was asked on it.
    pub(super) fn end(&mut self, node: NodeId) {
        self.open.remove(&node);
    }

    /// The doubts whose time is over. They are none any more.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Doubt> {
        let due: Vec<Doubt> = self.open.values().filter(|doubt| doubt.until <= now).copied().collect();
        for doubt in &due {
            self.open.remove(&doubt.key.0);
        }
        due
    }

    /// When [`Doubts::due`] has something to say next.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.open.values().map(|doubt| doubt.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn ms(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_doubted_peer_is_asked_once_and_has_three_seconds() {
        // WIRE-23
        let mut doubts = Doubts::default();
        assert!(doubts.begin(ms(0), (node(1), 1), 7));
        assert!(!doubts.begin(ms(1_000), (node(1), 1), 8), "more doubt gives it no more time");
        assert!(doubts.begin(ms(1_000), (node(2), 2), 0));
        assert_eq!(doubts.next_deadline(), Some(ms(3_000)));
        assert_eq!(doubts.due(ms(2_999)), []);
        let due = doubts.due(ms(3_000));
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].key, due[0].answered_before), ((node(1), 1), 7));
        assert_eq!(doubts.next_deadline(), Some(ms(4_000)));
    }

    #[test]
    fn another_connection_to_the_same_peer_is_doubted_by_itself() {
        // WIRE-23
        let mut doubts = Doubts::default();
        assert!(doubts.begin(ms(0), (node(1), 1), 7));
        assert!(doubts.begin(ms(2_000), (node(1), 2), 0));
        assert_eq!(doubts.due(ms(4_999)), []);
        doubts.end(node(1));
        assert_eq!((doubts.due(ms(9_000)), doubts.next_deadline()), (Vec::new(), None));
    }
}
