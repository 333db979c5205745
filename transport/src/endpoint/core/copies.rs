//! Two nodes with one key: a machine's image was copied with the state folder in it, and both run.
//!
//! Owns which start of each peer is known by its own hello, that this node says when it meets two of one
//! peer, and what it is told of itself. Which of two prevails is decided by the
//! [handshake](crate::handshake). Refuses to know what people are told.

use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::Core;
use crate::endpoint::events::EndpointEvent;
use crate::endpoint::picture::{CopyRow, Fence};
use crate::handshake::{Peer, Start};
use crate::identity::NodeId;

/// Who is turned away comes again after 30 s at most: one that has not come for so long was stopped.
const COPY_KEPT: Duration = Duration::from_secs(90);

/// Nodes of which more than one start was met, at most: an image that is copied to a whole hall makes one
/// node of many machines.
const COPIES_MAX: usize = 64;

/// Peers that told this node of another start of itself, at most: one is enough.
const TELLERS_MAX: usize = 16;

impl Core {
    /// A hello was good: this is the start of the peer from now on.
    pub(super) fn saw_start(&mut self, now: Moment, peer: &Peer, from: SocketAddr) {
        let start = peer.start();
        let before = self.starts.insert(peer.id, start);
        // Whoever takes this node as a peer has nothing against it any more.
        self.tellers.remove(&peer.id);
        let of_a_copy =
            before.is_some_and(|it| it.incarnation == start.incarnation && it.number != start.number);
        let old = self.sessions.get(&peer.id).map(|session| session.connection.remote_address());
        if of_a_copy {
            self.note_copy(now, peer.id, (from, old.unwrap_or(from)));
        }
    }

    /// The latest start of a peer that has said hello itself. What others tell of it is no proof of a copy.
    pub(super) fn start_of(&self, node: NodeId) -> Option<Start> {
        self.starts.get(&node).copied()
    }

    /// WIRE-25: a start of a peer was turned away. Where a later one is known by its own hello, two run: a
    /// start that is over says no hello. What others say of later starts proves none.
    pub(super) fn turned_away(&mut self, now: Moment, (node, start): (NodeId, Start), from: SocketAddr) {
        if self.start_of(node).is_none_or(|seen| seen <= start) {
            return;
        }
        let kept = self.where_is(node).unwrap_or(from);
        self.note_copy(now, node, (kept, from));
    }

    fn note_copy(&mut self, now: Moment, node: NodeId, (kept, refused): (SocketAddr, SocketAddr)) {
        let is_room = self.copies.len() < COPIES_MAX || self.copies.contains_key(&node);
        if !is_room {
            return;
        }
        let row = CopyRow { node, kept, refused };
        let before = self.copies.insert(node, (now, row));
        if before.is_none_or(|(_, before)| before != row) {
            self.events.push(EndpointEvent::Copied(row));
        }
    }

    /// Where a peer is by its connection, else by what is said of it.
    pub(crate) fn where_is(&self, node: NodeId) -> Option<SocketAddr> {
        let connected = self.sessions.get(&node).map(|session| session.connection.remote_address());
        connected.or_else(|| self.view.node(&node).map(|entry| entry.identity.address))
    }

    /// A peer does not take this node because of another start of it, which is at `elsewhere`. One bad peer
    /// may say so: as long as another one has a connection with this node, nothing follows from it.
    pub(crate) fn told_of_another_start(&mut self, by: NodeId, elsewhere: Option<SocketAddr>, is_copy: bool) {
        // It was removed, has left or is forgotten meanwhile.
        if !self.schedule.is_wanted(by) {
            return;
        }
        let fence = Fence { by, elsewhere, is_copy };
        if self.tellers.len() >= TELLERS_MAX && !self.tellers.contains_key(&by) {
            return;
        }
        let is_news = self.tellers.insert(by, fence) != Some(fence);
        if is_news && self.fence().is_some() {
            self.events.push(EndpointEvent::Outdated);
        }
    }

    /// A node is no member any more: its word of another start of this node does not count either.
    pub(super) fn forget_teller(&mut self, node: NodeId) {
        self.tellers.remove(&node);
    }

    /// The cluster knows a later start of this node. It is told once.
    pub(super) fn note_later_start(&mut self) {
        if !self.is_outdated {
            self.is_outdated = true;
            self.events.push(EndpointEvent::Outdated);
        }
    }

    /// WIRE-25: the cluster has another start of this node: this one is out of it until a person decides.
    pub(crate) fn fence(&self) -> Option<Fence> {
        let has_peers = self.sessions.values().any(|it| it.connection.wire().is_open());
        self.tellers.values().next().filter(|_| !has_peers).copied()
    }

    /// A node with this key is connected, and gave no sign that it is gone.
    pub(super) fn is_present(&self, node: NodeId) -> bool {
        self.sessions.get(&node).is_some_and(|it| it.connection.wire().is_open())
    }

    pub(super) fn forget_starts(&mut self, now: Moment) {
        self.copies.retain(|_, (seen, _)| now.since(*seen) < COPY_KEPT);
        let (view, sessions) = (&self.view, &self.sessions);
        self.starts.retain(|node, _| view.node(node).is_some() || sessions.contains_key(node));
    }

    pub(super) fn copies(&self) -> Vec<CopyRow> {
        self.copies.values().map(|(_, row)| *row).collect()
    }
}
