//! What this node has other nodes do at the moment.
//!
//! Owns the counts: a node's card is some hundred milliseconds old, in which a burst of requests would all go
//! to the same host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arw_actors::cluster::ModelHost;
use arw_actors::ids::NodeId;

/// Requests of this node that other nodes work on, by runtime. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    counts: Arc<Mutex<HashMap<(NodeId, String), u32>>>,
}

/// One of them, while it lives.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Shares,
    key: (NodeId, String),
}

impl Shares {
    /// How many this host has.
    pub(crate) fn of(&self, host: &ModelHost) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(host.node, host.runtime.clone())).copied().unwrap_or(0)
    }

    /// This host gets one more.
    pub(crate) fn take(&self, host: &ModelHost) -> Share {
        let key = (host.node, host.runtime.clone());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key.clone()).or_default() += 1;
        Share { shares: self.clone(), key }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                // What is gone leaves nothing behind.
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_while_it_lives_and_leaves_nothing_behind() {
        let host = ModelHost {
            node: NodeId::from_bytes([1; 32]),
            node_name: "box".to_owned(),
            runtime: "r1".to_owned(),
            model: "smol".to_owned(),
            state: "ready".to_owned(),
            context_length: None,
            busy: 0,
        };
        let shares = Shares::default();
        let (one, two) = (shares.take(&host), shares.take(&host));
        assert_eq!(shares.of(&host), 2);
        drop(one);
        assert_eq!(shares.of(&host), 1);
        drop(two);
        assert_eq!((shares.of(&host), shares.counts.lock().unwrap().len()), (0, 0));
    }
}
