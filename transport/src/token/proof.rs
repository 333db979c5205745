//! The proof that a joiner has the token, bound to one TLS session and both nodes.
//!
//! Owns what is proven and how it is checked. The issuer keeps only a hash of the secret, which is the key of
//! the proof: its table does not hold what a token shows. Refuses to know where the keying material comes
//! from.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use crate::identity::NodeId;

/// The label with which both sides export keying material from their TLS session; the context is the token's
/// id.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-arw-join-1";

/// Keying material of one TLS session (`export_keying_material` with [`EXPORTER_LABEL`]). `Debug` does not
/// show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyingMaterial(pub [u8; 32]);

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyingMaterial(…)")
    }
}

/// A joiner's proof.
pub type Proof = [u8; 32];

/// A hash of a token's secret. Whoever has it can join, so it is stored as other secrets are; `Debug` does
/// not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProofKey([u8; 32]);

impl ProofKey {
    /// From the hash, as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash, to be stored.
    #[must_use]
    pub const fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that a secret stands for. The secret has 128 random bits, so a plain hash cannot be searched.
    pub(super) fn of_secret(secret: &[u8; 16]) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, &[b"arw join secret 1\0".as_slice(), secret].concat()).as_ref());
        Self(key)
    }

    /// Proves it in one session, from one node to another.
    #[must_use]
    pub fn prove(&self, keying: &KeyingMaterial, joiner: NodeId, issuer: NodeId) -> Proof {
        let mut proof = [0; 32];
        proof.copy_from_slice(hmac::sign(&self.hmac(), &message(keying, joiner, issuer)).as_ref());
        proof
    }

    /// Whether `proof` was made with this key, in this session, by this joiner for this issuer. Takes the
    /// same time for every wrong proof.
    #[must_use]
    pub fn accepts(&self, proof: &Proof, keying: &KeyingMaterial, joiner: NodeId, issuer: NodeId) -> bool {
        // WIRE-11: both ids belong in it, because exported keying material does not cover the client's key.
        hmac::verify(&self.hmac(), &message(keying, joiner, issuer), proof).is_ok()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(…)")
    }
}

fn message(keying: &KeyingMaterial, joiner: NodeId, issuer: NodeId) -> [u8; 96] {
    let mut message = [0; 96];
    message[..32].copy_from_slice(&keying.0);
    message[32..64].copy_from_slice(joiner.as_bytes());
    message[64..].copy_from_slice(issuer.as_bytes());
    message
}
