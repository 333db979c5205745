//! The core as others see it.

use std::collections::BTreeMap;

use super::{Core, Session};
use crate::endpoint::counters::Counters;
use crate::endpoint::picture::{ConnectionRow, DialRow, PeerRow, Picture};
use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::membership::NodeEntry;

impl Core {
    pub(crate) fn picture(&self) -> Picture {
        Picture {
            own: self.membership.own(),
            nodes: self.view.nodes().copied().collect(),
            peers: self.peers(),
            cards: self.cards.values().cloned().collect(),
            certificate: self.signed,
            revocations: self.revoked.iter().copied().collect(),
            is_removed: self.is_removed,
            is_outdated: self.is_outdated || self.fence().is_some(),
            fence: self.fence(),
            copies: self.copies(),
        }
    }

    /// What membership shows of one node.
    pub(crate) fn node(&self, node: NodeId) -> Option<NodeEntry> {
        self.view.node(&node).copied()
    }

    pub(crate) fn peers(&self) -> Vec<PeerRow> {
        let empty = |node: NodeId| PeerRow { node, connection: None, dial: None };
        let mut rows: BTreeMap<NodeId, PeerRow> = BTreeMap::new();
        for (node, route) in self.schedule.routes() {
            rows.entry(*node).or_insert_with(|| empty(*node)).dial = Some(DialRow {
                addresses: route.addresses.clone(),
                failures: route.failures,
                last_failure: route.last_failure,
                next_at: route.next_at(),
            });
        }
        for (node, session) in &self.sessions {
            rows.entry(*node).or_insert_with(|| empty(*node)).connection = Some(row_of(session));
        }
        rows.into_values().collect()
    }

    pub(crate) fn counted(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.membership = self.membership.counters();
        counters
    }
}

fn row_of(session: &Session) -> ConnectionRow {
    let stats = session.connection.quinn().stats();
    ConnectionRow {
        peer: Peer::clone(&session.peer),
        address: session.connection.remote_address(),
        local: session.connection.quinn().local_ip(),
        dialed_by: session.dialed_by,
        since: session.since,
        rtt: stats.path.rtt,
        datagrams_sent: stats.udp_tx.datagrams,
        datagrams_received: stats.udp_rx.datagrams,
        bytes_sent: stats.udp_tx.bytes,
        bytes_received: stats.udp_rx.bytes,
        packets_lost: stats.path.lost_packets,
    }
}
