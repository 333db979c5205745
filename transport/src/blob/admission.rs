//! How many blobs a node sends at once.
//!
//! Owns the counts and the limits with their reasons. Refuses to know what is sent.

use std::collections::HashMap;
use std::time::Duration;

use super::STALL_WITHIN;
use crate::identity::NodeId;

/// How much a [`BlobServer`](super::BlobServer) does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Blobs that it sends at once. Each takes up to 768 KiB of memory, what QUIC keeps until it is
    /// acknowledged not counted, and a thread now and then.
    pub transfers_max: usize,
    /// Blobs that it sends to one peer at once. Each takes one of the streams that the peer may open, so most
    /// of those are left for others, whatever blobs do.
    pub transfers_per_peer_max: usize,
    /// How long it waits for the peer to take the next 256 KiB, and for the source to give them.
    pub stall_within: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { transfers_max: 16, transfers_per_peer_max: 4, stall_within: STALL_WITHIN }
    }
}

/// Who is sent how many blobs.
///
/// Invariant: `total` is the sum of `per_peer`, which has no zeros.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ServeLimits,
    total: usize,
    per_peer: HashMap<NodeId, usize>,
}

impl Admission {
    pub(super) fn new(limits: ServeLimits) -> Self {
        Self { limits, total: 0, per_peer: HashMap::new() }
    }

    /// One more for `node`: whether there is room. What is admitted must be released.
    #[must_use]
    pub(super) fn admit(&mut self, node: NodeId) -> bool {
        // BLOB-3
        let of_peer = self.per_peer.get(&node).copied().unwrap_or_default();
        if self.total >= self.limits.transfers_max || of_peer >= self.limits.transfers_per_peer_max {
            return false;
        }
        self.total += 1;
        self.per_peer.insert(node, of_peer + 1);
        true
    }

    /// One less.
    pub(super) fn release(&mut self, node: NodeId) {
        let Some(of_peer) = self.per_peer.get_mut(&node) else { return };
        self.total -= 1;
        *of_peer -= 1;
        if *of_peer == 0 {
            self.per_peer.remove(&node);
        }
    }

    /// All that are sent now.
    pub(super) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    #[test]
    fn a_peer_has_its_share_and_all_together_have_theirs() {
        // BLOB-3
        let limits = ServeLimits { transfers_max: 3, transfers_per_peer_max: 2, ..ServeLimits::default() };
        let mut admission = Admission::new(limits);
        assert!(admission.admit(node(1)) && admission.admit(node(1)));
        assert!(!admission.admit(node(1)), "its own share is used up");
        assert!(admission.admit(node(2)));
        assert!(!admission.admit(node(3)), "all are used up");
        admission.release(node(1));
        assert!(admission.admit(node(3)));
    }

    proptest! {
        #[test]
        fn the_limits_hold_and_nothing_stays_behind(steps in prop::collection::vec((0..5_u8, any::<bool>()), 0..200)) {
            // BLOB-3
            let limits = ServeLimits { transfers_max: 6, transfers_per_peer_max: 3, ..ServeLimits::default() };
            let mut admission = Admission::new(limits);
            let mut running = Vec::new();
            for (peer, begins) in steps {
                if begins {
                    let of_peer = running.iter().filter(|other| **other == peer).count();
                    let has_room = running.len() < 6 && of_peer < 3;
                    prop_assert_eq!(admission.admit(node(peer)), has_room);
                    if has_room {
                        running.push(peer);
                    }
                } else if let Some(at) = running.iter().position(|other| *other == peer) {
                    running.swap_remove(at);
                    admission.release(node(peer));
                }
                prop_assert_eq!(admission.total(), running.len());
            }
            running.into_iter().for_each(|peer| admission.release(node(peer)));
            prop_assert_eq!(admission.total(), 0);
            prop_assert!(admission.per_peer.is_empty());
        }
    }
}
