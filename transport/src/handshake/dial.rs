//! Which connection stays when two nodes dial each other.
//!
//! Owns one rule, the same for both sides: they end with one connection, whatever crosses on the way. The
//! node with the lower id has the last word: while it dials, or has a connection that it has just dialed, it
//! refuses the other's.

use std::time::Duration;

use crate::identity::NodeId;

/// An attempt takes two seconds at most, and its hello some time on the way. One that comes later was begun
/// when the connection stood already: the peer has lost that, and only knows so itself.
const ATTEMPTS_CROSS_WITHIN: Duration = Duration::from_secs(4);

/// Who dialed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialSide {
    /// This node.
    Own,
    /// The other one.
    Peer,
}

/// One start of a node. Of two the greater one prevails: the later one, or, where two have one incarnation,
/// the one with the higher number. Nobody can say which of two copies is meant, so that everybody says the
/// same is what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Grows with every start of a node.
    pub incarnation: u64,
    /// Drawn at random at each start.
    pub number: u64,
}

/// A connection that this node takes for alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who dialed it.
    pub dialed_by: DialSide,
    /// Which start of the peer is at the other end.
    pub start: Start,
    /// For how long it has stood.
    pub age: Duration,
    /// It goes to another address than the one that the peer speaks from now.
    pub is_elsewhere: bool,
}

/// What this node has of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLink {
    /// This node.
    pub own: NodeId,
    /// The other one.
    pub peer: NodeId,
    /// This node is dialing the peer and has no answer yet.
    pub is_dialing: bool,
    /// The connection to the peer.
    pub held: Option<Held>,
    /// The latest start of the peer that has shown itself to this node by a hello. What others say of it
    /// would let one that lies keep the peer out.
    pub incarnation_known: u64,
    /// The latest one that has said hello to this node, whether it is connected or not.
    pub seen: Option<Start>,
}

/// A connection whose hello was found good, or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who dialed it.
    pub dialed_by: DialSide,
    /// Which start of the peer is at the other end.
    pub start: Start,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialVerdict {
    /// It is the connection from now on. One that is held is closed as replaced.
    Take,
    /// It is refused: this node's own comes, or stays.
    Duplicate,
    /// It is refused: a later start of the peer is known.
    OldIncarnation,
    /// It is refused: another start of the peer has the same incarnation, and prevails.
    Copied,
}

/// Judges a connection to a peer.
#[must_use]
pub fn judge_connection(link: &PeerLink, candidate: Candidate) -> DialVerdict {
    // WIRE-15
    let seen = link.held.map(|held| held.start).max(link.seen);
    let known = seen.map_or(0, |seen| seen.incarnation).max(link.incarnation_known);
    if candidate.start.incarnation < known {
        return DialVerdict::OldIncarnation;
    }
    // WIRE-25
    if seen.is_some_and(|seen| candidate.start < seen) {
        return DialVerdict::Copied;
    }
    let own_stays = link.held.is_some_and(|held| {
        held.dialed_by == DialSide::Own
            && held.start == candidate.start
            && held.age < ATTEMPTS_CROSS_WITHIN
            && !held.is_elsewhere
    });
    match candidate.dialed_by {
        DialSide::Peer if link.own < link.peer && (link.is_dialing || own_stays) => DialVerdict::Duplicate,
        // The peer has answered the own one, so it had no reason to refuse it: what is held is older.
        DialSide::Peer | DialSide::Own => DialVerdict::Take,
    }
}
