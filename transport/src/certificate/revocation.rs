//! Who is no member any more.
//!
//! Owns the signed word of removal and the set of all of them. Any member may pass one on, only the cluster's
//! key can make one.
//!
//! ```text
//!   0  form          1   1
//!   1  cluster id   16
//!  17  node id      32
//!  49  serial        8   every certificate of the node up to this one is refused
//!  57  kept until    8   ms since 1970: when the last of those certificates has expired anyway
//!  65  signature    64
//! ```

use std::collections::BTreeMap;
use std::fmt;

use arw_kit::moment::WallTime;

use super::{CLOCK_SKEW_ALLOWED, ClusterId, ClusterKey, ClusterPublicKey, array_at};
use crate::identity::NodeId;

/// Bytes of a signed revocation.
pub const REVOCATION_BYTES: usize = SIGNED_BYTES + 64;

/// Revocations that are kept at the same time: four times the nodes that a cluster is made for, within the
/// life of a certificate.
pub const REVOCATIONS_MAX: usize = 4096;

const FORM: u8 = 1;
const SIGNED_BYTES: usize = 65;
const PURPOSE: &[u8] = b"arw revocation 1\0";

/// What a revocation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The node.
    pub node: NodeId,
    /// Its certificates up to this serial are refused; a later one, from a new token, is not.
    pub serial_max: u64,
    /// When those have all expired anyway.
    pub kept_until: WallTime,
}

/// A revocation as it travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedRevocation([u8; REVOCATION_BYTES]);

impl SignedRevocation {
    /// From bytes as they came.
    ///
    /// # Errors
    /// [`RevocationError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RevocationError> {
        let malformed = RevocationError::Malformed { length: bytes.len() };
        let bytes: [u8; REVOCATION_BYTES] = bytes.try_into().map_err(|_| malformed)?;
        if bytes[0] == FORM { Ok(Self(bytes)) } else { Err(malformed) }
    }

    /// The bytes to send or store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The node that it is about, as it says: true only once it is verified.
    pub(crate) fn claimed_node(&self) -> NodeId {
        NodeId::from_bytes(array_at(&self.0, 17))
    }

    /// What it says, if the cluster's key signed it.
    ///
    /// # Errors
    /// [`RevocationError`]: of another cluster, or not signed by its key.
    pub fn verify(&self, cluster: &ClusterPublicKey) -> Result<Revocation, RevocationError> {
        let found = ClusterId::from_bytes(array_at(&self.0, 1));
        if found != cluster.id() {
            return Err(RevocationError::OtherCluster { found });
        }
        if !cluster.verifies(PURPOSE, &self.0[..SIGNED_BYTES], array_at(&self.0, SIGNED_BYTES)) {
            return Err(RevocationError::BadSignature);
        }
        Ok(Revocation {
            node: self.claimed_node(),
            serial_max: u64::from_le_bytes(array_at(&self.0, 49)),
            kept_until: WallTime::from_millis(i64::from_le_bytes(array_at(&self.0, 57))),
        })
    }
}

impl fmt::Debug for SignedRevocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedRevocation({:?})", self.claimed_node())
    }
}

impl ClusterKey {
    /// Removes a node: its certificates up to `serial_max` are refused. `kept_until` is when the last of them
    /// expires.
    #[must_use]
    pub fn revoke(&self, revocation: Revocation) -> SignedRevocation {
        let mut bytes = [0; REVOCATION_BYTES];
        bytes[0] = FORM;
        bytes[1..17].copy_from_slice(self.id().as_bytes());
        bytes[17..49].copy_from_slice(revocation.node.as_bytes());
        bytes[49..57].copy_from_slice(&revocation.serial_max.to_le_bytes());
        bytes[57..65].copy_from_slice(&revocation.kept_until.as_millis().to_le_bytes());
        let signature = self.sign(PURPOSE, &bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(&signature);
        SignedRevocation(bytes)
    }
}

/// Every revocation that still matters. At most one per node: the one that reaches furthest.
#[derive(Clone, Debug, Default)]
pub struct RevocationSet {
    pub(super) by_node: BTreeMap<NodeId, (Revocation, SignedRevocation)>,
}

impl RevocationSet {
    /// Takes a revocation in; `true` when it says something new, which then should be passed on and stored.
    ///
    /// # Errors
    /// [`RevocationError`]: not of this cluster, or too many.
    pub fn add(
        &mut self,
        signed: SignedRevocation,
        cluster: &ClusterPublicKey,
    ) -> Result<bool, RevocationError> {
        // Told again, as at every hello: nothing has to be computed.
        if self.of(signed.claimed_node()) == Some(signed) {
            return Ok(false);
        }
        // WIRE-10: only the cluster's key removes, and an older word never undoes a newer one.
        let told = signed.verify(cluster)?;
        let room = self.by_node.len() < REVOCATIONS_MAX;
        match self.by_node.get_mut(&told.node) {
            Some((known, _)) if known.serial_max >= told.serial_max => Ok(false),
            Some(known) => {
                *known = (told, signed);
                Ok(true)
            }
            None if room => {
                self.by_node.insert(told.node, (told, signed));
                Ok(true)
            }
            None => Err(RevocationError::TooMany),
        }
    }

    /// Whether `node`'s certificate with this serial is refused.
    #[must_use]
    pub fn covers(&self, node: NodeId, serial: u64) -> bool {
        self.by_node.get(&node).is_some_and(|(known, _)| serial <= known.serial_max)
    }

    /// The highest serial that any of them reaches.
    #[must_use]
    pub fn serial_max(&self) -> u64 {
        self.by_node.values().map(|(known, _)| known.serial_max).max().unwrap_or_default()
    }

    /// The word that removed `node`.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<SignedRevocation> {
        self.by_node.get(&node).map(|(_, signed)| *signed)
    }

    /// Forgets those whose certificates have all expired, and returns their nodes.
    pub fn prune(&mut self, now: WallTime) -> Vec<NodeId> {
        let over = |known: &Revocation| known.kept_until + CLOCK_SKEW_ALLOWED < now;
        let ended: Vec<NodeId> =
            self.by_node.values().filter(|(known, _)| over(known)).map(|(known, _)| known.node).collect();
        for node in &ended {
            self.by_node.remove(node);
        }
        ended
    }

    /// All of them, to be told to a new peer.
    pub fn iter(&self) -> impl Iterator<Item = &SignedRevocation> {
        self.by_node.values().map(|(_, signed)| signed)
    }
}

/// Why a revocation is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// It is none.
    #[error("{length} bytes that are no revocation")]
    Malformed {
        /// How many.
        length: usize,
    },
    /// It belongs to another cluster.
    #[error("the revocation belongs to the cluster {found}, not to this one")]
    OtherCluster {
        /// Which.
        found: ClusterId,
    },
    /// The cluster's key did not sign it.
    #[error("the revocation is not signed by the cluster's key")]
    BadSignature,
    /// There is no room.
    #[error("{REVOCATIONS_MAX} removed nodes are remembered already, until their certificates expire")]
    TooMany,
}
