//! Who a node is on the network: an Ed25519 key.
//!
//! Owns the key, its public half as the node's id, and what is derived from it. Refuses to know who is a
//! member: that is the certificate's job.

mod key_file;
mod tls;

use std::fmt;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use aws_lc_rs::{hkdf, hmac};

pub use arw_actors::ids::{BadNodeId, NodeId};
pub use key_file::KeyFileError;
pub(crate) use key_file::load_or_create as load_or_create_seed;
#[cfg(test)]
pub(crate) use tls::seeded::SeededCrypto;
pub use tls::{ALPN, PeerKeyError, TlsError, peer_of_certificates, peer_of_connection, server_name};

/// Whether `node` signed `message`.
#[must_use]
pub fn is_signed_by(node: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    verifies(node.as_bytes(), message, signature)
}

/// A node's secret key. `Debug` shows only the id.
///
/// ```
/// use arw_transport::identity::{NodeKey, is_signed_by};
/// let key = NodeKey::from_seed(&[7; 32]).unwrap();
/// assert!(is_signed_by(&key.id(), b"hello", &key.sign(b"hello")));
/// assert!(!format!("{key:?}").contains("0707"));
/// ```
pub struct NodeKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    id: NodeId,
}

impl NodeKey {
    /// The key that a seed stands for: the same seed is the same node.
    ///
    /// # Errors
    /// [`BadSeed`] when the cryptography refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BadSeed> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadSeed)?;
        let id = NodeId::from_bytes(pair.public_key().as_ref().try_into().map_err(|_| BadSeed)?);
        Ok(Self { seed: *seed, pair, id })
    }

    /// The key in the file at `path`; a new one is made and stored, for its owner only, where there is none.
    ///
    /// # Errors
    /// [`KeyFileError`]: the file cannot be used, is damaged, or others can read it.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let seed = load_or_create_seed(path, "arw-node-key-1")?;
        Self::from_seed(&seed).map_err(|_| KeyFileError::Damaged { path: path.to_owned() })
    }

    /// The node that has this key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Signs `message`. Who calls it puts its purpose in front of the message, so that no signature is good
    /// for two things.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        signature_of(&self.pair, message)
    }

    /// What an endpoint needs to be known again after a crash and restart: with the same keys the node can
    /// tell its old peers at once that it forgot their connections, instead of letting them run into their
    /// idle timeout.
    #[must_use]
    pub fn endpoint_keys(&self) -> EndpointKeys {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"arw node key 1").extract(&self.seed);
        let connection_id = derive::<8>(&root, b"connection id");
        EndpointKeys {
            reset: hmac::Key::new(hmac::HMAC_SHA256, &derive::<32>(&root, b"stateless reset")),
            connection_id: u64::from_le_bytes(connection_id),
            retry: hkdf::Salt::new(hkdf::HKDF_SHA256, b"arw retry 1")
                .extract(&derive::<32>(&root, b"address token")),
        }
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The seed does not make a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes do not make an Ed25519 key")]
pub struct BadSeed;

/// Keys of a QUIC endpoint that stay the same over restarts. `Debug` shows none of them.
pub struct EndpointKeys {
    /// For `EndpointConfig::new`: signs stateless resets.
    pub reset: hmac::Key,
    /// For `HashedConnectionIdGenerator::from_key`: tells own connection ids from noise.
    pub connection_id: u64,
    /// For `ServerConfig::new`: seals the tokens that prove a client's address.
    pub retry: hkdf::Prk,
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointKeys(…)")
    }
}

pub(crate) fn signature_of(pair: &Ed25519KeyPair, message: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    // An Ed25519 signature has 64 bytes, always.
    bytes.copy_from_slice(pair.sign(message).as_ref());
    bytes
}

pub(crate) fn verifies(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ParsedPublicKey::new(&ED25519, public_key).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
}

/// `N` bytes of `root` for one purpose.
fn derive<const N: usize>(root: &hkdf::Prk, purpose: &[u8]) -> [u8; N] {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut key = [0; N];
    let purposes = [purpose];
    let filled = root.expand(&purposes, Length(N)).and_then(|okm| okm.fill(&mut key));
    // HKDF fails only above 255 times its hash's length.
    debug_assert!(filled.is_ok() && N <= 255 * 32);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_node_and_another_seed_another() {
        let key = |byte| NodeKey::from_seed(&[byte; 32]).unwrap();
        assert_eq!(key(1).id(), key(1).id());
        assert_ne!(key(1).id(), key(2).id());
        // The first test vector of RFC 8032.
        let seed: [u8; 32] =
            base16ct::lower::decode_vec("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
                .unwrap()
                .try_into()
                .unwrap();
        assert_eq!(
            NodeKey::from_seed(&seed).unwrap().id().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        let key = NodeKey::from_seed(&[0xab; 32]).unwrap();
        let shown = format!("{key:?} {:?}", key.endpoint_keys());
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
        assert!(shown.contains(&key.id().to_string()));
    }

    #[test]
    fn the_keys_of_an_endpoint_stay_over_restarts_and_differ_between_nodes() {
        let keys = |byte| NodeKey::from_seed(&[byte; 32]).unwrap().endpoint_keys();
        let tag = |keys: &EndpointKeys| hmac::sign(&keys.reset, b"x").as_ref().to_vec();
        assert_eq!(keys(1).connection_id, keys(1).connection_id);
        assert_eq!(tag(&keys(1)), tag(&keys(1)));
        assert_ne!(keys(1).connection_id, keys(2).connection_id);
        assert_ne!(tag(&keys(1)), tag(&keys(2)));
        assert_ne!(keys(1).connection_id, 0);
    }

    #[test]
    fn a_signature_is_good_for_one_message_and_one_node() {
        let (one, two) = (NodeKey::from_seed(&[1; 32]).unwrap(), NodeKey::from_seed(&[2; 32]).unwrap());
        let signature = one.sign(b"message");
        assert!(is_signed_by(&one.id(), b"message", &signature));
        assert!(!is_signed_by(&one.id(), b"massage", &signature));
        assert!(!is_signed_by(&two.id(), b"message", &signature));
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_from_its_text_in_either_case(bytes: [u8; 32]) {
            let id = NodeId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }

        #[test]
        fn whatever_is_no_id_is_refused(text in "\\PC{0,80}") {
            let is_id = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<NodeId>().is_ok(), is_id);
        }
    }
}
