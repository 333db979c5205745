//! News on their way from the transport to the actor of the cluster.
//!
//! Owns what may be thrown away when news come faster than they are read: of what a node measures and says of
//! itself only the newest counts; of everything else nothing is lost, and where memory demands it, only what
//! a later fact of the same kind has overtaken. Refuses to know what news mean.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use arw_kit::moment::Moment;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::card::NodeCard;
use super::news::ClusterUpdate;
use super::view::NODES_MAX;
use crate::ids::NodeId;

/// Four kinds of facts for each node that can be shown: when the queue is full of facts about fewer nodes,
/// some have been overtaken.
const FACTS_MAX: usize = 4 * NODES_MAX;

/// A queue that never makes the teller wait.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    queue: Mutex<Queue>,
    told: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    facts: VecDeque<ClusterUpdate>,
    cards: BTreeMap<NodeId, (u64, Box<NodeCard>)>,
    measured: BTreeMap<NodeId, (Duration, Moment)>,
    refused: u64,
}

impl Inlet {
    /// Takes a fact in. Never blocks, and never grows beyond its bound.
    pub(super) fn tell(&self, news: ClusterUpdate) {
        self.queue.lock().tell(news);
        self.told.notify_one();
    }

    /// Somebody shall look again, though there is nothing new from the transport.
    pub(super) fn wake(&self) {
        self.told.notify_one();
    }

    /// Resolves when there is something to take. Cancel-safe: what was told before is not missed.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// Everything told so far, in an order in which it may be read, and how many facts were refused since the
    /// start.
    pub(super) fn take(&self) -> (Vec<ClusterUpdate>, u64) {
        let mut queue = self.queue.lock();
        let refused = queue.refused;
        let taken = std::mem::take(&mut *queue);
        queue.refused = refused;
        drop(queue);
        (taken.into_news(), refused)
    }
}

impl Queue {
    fn tell(&mut self, news: ClusterUpdate) {
        match news {
            ClusterUpdate::Card { node, incarnation, card } => self.card(node, incarnation, card),
            ClusterUpdate::Measured { node, rtt, last_seen } => {
                if has_room(&self.measured, node) {
                    self.measured.insert(node, (rtt, last_seen));
                } else {
                    self.refused += 1;
                }
            }
            ClusterUpdate::Alone => {
                // Whatever was told of others before is forgotten with it.
                let refused = self.refused;
                *self = Self { refused, ..Self::default() };
                self.fact(ClusterUpdate::Alone);
            }
            ClusterUpdate::Forgotten { node } => {
                self.cards.remove(&node);
                self.measured.remove(&node);
                self.fact(news);
            }
            ClusterUpdate::Place(_)
            | ClusterUpdate::Copies(_)
            | ClusterUpdate::Member(_)
            | ClusterUpdate::Connected(_)
            | ClusterUpdate::Disconnected { .. } => self.fact(news),
        }
    }

    fn card(&mut self, node: NodeId, incarnation: u64, card: Box<NodeCard>) {
        if !has_room(&self.cards, node) {
            self.refused += 1;
            return;
        }
        let waiting = self.cards.get(&node).map_or(0, |(waiting, _)| *waiting);
        if incarnation >= waiting {
            self.cards.insert(node, (incarnation, card));
        }
    }

    fn fact(&mut self, news: ClusterUpdate) {
        if self.facts.len() >= FACTS_MAX {
            self.drop_overtaken();
        }
        // CLUSTER-6: full of facts about more nodes than can be shown.
        if self.facts.len() >= FACTS_MAX {
            self.refused += 1;
            return;
        }
        self.facts.push_back(news);
    }

    /// Keeps the last fact of each kind about each node, in the order of those.
    fn drop_overtaken(&mut self) {
        let mut newer = BTreeSet::new();
        let mut kept = VecDeque::new();
        while let Some(news) = self.facts.pop_back() {
            if newer.insert(kind(&news)) {
                kept.push_front(news);
            }
        }
        self.facts = kept;
    }

    fn into_news(self) -> Vec<ClusterUpdate> {
        let cards = self.cards.into_iter().map(|(node, (incarnation, card))| ClusterUpdate::Card {
            node,
            incarnation,
            card,
        });
        let measured = self.measured.into_iter().map(|(node, (rtt, last_seen))| ClusterUpdate::Measured {
            node,
            rtt,
            last_seen,
        });
        self.facts.into_iter().chain(cards).chain(measured).collect()
    }
}

fn has_room<T>(slots: &BTreeMap<NodeId, T>, node: NodeId) -> bool {
    slots.len() < NODES_MAX || slots.contains_key(&node)
}

/// Of two facts of one kind about one node the later holds.
fn kind(news: &ClusterUpdate) -> (u8, Option<NodeId>) {
    match news {
        ClusterUpdate::Place(_) | ClusterUpdate::Alone => (0, None),
        ClusterUpdate::Member(member) => (1, Some(member.node)),
        ClusterUpdate::Connected(contact) => (2, Some(contact.node)),
        ClusterUpdate::Disconnected { node, .. } => (2, Some(*node)),
        ClusterUpdate::Forgotten { node } => (3, Some(*node)),
        ClusterUpdate::Measured { node, .. } => (4, Some(*node)),
        ClusterUpdate::Card { node, .. } => (5, Some(*node)),
        ClusterUpdate::Copies(_) => (6, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn lost(number: u64, reason: &str) -> ClusterUpdate {
        ClusterUpdate::Disconnected { node: node(number), reason: reason.to_owned() }
    }

    fn card(number: u64, incarnation: u64, version: &str) -> ClusterUpdate {
        let card = Box::new(NodeCard { version: version.to_owned(), ..NodeCard::default() });
        ClusterUpdate::Card { node: node(number), incarnation, card }
    }

    #[test]
    fn of_cards_only_the_newest_waits_and_every_fact_does() {
        let inlet = Inlet::default();
        for news in [card(1, 2, "a"), lost(1, "x"), card(1, 2, "b"), card(1, 1, "old"), lost(1, "y")] {
            inlet.tell(news);
        }
        assert_eq!(inlet.take().0, [lost(1, "x"), lost(1, "y"), card(1, 2, "b")]);
        assert_eq!(inlet.take().0, []);
    }

    /// CLUSTER-6.
    #[test]
    fn a_reader_that_stands_still_costs_overtaken_facts_and_never_the_last_one() {
        let inlet = Inlet::default();
        let nodes = u64::try_from(NODES_MAX).unwrap();
        for round in ["first", "second", "last"] {
            for number in 0..nodes {
                inlet.tell(ClusterUpdate::Forgotten { node: node(number) });
                inlet.tell(lost(number, round));
            }
        }
        // One that cannot make up its mind costs nobody else anything.
        for _ in 0..2 * FACTS_MAX {
            inlet.tell(lost(nodes - 1, "again"));
        }
        let (news, refused) = inlet.take();
        assert_eq!(refused, 0);
        assert!(news.len() <= FACTS_MAX, "{}", news.len());
        let mut last = BTreeMap::new();
        for (place, news) in news.iter().enumerate() {
            last.insert(kind(news), (place, news));
        }
        for number in 0..nodes - 1 {
            let (forgotten, _) = last[&(3, Some(node(number)))];
            let (place, news) = last[&(2, Some(node(number)))];
            assert_eq!((news, forgotten < place), (&lost(number, "last"), true));
        }
    }

    /// CLUSTER-6.
    #[test]
    fn what_is_about_too_many_nodes_is_refused_and_counted() {
        let inlet = Inlet::default();
        let count = u64::try_from(FACTS_MAX).unwrap();
        for number in 0..count + 7 {
            inlet.tell(lost(number, "x"));
        }
        for number in 0..u64::try_from(NODES_MAX).unwrap() + 5 {
            inlet.tell(card(number, 1, "a"));
        }
        assert_eq!(inlet.take().1, 12);
    }

    #[test]
    fn leaving_the_cluster_overtakes_everything_told_before() {
        let inlet = Inlet::default();
        for news in [lost(1, "x"), card(1, 1, "a"), ClusterUpdate::Alone, lost(2, "y")] {
            inlet.tell(news);
        }
        assert_eq!(inlet.take().0, [ClusterUpdate::Alone, lost(2, "y")]);
    }
}
