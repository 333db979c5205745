//! Which node is reached over which connection.
//!
//! Owns the current link of each peer. Refuses to know when to dial: whoever does says what came up and went
//! down.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use arw_kit::clock::Clock;
use parking_lot::Mutex;
use quinn::Connection;
use tokio::runtime::Handle;

use super::exports::Exports;
use super::handle::RemoteHandle;
use super::link::{ControlOut, Link};
use super::protocol::NodeDown;
use crate::identity::NodeId;
use crate::lanes::LaneOptions;

/// Limits of each connection.
#[derive(Clone, Copy, Debug)]
pub struct RemoteOptions {
    /// Its lanes.
    pub lanes: LaneOptions,
    /// Asks that wait for their answers. Each takes some hundred bytes.
    pub open_calls_max: usize,
    /// Actors that one side watches on the other.
    pub watches_max: usize,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self { lanes: LaneOptions::default(), open_calls_max: 16 * 1024, watches_max: 1024 }
    }
}

/// A connection whose two ends have accepted each other.
pub struct PeerUp {
    /// The node at the other end.
    pub node: NodeId,
    /// Which start of that node.
    pub incarnation: u64,
    /// The connection.
    pub connection: Connection,
    /// Its control stream.
    pub control: Arc<dyn ControlOut>,
    /// Where the connection's tasks run.
    pub runtime: Handle,
}

impl fmt::Debug for PeerUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerUp({}#{})", self.node.short(), self.incarnation)
    }
}

/// All peers of one node.
pub struct Links {
    own: Own,
    peers: Mutex<HashMap<NodeId, Arc<Peer>>>,
}

/// What all links of a node share.
pub(super) struct Own {
    pub(super) incarnation: u64,
    pub(super) clock: Clock,
    pub(super) exports: Arc<Exports>,
    pub(super) options: RemoteOptions,
}

/// One peer, over all its connections.
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// Read for each message, without a lock; changed under that of [`Links`].
    link: ArcSwapOption<Link>,
    latest_incarnation: AtomicU64,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("exports", &self.own.exports).finish_non_exhaustive()
    }
}

impl Links {
    /// No peers yet.
    #[must_use]
    pub fn new(incarnation: u64, clock: Clock, exports: Arc<Exports>, options: RemoteOptions) -> Self {
        let own = Own { incarnation, clock, exports, options };
        Self { own, peers: Mutex::default() }
    }

    /// The actors that this node offers.
    #[must_use]
    pub fn exports(&self) -> &Arc<Exports> {
        &self.own.exports
    }

    /// A connection is up. It takes the place of an earlier one to the same node, which ends for its users.
    pub fn peer_up(&self, up: PeerUp) -> Arc<Link> {
        let (node, incarnation) = (up.node, up.incarnation);
        let connection = up.connection.clone();
        let link = Link::new(up, &self.own);
        let old = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(node).or_insert_with(|| Arc::new(Peer::new(node)));
            peer.latest_incarnation.fetch_max(incarnation, Ordering::AcqRel);
            peer.link.swap(Some(Arc::clone(&link)))
        };
        if let Some(old) = old {
            old.fail();
        }
        link.watch_connection(connection);
        link
    }

    /// The connection to this start of a node is down. Whoever waits on it is told.
    pub fn peer_down(&self, node: NodeId, incarnation: u64) {
        let mut peers = self.peers.lock();
        let Some(peer) = peers.get(&node) else { return };
        let is_current = peer.link.load().as_ref().is_some_and(|link| link.incarnation() == incarnation);
        let down = if is_current { peer.link.swap(None) } else { None };
        // A peer that somebody still has a handle of is remembered: its latest start matters to them.
        if Arc::strong_count(peer) == 1 && peer.link.load().is_none() {
            peers.remove(&node);
        }
        drop(peers);
        if let Some(down) = down {
            down.fail();
        }
    }

    /// The current link to `node`.
    #[must_use]
    pub fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        let peers = self.peers.lock();
        peers.get(&node)?.link.load_full()
    }

    #[cfg(test)]
    pub(super) fn peer_count(&self) -> usize {
        self.peers.lock().len()
    }

    /// The handle of the actor that `node` offers under `name`, bound to the node's current start.
    ///
    /// # Errors
    /// [`NodeDown::NotConnected`]. Whether there is such an actor shows when it is used.
    pub fn handle(&self, node: NodeId, name: &str) -> Result<RemoteHandle, NodeDown> {
        let peers = self.peers.lock();
        let peer = peers.get(&node).ok_or(NodeDown::NotConnected)?;
        let incarnation = peer.incarnation()?;
        Ok(RemoteHandle::new(Arc::clone(peer), incarnation, name))
    }
}

impl Peer {
    fn new(id: NodeId) -> Self {
        Self { id, link: ArcSwapOption::empty(), latest_incarnation: AtomicU64::new(0) }
    }

    /// The start of the node that is connected now.
    pub(super) fn incarnation(&self) -> Result<u64, NodeDown> {
        match &*self.link.load() {
            Some(link) if !link.is_down() => Ok(link.incarnation()),
            Some(_) | None => Err(NodeDown::NotConnected),
        }
    }

    /// The link to this start of the node, to keep.
    pub(super) fn link(&self, bound: u64) -> Result<Arc<Link>, NodeDown> {
        self.with_link(bound, Arc::clone)
    }

    /// What `work` makes of the link to this start of the node.
    #[inline]
    pub(super) fn with_link<T>(&self, bound: u64, work: impl FnOnce(&Arc<Link>) -> T) -> Result<T, NodeDown> {
        let link = self.link.load();
        // LANE-13: a handle never reaches another start than the one it is bound to.
        let now = self.latest_incarnation.load(Ordering::Acquire);
        if now > bound {
            return Err(NodeDown::Restarted { bound, now });
        }
        match &*link {
            Some(link) if !link.is_down() && link.incarnation() == bound => Ok(work(link)),
            Some(_) | None => Err(NodeDown::NotConnected),
        }
    }

    /// Why a connection to this start ended, as far as is known now.
    pub(super) fn why_down(&self, bound: u64) -> NodeDown {
        let now = self.latest_incarnation.load(Ordering::Acquire);
        if now > bound { NodeDown::Restarted { bound, now } } else { NodeDown::ConnectionLost }
    }
}
