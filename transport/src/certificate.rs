//! Who is a member of a cluster: certificates, signed by the cluster's key.
//!
//! Owns their bytes and every reason to refuse one. Refuses to know how they travel, and what a role allows.
//!
//! ```text
//!   0  form          1   1
//!   1  roles         1   one bit each
//!   2  cluster id   16
//!  18  node id      32
//!  50  serial        8   little-endian, as the times
//!  58  not before    8   ms since 1970
//!  66  not after     8
//!  74  signature    64   of the cluster's key, over a fixed text and all bytes before
//! ```

mod cluster_key;
mod revocation;
mod roles;

use std::fmt;
use std::time::Duration;

use arw_kit::moment::WallTime;

pub use cluster_key::{BadClusterId, ClusterId, ClusterKey, ClusterPublicKey};
pub use revocation::{
    REVOCATION_BYTES, REVOCATIONS_MAX, Revocation, RevocationError, RevocationSet, SignedRevocation,
};
pub use roles::{BadRole, Role, Roles};

use crate::identity::NodeId;

/// Bytes of a signed certificate.
pub const CERTIFICATE_BYTES: usize = SIGNED_BYTES + 64;

/// How far the clocks of two nodes may be apart. NTP keeps them within milliseconds; five minutes forgive a
/// machine that has just woken up.
pub const CLOCK_SKEW_ALLOWED: Duration = Duration::from_secs(5 * 60);

/// How long a certificate is good for. Renewal begins at two thirds, so a node may be away for ten days.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

const FORM: u8 = 1;
const SIGNED_BYTES: usize = 74;
/// Keeps a signature from being good for anything else that the same key signs.
const PURPOSE: &[u8] = b"arw membership certificate 1\0";

/// What a certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub node: NodeId,
    /// What the member may be.
    pub roles: Roles,
    /// Higher than that of every earlier certificate of the cluster.
    pub serial: u64,
    /// Refused before.
    pub not_before: WallTime,
    /// Refused after.
    pub not_after: WallTime,
}

impl Certificate {
    /// From when on the member should ask for its next certificate: when two thirds of its time are over.
    #[must_use]
    pub fn renew_from(&self) -> WallTime {
        self.not_before + self.not_after.since(self.not_before) / 3 * 2
    }

    /// WIRE-21: whether the next one is due: two thirds of its time are over, or its time has not begun, as
    /// it was signed while a clock was ahead: others will not take it.
    #[must_use]
    pub fn is_renewal_due(&self, now: WallTime) -> bool {
        self.renew_from() <= now || now + CLOCK_SKEW_ALLOWED < self.not_before
    }
}

/// A certificate as it travels. Nothing about it is true before [`SignedCertificate::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedCertificate([u8; CERTIFICATE_BYTES]);

impl SignedCertificate {
    /// From bytes as they came.
    ///
    /// # Errors
    /// [`CertificateError::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        bytes.try_into().map(Self).map_err(|_| CertificateError::Length { found: bytes.len() })
    }

    /// The bytes to send or store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What it says, if `node` may show it at `now` to a member of the cluster with the key `cluster`.
    ///
    /// # Errors
    /// [`CertificateError`]: the first reason against it, in the order of that enum.
    pub fn verify(
        &self,
        cluster: &ClusterPublicKey,
        node: NodeId,
        now: WallTime,
        revoked: &RevocationSet,
    ) -> Result<Certificate, CertificateError> {
        let certificate = self.unverified()?;
        // WIRE-9: another cluster, a bad signature, another node, a removed node, a wrong time.
        if certificate.cluster != cluster.id() {
            return Err(CertificateError::OtherCluster { found: certificate.cluster });
        }
        let (signed, signature) = self.parts();
        if !cluster.verifies(PURPOSE, signed, signature) {
            return Err(CertificateError::BadSignature);
        }
        if certificate.node != node {
            return Err(CertificateError::OtherNode { found: certificate.node });
        }
        if revoked.covers(node, certificate.serial) {
            return Err(CertificateError::Removed);
        }
        if now + CLOCK_SKEW_ALLOWED < certificate.not_before {
            return Err(CertificateError::NotYetValid { not_before: certificate.not_before });
        }
        if certificate.not_after + CLOCK_SKEW_ALLOWED < now {
            return Err(CertificateError::Expired { not_after: certificate.not_after });
        }
        Ok(certificate)
    }

    fn unverified(&self) -> Result<Certificate, CertificateError> {
        if self.0[0] != FORM {
            return Err(CertificateError::Form { found: self.0[0] });
        }
        Ok(Certificate {
            roles: Roles::from_bits(self.0[1]),
            cluster: ClusterId::from_bytes(array_at(&self.0, 2)),
            node: NodeId::from_bytes(array_at(&self.0, 18)),
            serial: u64::from_le_bytes(array_at(&self.0, 50)),
            not_before: WallTime::from_millis(i64::from_le_bytes(array_at(&self.0, 58))),
            not_after: WallTime::from_millis(i64::from_le_bytes(array_at(&self.0, 66))),
        })
    }

    fn parts(&self) -> (&[u8], [u8; 64]) {
        (&self.0[..SIGNED_BYTES], array_at(&self.0, SIGNED_BYTES))
    }
}

impl fmt::Debug for SignedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedCertificate({:?})", self.unverified())
    }
}

impl ClusterKey {
    /// Makes `node` a member for `lifetime` from `now` on. The same arguments give the same bytes.
    #[must_use]
    pub fn certify(
        &self,
        node: NodeId,
        roles: Roles,
        serial: u64,
        now: WallTime,
        lifetime: Duration,
    ) -> SignedCertificate {
        let mut bytes = [0; CERTIFICATE_BYTES];
        bytes[0] = FORM;
        bytes[1] = roles.bits();
        bytes[2..18].copy_from_slice(self.id().as_bytes());
        bytes[18..50].copy_from_slice(node.as_bytes());
        bytes[50..58].copy_from_slice(&serial.to_le_bytes());
        bytes[58..66].copy_from_slice(&now.as_millis().to_le_bytes());
        bytes[66..74].copy_from_slice(&(now + lifetime).as_millis().to_le_bytes());
        let signature = self.sign(PURPOSE, &bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(&signature);
        SignedCertificate(bytes)
    }
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It has another length than every certificate.
    #[error("a certificate has {CERTIFICATE_BYTES} bytes, this one has {found}")]
    Length {
        /// Its length.
        found: usize,
    },
    /// Its form is not known here.
    #[error("the certificate has the form {found}, this node knows {FORM}: upgrade this node")]
    Form {
        /// Its form.
        found: u8,
    },
    /// It belongs to another cluster.
    #[error("the certificate belongs to the cluster {found}, not to this one")]
    OtherCluster {
        /// Which.
        found: ClusterId,
    },
    /// The cluster's key did not sign it.
    #[error("the certificate is not signed by the cluster's key")]
    BadSignature,
    /// It was made for another node than the one that shows it.
    #[error("the certificate belongs to the node {found}, not to the one that shows it")]
    OtherNode {
        /// Which.
        found: NodeId,
    },
    /// Its node was removed from the cluster.
    #[error("the node was removed from the cluster; it can join again with a new token")]
    Removed,
    /// Its time has not begun.
    #[error("the certificate is good only from {not_before} on: compare the clocks of the two machines")]
    NotYetValid {
        /// From when on.
        not_before: WallTime,
    },
    /// Its time is over.
    #[error("the certificate has expired at {not_after}: join again with a new token, or compare the clocks")]
    Expired {
        /// Since when.
        not_after: WallTime,
    },
}

/// `N` bytes at `at`. The callers' places all lie within their fixed arrays.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests;
