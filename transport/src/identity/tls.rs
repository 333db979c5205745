//! TLS between nodes: raw public keys (RFC 7250) instead of certificates.
//!
//! Owns both sides' configuration and the one verifier for both. Any well-formed key may connect as a client:
//! whether it may do more is decided by the first message, so refuses to know members.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version,
};

use super::{NodeId, NodeKey};

/// The protocol that both sides must offer. Its number is the major version: see `spec/wire.md`.
pub const ALPN: &[u8] = b"arw/1";

/// The last label of a node's server name. It keeps a name of digits only from being taken for an address.
const NAME_SUFFIX: &str = "arw";
const LABEL_DIGITS: usize = 32;

/// DER of an Ed25519 public key up to the key itself (RFC 8410).
const PUBLIC_KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 private key up to the seed itself (RFC 8410, version 1).
const PRIVATE_KEY_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The name under which a client asks for exactly this node. A label holds 63 characters at most, so the id
/// takes two.
///
/// ```
/// # use arw_transport::identity::{NodeId, server_name};
/// let name = server_name(&NodeId::from_bytes([0xab; 32]));
/// assert_eq!(name, format!("{}.{}.arw", "ab".repeat(16), "ab".repeat(16)));
/// ```
#[must_use]
pub fn server_name(node: &NodeId) -> String {
    let digits = node.to_string();
    let (first, second) = digits.split_at(LABEL_DIGITS);
    format!("{first}.{second}.{NAME_SUFFIX}")
}

fn node_of_server_name(name: &ServerName<'_>) -> Option<NodeId> {
    let ServerName::DnsName(name) = name else { return None };
    let digits = name.as_ref().strip_suffix(NAME_SUFFIX)?.strip_suffix('.')?;
    let (first, second) = digits.split_once('.')?;
    (first.len() == LABEL_DIGITS).then(|| format!("{first}{second}").parse().ok())?
}

/// The node whose public key is `spki` in DER.
fn node_of_public_key_info(spki: &[u8]) -> Result<NodeId, PeerKeyError> {
    let bad = || PeerKeyError::NotEd25519 { length: spki.len() };
    let key = spki.strip_prefix(&PUBLIC_KEY_PREFIX).ok_or_else(bad)?;
    Ok(NodeId::from_bytes(key.try_into().map_err(|_| bad())?))
}

/// The node at the other end, from what rustls knows of it (`peer_certificates`).
///
/// # Errors
/// [`PeerKeyError`]: it showed no key, several, or not an Ed25519 key.
pub fn peer_of_certificates(certificates: &[CertificateDer<'_>]) -> Result<NodeId, PeerKeyError> {
    match certificates {
        [] => Err(PeerKeyError::Missing),
        [key] => node_of_public_key_info(key),
        [_, _, ..] => Err(PeerKeyError::Several { count: certificates.len() }),
    }
}

/// The node at the other end of a QUIC connection, from `quinn::Connection::peer_identity`.
///
/// # Errors
/// [`PeerKeyError`]: it showed no key, several, or not an Ed25519 key.
pub fn peer_of_connection(identity: Option<Box<dyn Any>>) -> Result<NodeId, PeerKeyError> {
    let certificates = identity.and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    certificates.map_or(Err(PeerKeyError::Missing), |certificates| peer_of_certificates(&certificates))
}

/// The other end showed no usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerKeyError {
    /// None at all.
    #[error("the peer showed no public key")]
    Missing,
    /// A chain, as certificates have.
    #[error("the peer showed {count} keys instead of one raw public key")]
    Several {
        /// How many.
        count: usize,
    },
    /// Something else.
    #[error("the peer's key ({length} bytes) is not an Ed25519 raw public key")]
    NotEd25519 {
        /// Its length.
        length: usize,
    },
}

/// The TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for this node: {0}")]
pub struct TlsError(#[from] Error);

impl NodeKey {
    /// TLS for connections that others open. Any Ed25519 key is let in: the first message decides what it may
    /// do.
    ///
    /// # Errors
    /// [`TlsError`] when rustls refuses the key.
    pub fn tls_server(&self) -> Result<ServerConfig, TlsError> {
        self.tls_server_by(&Arc::new(provider()))
    }

    fn tls_server_by(&self, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, TlsError> {
        // WIRE-1: TLS 1.3, raw public keys on both sides, nothing resumed, nothing sent early.
        let verifier = Arc::new(RawKeyVerifier { algorithms: provider.signature_verification_algorithms });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.certified(provider)?)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// TLS for connections that this node opens. The peer must have the key that the server name stands for
    /// ([`server_name`]).
    ///
    /// # Errors
    /// [`TlsError`] when rustls refuses the key.
    pub fn tls_client(&self) -> Result<ClientConfig, TlsError> {
        self.tls_client_by(&Arc::new(provider()))
    }

    fn tls_client_by(&self, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, TlsError> {
        let verifier = Arc::new(RawKeyVerifier { algorithms: provider.signature_verification_algorithms });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.certified(provider)?,
            )));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        // The name is the expected key; the wire need not show whom a node looks for.
        config.enable_sni = false;
        Ok(config)
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let private = PrivatePkcs8KeyDer::from([PRIVATE_KEY_PREFIX.as_slice(), &self.seed].concat());
        let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(private))?;
        let public = [PUBLIC_KEY_PREFIX.as_slice(), self.id.as_bytes()].concat();
        Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], key)))
    }
}

/// One key exchange, so that a handshake is one flight each way and fits the first packet.
fn provider() -> CryptoProvider {
    // As strong as the keys, with a hash that the processor computes: with SHA-384, SHA-512 took 7 % of the
    // CPU where many nodes met, Ed25519's share included. The client's order counts.
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// Judges the other end's raw public key, on both sides.
struct RawKeyVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl RawKeyVerifier {
    fn verify_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

fn peer(key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<NodeId, Error> {
    if !more.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    node_of_public_key_info(key).map_err(|_| CertificateError::BadEncoding.into())
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken between nodes".to_owned())
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // WIRE-2: the node that answers must be the one that was dialed.
        if node_of_server_name(name) != Some(peer(key, more)?) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        peer(key, more).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl fmt::Debug for RawKeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawKeyVerifier")
    }
}

#[cfg(test)]
pub(crate) mod seeded;
#[cfg(test)]
mod tests;
