//! The key of a cluster and the id that follows from it.
//!
//! Owns both. Refuses to know what is signed.

use std::fmt;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use crate::identity::{BadSeed, KeyFileError, load_or_create_seed, signature_of, verifies};
use arw_kit::hex_id;

hex_id! {
    /// A cluster's id: a hash of its public key, so whoever knows the id can tell a false key. Shown as 32
    /// hexadecimal digits.
    ClusterId: 16,
    /// The text is not a cluster's id.
    BadClusterId: "a cluster id: it is 32 hexadecimal digits"
}

/// The public half of a cluster's key: what members check certificates with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClusterPublicKey([u8; 32]);

impl ClusterPublicKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The cluster whose key this is.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        let hash = digest(&SHA256, &[b"arw cluster 1\0".as_slice(), &self.0].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_ref()[..16]);
        ClusterId(id)
    }

    pub(super) fn verifies(&self, purpose: &[u8], signed: &[u8], signature: [u8; 64]) -> bool {
        verifies(&self.0, &[purpose, signed].concat(), &signature)
    }
}

impl fmt::Debug for ClusterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterPublicKey({})", base16ct::lower::encode_string(&self.0))
    }
}

/// The secret key of a cluster: who has it makes and removes members. `Debug` shows only the cluster's id.
pub struct ClusterKey {
    pair: Ed25519KeyPair,
    public: ClusterPublicKey,
    id: ClusterId,
}

impl ClusterKey {
    /// The key that a seed stands for.
    ///
    /// # Errors
    /// [`BadSeed`] when the cryptography refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BadSeed> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadSeed)?;
        let public = ClusterPublicKey(pair.public_key().as_ref().try_into().map_err(|_| BadSeed)?);
        Ok(Self { id: public.id(), public, pair })
    }

    /// The key in the file at `path`; a new one, and with it a new cluster, is made where there is none.
    ///
    /// # Errors
    /// [`KeyFileError`]: the file cannot be used, is damaged, or others can read it.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let seed = load_or_create_seed(path, "arw-cluster-key-1")?;
        Self::from_seed(&seed).map_err(|_| KeyFileError::Damaged { path: path.to_owned() })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> ClusterPublicKey {
        self.public
    }

    /// The cluster.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.id
    }

    pub(super) fn sign(&self, purpose: &[u8], signed: &[u8]) -> [u8; 64] {
        signature_of(&self.pair, &[purpose, signed].concat())
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKey").field("id", &self.id).finish_non_exhaustive()
    }
}
