//! Cryptography whose chance comes from a seed, so that a network of a test sends the same bytes each time.
//! Whoever knows the seed knows all keys, so it exists in tests only.
//!
//! Owns the key exchange, the random bytes and the connection ids; everything else is what a node uses.
//! Refuses to know who connects.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement;
use parking_lot::Mutex;
use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::{ClientConfig, Error, NamedGroup, PeerMisbehaved, ServerConfig};

use super::{TlsError, provider};
use crate::identity::NodeKey;

const CONNECTION_ID_BYTES: usize = 8;
/// The first destination of a connection, which the client makes up, may have up to 20.
const FIRST_DESTINATION_BYTES: usize = 20;

/// The chance of one endpoint. rustls wants it for ever, so a test leaks a few hundred bytes for each.
#[derive(Clone, Copy)]
pub(crate) struct SeededCrypto(&'static Mutex<StdRng>);

impl SeededCrypto {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(Box::leak(Box::new(Mutex::new(StdRng::from_seed(seed)))))
    }

    /// [`NodeKey::tls_server`], with chance from the seed.
    pub(crate) fn tls_server(self, key: &NodeKey) -> Result<ServerConfig, TlsError> {
        key.tls_server_by(&self.provider())
    }

    /// [`NodeKey::tls_client`], with chance from the seed.
    pub(crate) fn tls_client(self, key: &NodeKey) -> Result<ClientConfig, TlsError> {
        key.tls_client_by(&self.provider())
    }

    /// For `EndpointConfig::cid_generator`.
    pub(crate) fn connection_ids(self) -> Box<dyn ConnectionIdGenerator> {
        Box::new(self)
    }

    /// For `ClientConfig::initial_dst_cid_provider`.
    pub(crate) fn first_destination(self) -> ConnectionId {
        ConnectionId::new(&self.bytes::<FIRST_DESTINATION_BYTES>())
    }

    /// For `EndpointConfig::rng_seed`.
    pub(crate) fn bytes<const COUNT: usize>(self) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        self.0.lock().fill_bytes(&mut bytes);
        bytes
    }

    fn provider(self) -> Arc<CryptoProvider> {
        let chance: &'static Self = Box::leak(Box::new(self));
        Arc::new(CryptoProvider { kx_groups: vec![chance], secure_random: chance, ..provider() })
    }
}

impl fmt::Debug for SeededCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededCrypto")
    }
}

impl SecureRandom for SeededCrypto {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().fill_bytes(bytes);
        Ok(())
    }
}

impl ConnectionIdGenerator for SeededCrypto {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.bytes::<CONNECTION_ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

impl SupportedKxGroup for SeededCrypto {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let seed: [u8; 32] = self.0.lock().random();
        let private = agreement::PrivateKey::from_private_key(&agreement::X25519, &seed)
            .map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(SeededExchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct SeededExchange {
    private: agreement::PrivateKey,
    public: agreement::PublicKey,
}

impl ActiveKeyExchange for SeededExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer);
        let bad = Error::from(PeerMisbehaved::InvalidKeyShare);
        agreement::agree(&self.private, peer, bad, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
