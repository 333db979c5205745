//! What an endpoint is started with.
//!
//! Owns the options, their limits with the reasons, and what is wrong with them. Refuses to start anything.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arw_kit::clock::Clock;

use super::issuer::{Issuer, LedgerError};
use super::limiter::HandshakeLimits;
use super::services::PeerServices;
use crate::certificate::{CertificateError, ClusterPublicKey, RevocationSet, SignedCertificate};
use crate::identity::{NodeId, NodeKey, TlsError};
use crate::membership::MembershipConfig;
use crate::wire;

/// Everything that an endpoint needs.
pub struct EndpointOptions {
    /// Who this node is.
    pub key: Arc<NodeKey>,
    /// Which start of it this is: higher than every one before.
    pub incarnation: u64,
    /// What it calls itself.
    pub name: String,
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where others reach it, when that differs from `listen`; needed when it listens on all addresses. Port
    /// 0 is the one that it got.
    pub advertised: Option<SocketAddr>,
    /// What makes it a member.
    pub credentials: Credentials,
    /// What lets others in, on a node that does.
    pub issuer: Option<Issuer>,
    /// Members that it knows from before: stored ones, or those that its join told.
    pub known: Vec<Known>,
    /// How much of anything.
    pub limits: Limits,
    /// What an operator may set of membership.
    pub membership: MembershipConfig,
    /// Where time comes from.
    pub clock: Clock,
    /// What is done with peers.
    pub services: Arc<dyn PeerServices>,
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointOptions")
            .field("key", &self.key)
            .field("incarnation", &self.incarnation)
            .field("name", &self.name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// What makes a node a member.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Shown in every hello.
    pub certificate: SignedCertificate,
    /// What checks the certificates of others.
    pub cluster_key: ClusterPublicKey,
    /// Who was removed.
    pub revoked: RevocationSet,
    /// Who is asked for the next certificate. `None`: every peer is, and who can, answers.
    pub issuer: Option<NodeId>,
}

/// A member that is known from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The member.
    pub node: NodeId,
    /// Its addresses, best first.
    pub addresses: Vec<SocketAddr>,
}

impl From<&wire::PeerAddresses> for Known {
    fn from(peer: &wire::PeerAddresses) -> Self {
        Self { node: NodeId::from_bytes(peer.node), addresses: peer.addresses.clone() }
    }
}

/// How much of anything an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections with members. An idle one takes some 34 KiB at each end, besides quinn's receive buffer of
    /// up to 3 MB per node.
    pub connections_max: usize,
    /// Peers that are dialed at the same time, at most: each attempt keeps a handshake's memory for up to 2
    /// s.
    pub dials_max: usize,
    /// Streams that a peer may have open at the same time, each way. Memory grows with it: 63 KiB per
    /// connection with 256.
    pub streams_max: u32,
    /// Handshakes that others begin.
    pub handshakes: HandshakeLimits,
    /// Send several packets in one system call where the system can. Off only where a driver gets it wrong.
    pub segmentation_offload: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            dials_max: 64,
            streams_max: 32,
            handshakes: HandshakeLimits::default(),
            segmentation_offload: true,
        }
    }
}

/// The endpoint did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket cannot be opened.
    #[error("cannot open the UDP socket {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Others would be told an address that reaches nobody.
    #[error("this node listens on all addresses ({listen}): say which one others reach it at")]
    NeedsAdvertised {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// The system gives no thread.
    #[error("cannot start the network's thread: {0}")]
    Thread(io::Error),
    /// The key does not work.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// This node is no member.
    #[error("this node's own certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// The ledger does not work.
    #[error("cannot let others in: {0}")]
    Ledger(#[from] LedgerError),
    /// The issuer's key is that of another cluster.
    #[error("the cluster key of this node is not the one of its certificate")]
    OtherClusterKey,
    /// QUIC refuses its configuration.
    #[error("cannot set up QUIC: {0}")]
    Quic(String),
}
