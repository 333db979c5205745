//! What a node learns of its cluster.
//!
//! Owns the facts as the transport tells them. Each is whole: told twice it changes nothing, and the newest
//! of two holds. Refuses to know what follows.

use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::card::NodeCard;
use crate::ids::NodeId;

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterUpdate {
    /// This node is a member, and this is its place.
    Place(OwnPlace),
    /// This node is in no cluster any more: everything known of others is forgotten.
    Alone,
    /// What membership says of another node.
    Member(MemberUpdate),
    /// Another node is no longer shown: it was down for as long as such nodes are kept, or was removed.
    Forgotten {
        /// Which.
        node: NodeId,
    },
    /// There is a connection to another node.
    Connected(Contact),
    /// There is none any more.
    Disconnected {
        /// To which node.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// What was measured on a connection.
    Measured {
        /// To which node.
        node: NodeId,
        /// There and back.
        rtt: Duration,
        /// When the node last gave a sign of life.
        last_seen: Moment,
    },
    /// The other nodes that run twice, each with where the one is that is taken for it, and where the other
    /// came from. Whoever is not named runs once.
    Copies(Vec<(NodeId, SocketAddr, SocketAddr)>),
    /// A node's card came.
    Card {
        /// Whose.
        node: NodeId,
        /// Of which start of it.
        incarnation: u64,
        /// The card.
        card: Box<NodeCard>,
    },
}

/// This node's place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPlace {
    /// The cluster's id, as text.
    pub cluster: String,
    /// What this node may be: `worker`, `gateway`, `home`.
    pub roles: Vec<String>,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What a person should do something about.
    pub warnings: Vec<String>,
    /// By what that was found out, for people.
    pub address_by: String,
    /// Until when its certificate is good; it renews itself before.
    pub certificate_until: WallTime,
    /// Whether this node lets others in and removes them.
    pub is_issuer: bool,
    /// Who does: the node that made the cluster, which is its home.
    pub issuer: NodeId,
}

/// What membership says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberUpdate {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// What it is.
    pub state: MemberState,
    /// Since when.
    pub since: Moment,
    /// Why it is down, for people.
    pub reason: Option<String>,
    /// When it last gave a sign of life, to this node or to another.
    pub last_seen: Moment,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It is there.
    Up,
    /// It does not answer, and is still a member.
    Suspect,
    /// It is gone without a word.
    Down,
    /// It said good-bye.
    Left,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The node.
    pub node: NodeId,
    /// What it calls itself.
    pub name: String,
    /// What its certificate lets it be.
    pub roles: Vec<String>,
    /// Which start of it.
    pub incarnation: u64,
    /// From where it is seen.
    pub address: SocketAddr,
    /// There and back.
    pub rtt: Duration,
}

/// Where what is shown of a node comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// This node itself.
    Own,
    /// The node's own card, over a connection to it.
    Card,
    /// Only what others say: there is no connection to it, or no card has come yet.
    Membership,
}
