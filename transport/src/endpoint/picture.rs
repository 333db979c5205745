//! The whole of what an endpoint knows, at one moment.
//!
//! Owns the shapes. Refuses to know how they are shown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arw_kit::moment::Moment;

use super::events::PeerCard;
use crate::certificate::{SignedCertificate, SignedRevocation};
use crate::handshake::{DialSide, HelloFailure, Peer};
use crate::identity::NodeId;
use crate::membership::{MemberIdentity, NodeEntry};

/// Everything that events are about, so that who missed some knows all again.
#[derive(Clone, Debug)]
pub struct Picture {
    /// This node in membership.
    pub own: MemberIdentity,
    /// Every node that was ever a member, this one included, until it is forgotten.
    pub nodes: Vec<NodeEntry>,
    /// The connections, and those that are wanted.
    pub peers: Vec<PeerRow>,
    /// The newest card of every connected peer.
    pub cards: Vec<PeerCard>,
    /// This node's certificate.
    pub certificate: SignedCertificate,
    /// Every removal that still matters.
    pub revocations: Vec<SignedRevocation>,
    /// This node was removed from the cluster.
    pub is_removed: bool,
    /// The cluster knows a later start of this node.
    pub is_outdated: bool,
    /// The cluster has another start of this node, and none of it is connected with this one.
    pub fence: Option<Fence>,
    /// Peers of which more than one start runs.
    pub copies: Vec<CopyRow>,
}

/// This node is not taken by the cluster because of another start of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Who said so.
    pub by: NodeId,
    /// Where the other one is, by its word.
    pub elsewhere: Option<SocketAddr>,
    /// Both have the same incarnation; else the other one is later.
    pub is_copy: bool,
}

/// Two starts of one node run: its state folder was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRow {
    /// The node.
    pub node: NodeId,
    /// Where the one is that this node takes for it.
    pub kept: SocketAddr,
    /// Where the other one came from.
    pub refused: SocketAddr,
}

/// What there is of one peer.
#[derive(Clone, Debug)]
pub struct PeerRow {
    /// The peer.
    pub node: NodeId,
    /// The connection, if there is one.
    pub connection: Option<ConnectionRow>,
    /// How it is reached, if a connection is wanted.
    pub dial: Option<DialRow>,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    /// Who is at the other end: its name, its start, its certificate with its roles.
    pub peer: Peer,
    /// Where it is now.
    pub address: SocketAddr,
    /// At which address of this machine it ends, where the system says so.
    pub local: Option<IpAddr>,
    /// Who dialed.
    pub dialed_by: DialSide,
    /// Since when it stands.
    pub since: Moment,
    /// The round-trip time, smoothed.
    pub rtt: Duration,
    /// UDP datagrams to the peer.
    pub datagrams_sent: u64,
    /// UDP datagrams from it.
    pub datagrams_received: u64,
    /// Bytes to the peer, UDP's payload.
    pub bytes_sent: u64,
    /// Bytes from it.
    pub bytes_received: u64,
    /// Packets to the peer that were lost.
    pub packets_lost: u64,
}

/// The way to a peer.
#[derive(Clone, Debug)]
pub struct DialRow {
    /// Where it is looked for, newest first.
    pub addresses: Vec<SocketAddr>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last one did.
    pub last_failure: Option<HelloFailure>,
    /// When the next one begins; `None` while it is connected or being dialed.
    pub next_at: Option<Moment>,
}
