//! What this node does of its own accord: it moves, leaves, and stops.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use arw_kit::moment::Moment;

use super::{Core, Session};
use crate::handshake::DialSide;
use crate::identity::NodeId;
use crate::wire::{CloseCode, GoodbyeReason};

impl Core {
    /// The node is reachable elsewhere. Connections that peers dialed cannot follow: QUIC lets only the
    /// dialer move.
    pub(crate) fn begin_move(&mut self, now: Moment) {
        let dialed = |session: &&Session| session.dialed_by == DialSide::Peer;
        let nodes: Vec<NodeId> =
            self.sessions.values().filter(dialed).map(|session| session.peer.id).collect();
        for node in nodes {
            self.end_session(now, node, CloseCode::Goodbye(GoodbyeReason::Moving));
        }
    }

    pub(crate) fn set_own_addresses(&mut self, addresses: BTreeSet<SocketAddr>) {
        self.own_addresses = addresses;
    }

    pub(crate) fn change_address(&mut self, now: Moment, advertised: SocketAddr) {
        self.membership.change_address(now, advertised);
    }

    /// MEMBER-7: the node leaves for good.
    pub(crate) fn leave(&mut self, now: Moment) {
        self.is_stopping = true;
        self.membership.leave(now);
    }

    /// Every connection ends.
    pub(crate) fn stop(&mut self, now: Moment, reason: GoodbyeReason) {
        self.is_stopping = true;
        let nodes: Vec<NodeId> = self.sessions.keys().copied().collect();
        for node in nodes {
            self.end_session(now, node, CloseCode::Goodbye(reason));
        }
    }
}
