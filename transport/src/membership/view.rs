//! The picture of the cluster: every node that was ever a member, until it is forgotten.
//!
//! ```text
//! unknown ── up ⇄ suspect ── down ── forgotten        left counts as down, with its own reason
//!             ▲                │
//!             └── Returned, Restarted
//! ```
//!
//! Owns what is said about a node: its state, since when and why. Refuses to know the protocol that finds it
//! out, and whatever else is known of a node (its card, its load).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::config::MembershipConfig;
use super::event::{DownReason, MembershipEvent};
use super::identity::MemberIdentity;
use crate::identity::NodeId;

/// What a node is, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// A member.
    Up,
    /// A member that does not answer.
    Suspect,
    /// Gone without a word.
    Down,
    /// Gone after a good-bye.
    Left,
}

/// What the picture shows of one node.
#[derive(Clone, Copy, Debug)]
pub struct NodeEntry {
    /// The newest identity in which it was seen.
    pub identity: MemberIdentity,
    /// What it is.
    pub state: NodeState,
    /// Since when it is that.
    pub since: Moment,
    /// Why it is down; `None` while it is up or suspected.
    pub reason: Option<DownReason>,
    /// When it last gave a sign of life: a datagram to this node, or news from another that it is up.
    pub last_seen: Moment,
}

/// A change of the picture that others act on.
#[derive(Clone, Copy, Debug)]
pub enum ViewChange {
    /// A node that was unknown.
    Joined {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// Another start of a known node: whatever belonged to the old one is gone, whether or not it was seen
    /// going.
    Restarted {
        /// The start so far.
        before: MemberIdentity,
        /// The start from now on.
        after: MemberIdentity,
    },
    /// A node that was down is back in the same incarnation: nothing of it has been lost.
    Returned {
        /// Which life of it.
        member: MemberIdentity,
        /// How long it was down.
        away: Duration,
    },
    /// A node does not answer.
    Suspected {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// A suspect has spoken up.
    Cleared {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// A node is reachable elsewhere.
    Moved {
        /// Which life of it.
        member: MemberIdentity,
        /// Its address so far.
        from: SocketAddr,
    },
    /// A node is gone.
    WentDown {
        /// Which life of it.
        member: MemberIdentity,
        /// Why.
        reason: DownReason,
    },
    /// A node that was down is no longer shown.
    Forgotten {
        /// Its last life.
        member: MemberIdentity,
        /// Why.
        because: ForgetReason,
    },
    /// A node is a member but cannot be shown: there are too many. Counted in [`MembershipView::refused`].
    Refused {
        /// Which life of it.
        member: MemberIdentity,
    },
}

/// Why a node is no longer shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetReason {
    /// It was down for as long as such nodes are kept.
    Retention,
    /// A node that is up needed its place.
    Room,
}

/// The picture. Feed it every [`MembershipEvent`], in order.
///
/// ```
/// use arw_transport::identity::NodeId;
/// use arw_kit::moment::Moment;
/// use arw_transport::membership::*;
/// let node = |byte| MemberIdentity::new(NodeId::from_bytes([byte; 32]), ([127, 0, 0, 1], 7000).into(), 1);
/// let mut view = MembershipView::new(Moment::ZERO, node(1), MembershipConfig::default());
/// let up = MembershipEvent::MemberUp { member: node(2) };
/// assert!(matches!(view.apply(Moment::ZERO, &up)[..], [ViewChange::Joined { .. }]));
/// assert_eq!(view.nodes().count(), 2); // this node is in it too
/// ```
#[derive(Debug)]
pub struct MembershipView {
    own: NodeId,
    config: MembershipConfig,
    nodes: BTreeMap<NodeId, NodeEntry>,
    /// When each node that is down will be forgotten.
    expiries: BTreeSet<(Moment, NodeId)>,
    stale: u64,
    refused: u64,
}

impl MembershipView {
    /// The picture of a node alone.
    #[must_use]
    pub fn new(now: Moment, own: MemberIdentity, config: MembershipConfig) -> Self {
        let entry =
            NodeEntry { identity: own, state: NodeState::Up, since: now, reason: None, last_seen: now };
        Self {
            own: own.id,
            config,
            nodes: BTreeMap::from([(own.id, entry)]),
            expiries: BTreeSet::new(),
            stale: 0,
            refused: 0,
        }
    }

    /// Takes in what the protocol found out. What is older than the picture changes nothing and is counted.
    pub fn apply(&mut self, now: Moment, event: &MembershipEvent) -> Vec<ViewChange> {
        match *event {
            MembershipEvent::MemberUp { member } => self.member_up(now, member),
            MembershipEvent::MemberSuspect { member } => {
                self.suspicion(now, member, NodeState::Suspect).into_iter().collect()
            }
            MembershipEvent::MemberCleared { member } => {
                self.suspicion(now, member, NodeState::Up).into_iter().collect()
            }
            MembershipEvent::MemberDown { member, reason } => {
                self.member_down(now, member, reason).into_iter().collect()
            }
            MembershipEvent::Renamed { after, .. } => self.renamed(now, after).into_iter().collect(),
            MembershipEvent::Rejoined { own } => self.renamed(now, own).into_iter().collect(),
            MembershipEvent::Introduced { .. }
            | MembershipEvent::SelfRefuted
            | MembershipEvent::Outdated { .. } => Vec::new(),
        }
    }

    fn member_up(&mut self, now: Moment, member: MemberIdentity) -> Vec<ViewChange> {
        let Some(entry) = self.nodes.get_mut(&member.id) else { return self.join(now, member) };
        let before = entry.identity;
        // MEMBER-13: an older life never comes back.
        if member.age_order(&before) == Ordering::Less {
            self.stale += 1;
            return Vec::new();
        }
        let was_down = matches!(entry.state, NodeState::Down | NodeState::Left);
        let away = now.since(entry.since);
        let moved =
            (before.address != member.address).then_some(ViewChange::Moved { member, from: before.address });
        let is_restart = member.incarnation > before.incarnation;
        if was_down {
            self.expiries.remove(&(entry.since + self.config.retention, member.id));
        }
        let since = if was_down || is_restart { now } else { entry.since };
        *entry = NodeEntry { identity: member, state: NodeState::Up, since, reason: None, last_seen: now };
        // MEMBER-14: the incarnation tells a restart from a return.
        let change = if is_restart {
            Some(ViewChange::Restarted { before, after: member })
        } else if was_down {
            Some(ViewChange::Returned { member, away })
        } else {
            None
        };
        // Where it is follows from `Restarted` itself.
        let moved = moved.filter(|_| !is_restart);
        change.into_iter().chain(moved).collect()
    }

    fn join(&mut self, now: Moment, member: MemberIdentity) -> Vec<ViewChange> {
        let mut changes = Vec::new();
        if self.nodes.len() > self.config.members_max {
            // MEMBER-10: who has been down for longest makes room; who is up never does.
            let Some((_, oldest)) = self.expiries.pop_first() else {
                self.refused += 1;
                return vec![ViewChange::Refused { member }];
            };
            changes.extend(self.forget(oldest, ForgetReason::Room));
        }
        let entry =
            NodeEntry { identity: member, state: NodeState::Up, since: now, reason: None, last_seen: now };
        self.nodes.insert(member.id, entry);
        changes.push(ViewChange::Joined { member });
        changes
    }

    fn suspicion(&mut self, now: Moment, member: MemberIdentity, state: NodeState) -> Option<ViewChange> {
        let entry = self.nodes.get_mut(&member.id)?;
        let is_member = matches!(entry.state, NodeState::Up | NodeState::Suspect);
        if !is_member || entry.identity != member {
            self.stale += 1;
            return None;
        }
        if entry.state == state {
            return None;
        }
        entry.state = state;
        entry.since = now;
        if state == NodeState::Up {
            entry.last_seen = now;
            Some(ViewChange::Cleared { member })
        } else {
            Some(ViewChange::Suspected { member })
        }
    }

    fn member_down(&mut self, now: Moment, member: MemberIdentity, reason: DownReason) -> Option<ViewChange> {
        let entry = self.nodes.get_mut(&member.id)?;
        let is_member = matches!(entry.state, NodeState::Up | NodeState::Suspect);
        if !is_member || member.id == self.own || member.age_order(&entry.identity) == Ordering::Less {
            self.stale += 1;
            return None;
        }
        let state = match reason {
            DownReason::Left => NodeState::Left,
            DownReason::Unreachable | DownReason::Reported => NodeState::Down,
        };
        *entry = NodeEntry {
            identity: member,
            state,
            since: now,
            reason: Some(reason),
            last_seen: entry.last_seen,
        };
        self.expiries.insert((now + self.config.retention, member.id));
        Some(ViewChange::WentDown { member, reason })
    }

    /// A node that is down stays in its last life until `MemberUp` says that it is back.
    fn renamed(&mut self, now: Moment, after: MemberIdentity) -> Option<ViewChange> {
        let entry = self.nodes.get(&after.id)?;
        match entry.state {
            NodeState::Up | NodeState::Suspect => {}
            NodeState::Down | NodeState::Left => return None,
        }
        let was_suspect = entry.state == NodeState::Suspect;
        let changes = self.member_up(now, after);
        match changes.first() {
            Some(change) => Some(*change),
            // A new renewal clears a suspicion, which was about the old one.
            None => was_suspect.then_some(ViewChange::Cleared { member: after }),
        }
    }

    /// A datagram from `node` was accepted: it lives.
    pub fn heard(&mut self, now: Moment, node: &NodeId) {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.last_seen = now;
        }
    }

    /// MEMBER-15: forgets who has been down for the retention time, and says so.
    pub fn on_timer(&mut self, now: Moment) -> Vec<ViewChange> {
        let mut changes = Vec::new();
        while let Some((_, node)) = self.expiries.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.expiries.pop_first();
            changes.extend(self.forget(node, ForgetReason::Retention));
        }
        changes
    }

    fn forget(&mut self, node: NodeId, because: ForgetReason) -> Option<ViewChange> {
        let entry = self.nodes.remove(&node)?;
        Some(ViewChange::Forgotten { member: entry.identity, because })
    }

    /// When [`MembershipView::on_timer`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.expiries.first().map(|(deadline, _)| *deadline)
    }

    /// All nodes that are shown, this one included, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values()
    }

    /// What is shown of `node`.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> Option<&NodeEntry> {
        self.nodes.get(node)
    }

    /// Events that were older than the picture.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Members that could not be shown because there were too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
