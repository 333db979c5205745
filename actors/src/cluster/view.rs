//! What this node knows of the nodes of its cluster.
//!
//! Owns the picture: it folds news into one row for each node, tells what of it people should hear of, and
//! when a row changes by time alone. A decider. Refuses to know how news arrive, and who is right: membership
//! has judged already.
//!
//! A node is known from three sides, which come in any order: what membership says of it, the connection to
//! it, and its card. Each belongs to one start of the node, and only what belongs to its newest start is
//! shown.

mod known;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use self::known::{Known, Standing};
use super::card::NodeCard;
use super::news::{ClusterUpdate, Knowledge, MemberState, OwnPlace};
use super::picture::{At, ClusterRow, NodeRow, Picture, Totals};
use crate::ids::NodeId;

/// CLUSTER-6: as many other nodes as membership keeps at most.
pub const NODES_MAX: usize = 4_096;
/// CLUSTER-2: a node says at least every ten seconds how it is; who is silent for three times as long does
/// not do well.
pub const CARD_TTL: Duration = Duration::from_secs(30);

/// What does not change of this node while it runs.
#[derive(Clone, Debug)]
pub struct OwnNode {
    /// Its id.
    pub id: NodeId,
    /// What it calls itself.
    pub name: String,
    /// Which start of it this is.
    pub incarnation: u64,
    /// When that was.
    pub started_at: WallTime,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// This node is in a cluster now.
    Entered {
        /// Which.
        cluster: String,
        /// As what.
        roles: Vec<String>,
    },
    /// This node is in no cluster any more.
    Exited {
        /// In which it was.
        cluster: String,
        /// So many others are forgotten.
        nodes: usize,
    },
    /// Something is wrong with this node as a member.
    Warned {
        /// What, and what to do.
        warning: String,
    },
    /// Nothing is wrong with this node as a member any more.
    Cleared,
    /// Another node.
    Node(NodeChange),
}

/// What happened to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Which.
    pub node: NodeId,
    /// What it calls itself, as far as known.
    pub name: Option<String>,
    /// Which start of it.
    pub incarnation: u64,
    /// Where it is, as text.
    pub address: Option<String>,
    /// What happened.
    pub what: NodeChanged,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChanged {
    /// It was not known before.
    Joined,
    /// It is another start of a node that was known.
    Restarted,
    /// It is down.
    Down {
        /// Why.
        reason: Option<String>,
    },
    /// It is back in the same start.
    Returned {
        /// It was away for so long.
        after: Duration,
    },
    /// It runs twice.
    Copied {
        /// Where the one is that is taken for it.
        kept: SocketAddr,
        /// Where the other one is.
        other: SocketAddr,
    },
    /// It said good-bye.
    Left,
    /// It was taken out while it was a member.
    Removed,
    /// It was gone, and is no longer shown.
    Forgotten,
}

/// The picture as it grows.
#[derive(Debug)]
pub struct ClusterView {
    own: OwnNode,
    place: Option<OwnPlace>,
    nodes: BTreeMap<NodeId, Known>,
    refused: u64,
}

impl ClusterView {
    /// A node that knows only itself.
    #[must_use]
    pub fn new(own: OwnNode) -> Self {
        Self { own, place: None, nodes: BTreeMap::new(), refused: 0 }
    }

    /// Takes a fact in. `at` is when it was told. Returns what people should hear of.
    pub fn fold(&mut self, at: At, news: ClusterUpdate) -> Vec<ClusterChange> {
        match news {
            ClusterUpdate::Place(place) => self.enter(place),
            ClusterUpdate::Copies(copies) => self.copied(&copies),
            ClusterUpdate::Alone => self.exit().into_iter().collect(),
            ClusterUpdate::Forgotten { node } => self.forget(node).into_iter().collect(),
            ClusterUpdate::Member(member) => self.about(at, member.node, |known| known.member(at, member)),
            ClusterUpdate::Connected(contact) => {
                self.about(at, contact.node, |known| known.connected(at, contact))
            }
            ClusterUpdate::Disconnected { node, .. } if self.nodes.contains_key(&node) => {
                self.about(at, node, Known::disconnected)
            }
            ClusterUpdate::Disconnected { .. } => Vec::new(),
            ClusterUpdate::Measured { node, rtt, last_seen } => {
                self.about(at, node, |known| known.measured(at, rtt, last_seen))
            }
            ClusterUpdate::Card { node, incarnation, card } => {
                self.about(at, node, |known| known.card(at, incarnation, card))
            }
        }
    }

    fn enter(&mut self, place: OwnPlace) -> Vec<ClusterChange> {
        let before = self.place.take().filter(|before| before.cluster == place.cluster);
        let mut changes = Vec::new();
        if before.is_none() {
            let (cluster, roles) = (place.cluster.clone(), place.roles.clone());
            changes.push(ClusterChange::Entered { cluster, roles });
        }
        let warned = before.map(|before| before.warnings).unwrap_or_default();
        let new = place.warnings.iter().filter(|warning| !warned.contains(warning));
        changes.extend(new.map(|warning| ClusterChange::Warned { warning: warning.clone() }));
        if place.warnings.is_empty() && !warned.is_empty() {
            changes.push(ClusterChange::Cleared);
        }
        self.place = Some(place);
        changes
    }

    fn copied(&mut self, copies: &[(NodeId, SocketAddr, SocketAddr)]) -> Vec<ClusterChange> {
        let mut changes = Vec::new();
        for (node, known) in &mut self.nodes {
            let copy =
                copies.iter().find(|(copied, ..)| copied == node).map(|(_, kept, other)| (*kept, *other));
            if known.copy == copy {
                continue;
            }
            known.copy = copy;
            if let (Some((kept, other)), Some(standing)) = (copy, known.standing()) {
                let what = NodeChanged::Copied { kept, other };
                changes.push(ClusterChange::Node(known.change(*node, &standing, what)));
            }
        }
        changes
    }

    fn exit(&mut self) -> Option<ClusterChange> {
        let nodes = self.nodes.values().filter(|known| known.standing().is_some()).count();
        self.nodes.clear();
        self.place.take().map(|place| ClusterChange::Exited { cluster: place.cluster, nodes })
    }

    fn about(&mut self, at: At, node: NodeId, tell: impl FnOnce(&mut Known)) -> Vec<ClusterChange> {
        // This node knows itself better than anybody who speaks of it.
        if node == self.own.id || !self.has_room(node) {
            return Vec::new();
        }
        let known = self.nodes.entry(node).or_default();
        let before = known.standing();
        tell(known);
        known.touched = at.now;
        let after = known.standing();
        let what = changed(at.now, known.told, before.as_ref(), after.as_ref());
        let standing = after.or(before);
        if let Some(standing) = &standing {
            known.told = known.told.max(standing.incarnation);
        }
        what.zip(standing)
            .map(|(what, standing)| ClusterChange::Node(known.change(node, &standing, what)))
            .into_iter()
            .collect()
    }

    /// CLUSTER-6.
    fn has_room(&mut self, node: NodeId) -> bool {
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node) {
            return true;
        }
        // Of whom there is only hearsay so far makes room.
        let hearsay = self.nodes.iter().find(|(_, known)| known.standing().is_none()).map(|(node, _)| *node);
        self.refused += 1;
        hearsay.is_some_and(|hearsay| self.nodes.remove(&hearsay).is_some())
    }

    fn forget(&mut self, node: NodeId) -> Option<ClusterChange> {
        let known = self.nodes.get_mut(&node)?;
        let standing = known.standing();
        if known.forget_member() {
            // There is a connection to a newer start of it: that one is not meant.
            return None;
        }
        let known = self.nodes.remove(&node)?;
        let standing = standing?;
        // CLUSTER-3.
        let what = if standing.state.is_alive() { NodeChanged::Removed } else { NodeChanged::Forgotten };
        Some(ClusterChange::Node(known.change(node, &standing, what)))
    }

    /// Gives up hearsay that has not become more in the meantime: a card whose node nobody has named, for
    /// example.
    pub fn expire(&mut self, now: Moment) {
        self.nodes.retain(|_, known| known.standing().is_some() || now.since(known.touched) < CARD_TTL);
    }

    /// When a row changes without any news.
    #[must_use]
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        self.nodes.values().filter_map(|known| known.next_deadline(now)).min()
    }

    /// Everything as it is at this time. `own` is this node's newest card.
    #[must_use]
    pub fn picture(&self, now: Moment, own: &Arc<NodeCard>) -> Picture {
        let others = self.nodes.iter().filter_map(|(node, known)| known.row(*node, now));
        let mut nodes: Vec<NodeRow> = others.chain([self.own_row(own)]).collect();
        nodes.sort_by_cached_key(|row| (row.name.is_none(), row.name.clone(), row.node));
        Picture {
            cluster: self.place.as_ref().map(|place| ClusterRow {
                id: place.cluster.clone(),
                is_issuer: place.is_issuer,
                address: place.address,
                address_by: place.address_by.clone(),
                warnings: place.warnings.clone(),
                certificate_until: place.certificate_until,
            }),
            home: self.place.as_ref().map(|place| place.issuer),
            totals: Totals::of(&nodes),
            refused: self.refused,
            nodes,
        }
    }

    fn own_row(&self, card: &Arc<NodeCard>) -> NodeRow {
        NodeRow {
            node: self.own.id,
            name: Some(self.own.name.clone()),
            roles: self.place.as_ref().map(|place| place.roles.clone()).unwrap_or_default(),
            state: MemberState::Up,
            since: self.own.started_at,
            reason: None,
            incarnation: self.own.incarnation,
            address: self.place.as_ref().map(|place| place.address),
            is_connected: true,
            is_draining: card.is_draining,
            health: card.health.clone(),
            card: Some(Arc::clone(card)),
            stale_since: None,
            rtt: None,
            last_seen: Duration::ZERO,
            last_seen_at: None,
            source: Knowledge::Own,
        }
    }
}

/// CLUSTER-3: what people should hear of when a node that stood like `before` stands like `after`. `told` is
/// the newest start that they have heard of.
fn changed(
    now: Moment,
    told: u64,
    before: Option<&Standing>,
    after: Option<&Standing>,
) -> Option<NodeChanged> {
    let Some(after) = after else {
        // Its connection has ended, and it never was a member.
        return before.map(|_| NodeChanged::Forgotten);
    };
    let is_newer = before.is_some() && after.incarnation > told;
    let same_state = before.is_some_and(|before| before.state == after.state);
    let was_alive = before.is_some_and(|before| before.state.is_alive());
    match after.state {
        MemberState::Up | MemberState::Suspect => match before {
            None => Some(NodeChanged::Joined),
            Some(_) if is_newer => Some(NodeChanged::Restarted),
            Some(_) if was_alive => None,
            Some(before) => Some(NodeChanged::Returned { after: now.since(before.since.now) }),
        },
        MemberState::Down | MemberState::Left if same_state && !is_newer => None,
        MemberState::Down => Some(NodeChanged::Down { reason: after.reason.clone() }),
        MemberState::Left => Some(NodeChanged::Left),
    }
}
