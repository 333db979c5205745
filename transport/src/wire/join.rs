//! The words of a node that joins, and of one that renews its membership.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Bounded, JoinRefusal, NAME_CHARS_MAX, OutOfBounds, Versions, count, text};
use crate::certificate::CERTIFICATE_BYTES;
use crate::token::ADDRESSES_MAX;

/// Nodes that a new member is told of; membership tells it of all others.
pub const PEERS_MAX: usize = 16;

/// A node that is no member yet shows that it has a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// What the joiner speaks.
    pub versions: Versions,
    /// The token's id.
    pub token: [u8; 8],
    /// That it has the token's secret, bound to this TLS session and both nodes.
    pub proof: [u8; 32],
    /// The joiner's clock, ms since 1970.
    pub sent_at_ms: i64,
    /// What the joiner calls itself.
    pub name: String,
}

/// The joiner is a member from now on. It dials again, with a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAccepted {
    /// Its membership certificate.
    pub certificate: Vec<u8>,
    /// The cluster.
    pub cluster: [u8; 16],
    /// The cluster's public key. The cluster's id is a hash of it.
    pub cluster_key: [u8; 32],
    /// Where other members are.
    pub peers: Vec<PeerAddresses>,
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddresses {
    /// The member.
    pub node: [u8; 32],
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

/// The joiner does not become a member. The close code says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRefused {
    /// Why.
    pub reason: JoinRefusal,
    /// What the issuer speaks.
    pub versions: Versions,
}

/// A member asks for its next certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The serial of the one that it has.
    pub serial: u64,
}

/// A member's next certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The certificate.
    pub certificate: Vec<u8>,
}

impl Bounded for Join {
    fn check(&self) -> Result<(), OutOfBounds> {
        text("name", &self.name, NAME_CHARS_MAX)
    }
}

impl Bounded for JoinAccepted {
    fn check(&self) -> Result<(), OutOfBounds> {
        count("certificate", self.certificate.len(), 1..=2 * CERTIFICATE_BYTES)?;
        count("peers", self.peers.len(), 0..=PEERS_MAX)?;
        let mut lengths = self.peers.iter().map(|peer| peer.addresses.len());
        lengths.try_for_each(|length| count("addresses", length, 0..=ADDRESSES_MAX))
    }
}

impl Bounded for JoinRefused {}

impl Bounded for Renew {}

impl Bounded for Renewed {
    fn check(&self) -> Result<(), OutOfBounds> {
        count("certificate", self.certificate.len(), 1..=2 * CERTIFICATE_BYTES)
    }
}
