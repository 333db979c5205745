//! How two members meet: the hello.
//!
//! Owns the two deciders, [`HelloAcceptor`] and [`HelloDialer`], and the rule for two nodes that dial each
//! other at once. Refuses to know sockets: what happened goes in, what is to be done comes out.
//!
//! ```text
//! dialer                                 acceptor
//! SendHello ───────── Hello ────────────► version, certificate, clock, removal, incarnation, dial rule
//! the same checks ◄── HelloAck ────────── Accept
//! Up
//! ```

mod acceptor;
mod dial;
mod dialer;

use arw_kit::moment::WallTime;

pub use acceptor::{AcceptorAction, AcceptorEvent, HelloAcceptor};
pub use dial::{Candidate, DialSide, DialVerdict, Held, PeerLink, Start, judge_connection};
pub use dialer::{DialerAction, DialerEvent, HelloDialer, HelloFailure};

use crate::certificate::{Certificate, ClusterPublicKey, RevocationSet, SignedCertificate};
use crate::identity::NodeId;
use crate::join::clocks_agree;
use crate::wire::{HelloRefusal, Versions};

/// What a node shows of itself, and checks others with.
#[derive(Clone, Copy, Debug)]
pub struct LocalMember<'node> {
    /// The node.
    pub id: NodeId,
    /// Which start of it this is.
    pub start: Start,
    /// What it calls itself.
    pub name: &'node str,
    /// Its membership certificate.
    pub certificate: &'node SignedCertificate,
    /// The cluster's key.
    pub cluster_key: ClusterPublicKey,
    /// Who was removed.
    pub revoked: &'node RevocationSet,
}

/// A member at the other end, believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub id: NodeId,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Drawn at random at that start.
    pub number: u64,
    /// What it calls itself.
    pub name: String,
    /// What its certificate says.
    pub certificate: Certificate,
    /// The minor version that both speak.
    pub minor: u8,
}

impl Peer {
    /// Which start of it this is, told from those of its copies.
    #[must_use]
    pub fn start(&self) -> Start {
        Start { incarnation: self.incarnation, number: self.number }
    }
}

/// What a peer says of itself, as a hello or its answer brings it.
struct Claim<'message> {
    peer: NodeId,
    start: Start,
    name: &'message str,
    certificate: &'message [u8],
    sent_at_ms: i64,
}

impl Claim<'_> {
    /// The peer, if everything about it is good. Both sides judge by the same rules.
    fn judge(&self, wall: WallTime, local: &LocalMember<'_>, minor: u8) -> Result<Peer, HelloRefusal> {
        if self.peer == local.id {
            return Err(HelloRefusal::Itself);
        }
        let certificate = SignedCertificate::from_bytes(self.certificate)
            .and_then(|signed| signed.verify(&local.cluster_key, self.peer, wall, local.revoked))?;
        if !clocks_agree(wall, self.sent_at_ms) {
            return Err(HelloRefusal::Clock);
        }
        Ok(Peer {
            id: self.peer,
            incarnation: self.start.incarnation,
            number: self.start.number,
            name: self.name.to_owned(),
            certificate,
            minor,
        })
    }
}

/// The minor version that this node and one with `versions` speak.
fn common_minor(versions: Versions) -> Result<u8, HelloRefusal> {
    Versions::OWN.common(versions).ok_or(HelloRefusal::Version)
}

#[cfg(test)]
mod tests;
