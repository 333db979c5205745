//! What the endpoint tells its owner.
//!
//! Owns the queue between the two: bounded, and the network never waits for it. What does not fit is not
//! lost, because the endpoint can give its whole picture at any time: the owner is told that it missed
//! something. Refuses to know who listens.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::picture::CopyRow;
use super::services::PeerDownReason;
use crate::certificate::{SignedCertificate, SignedRevocation};
use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::membership::ViewChange;

/// Events that wait for the owner. A thousand nodes that come at once bring two each.
const WAITING_MAX: usize = 4_096;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum EndpointEvent {
    /// The picture of the cluster changed.
    Membership(ViewChange),
    /// A connection with a member stands.
    PeerUp {
        /// Who is there.
        peer: Peer,
        /// Where it is.
        address: SocketAddr,
    },
    /// It is over.
    PeerDown {
        /// Who was there.
        node: NodeId,
        /// Which start of it.
        incarnation: u64,
        /// Where it was.
        address: SocketAddr,
        /// Why it is over.
        reason: PeerDownReason,
    },
    /// A peer said something of itself. Of one peer only the newest waits.
    Card(PeerCard),
    /// This node has its next certificate: store it, the next start must show it.
    CertificateRenewed(SignedCertificate),
    /// A node was removed from the cluster: store this, the next start must know it.
    Revoked(SignedRevocation),
    /// This node was removed from the cluster. It can join again with a new token.
    Removed,
    /// The cluster knows another start of this node: its counter of starts went back, or it runs twice.
    Outdated,
    /// Two starts of a peer run.
    Copied(CopyRow),
    /// So many events did not fit: look at the whole picture.
    Missed {
        /// How many.
        count: u64,
    },
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCard {
    /// The peer.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: u64,
    /// The card.
    pub card: Bytes,
}

/// The owner's end of the queue.
#[derive(Debug)]
pub struct EndpointEvents {
    queue: Arc<EventQueue>,
}

impl EndpointEvents {
    pub(super) fn new(queue: Arc<EventQueue>) -> Self {
        Self { queue }
    }

    /// The next event; `None` when the endpoint has ended and all was told.
    pub async fn next(&mut self) -> Option<EndpointEvent> {
        loop {
            let changed = self.queue.changed.notified();
            match self.queue.take() {
                Taken::Event(event) => return Some(*event),
                Taken::Ended => return None,
                Taken::Nothing => changed.await,
            }
        }
    }
}

impl Drop for EndpointEvents {
    fn drop(&mut self) {
        self.queue.end();
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<EndpointEvent>,
    missed: u64,
    has_ended: bool,
}

enum Taken {
    Event(Box<EndpointEvent>),
    Nothing,
    Ended,
}

impl EventQueue {
    pub(super) fn push(&self, event: EndpointEvent) {
        let mut waiting = self.waiting.lock();
        if waiting.has_ended {
            return;
        }
        if let EndpointEvent::Card(card) = &event {
            let of_the_same = |waiting: &&mut EndpointEvent| matches!(waiting, EndpointEvent::Card(old) if old.node == card.node);
            if let Some(old) = waiting.events.iter_mut().find(of_the_same) {
                *old = event;
                return;
            }
        }
        if waiting.events.len() >= WAITING_MAX {
            // Whoever is so late learns all at once.
            waiting.missed += waiting.events.len() as u64;
            waiting.events.clear();
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.changed.notify_one();
    }

    /// No more comes.
    pub(super) fn end(&self) {
        self.waiting.lock().has_ended = true;
        self.changed.notify_one();
    }

    fn take(&self) -> Taken {
        let mut waiting = self.waiting.lock();
        if waiting.missed > 0 {
            let count = std::mem::take(&mut waiting.missed);
            return Taken::Event(Box::new(EndpointEvent::Missed { count }));
        }
        match waiting.events.pop_front() {
            Some(event) => Taken::Event(Box::new(event)),
            None if waiting.has_ended => Taken::Ended,
            None => Taken::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(node: u8, text: &'static str) -> EndpointEvent {
        let card = Bytes::from_static(text.as_bytes());
        EndpointEvent::Card(PeerCard { node: NodeId::from_bytes([node; 32]), incarnation: 1, card })
    }

    #[tokio::test]
    async fn of_one_peer_only_the_newest_card_waits() {
        let queue = Arc::new(EventQueue::default());
        let mut events = EndpointEvents::new(Arc::clone(&queue));
        for event in [card(1, "old"), card(2, "other"), card(1, "new")] {
            queue.push(event);
        }
        queue.end();
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            let EndpointEvent::Card(card) = event else { panic!("{event:?}") };
            seen.push(card.card);
        }
        assert_eq!(seen, ["new", "other"]);
    }

    #[tokio::test]
    async fn an_owner_that_is_late_is_told_that_it_missed_something() {
        let queue = Arc::new(EventQueue::default());
        let mut events = EndpointEvents::new(Arc::clone(&queue));
        for _ in 0..=WAITING_MAX {
            queue.push(EndpointEvent::Removed);
        }
        let EndpointEvent::Missed { count } = events.next().await.unwrap() else { panic!("not told") };
        assert_eq!(count, WAITING_MAX as u64);
        assert!(matches!(events.next().await, Some(EndpointEvent::Removed)), "what came after is there");
        queue.end();
        assert!(events.next().await.is_none());
    }
}
