//! The form of `cluster.json`.
//!
//! Owns the names of its fields and their conversion. Refuses to know files.

use std::net::SocketAddr;

use arw_kit::moment::WallTime;
use serde::{Deserialize, Serialize};

use super::Contents;
use crate::certificate::{ClusterPublicKey, Roles, SignedCertificate, SignedRevocation};
use crate::identity::NodeId;
use crate::token::{ProofKey, TokenId, TokenRecord, TokenUse};

/// The form that this program writes, and the newest that it reads.
pub(super) const FORM: u32 = 1;

/// A file that is not understood.
pub(super) enum Unreadable {
    Newer { found: u32 },
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    /// For people: the id that follows from the key.
    cluster: String,
    cluster_key: Hex,
    certificate: Hex,
    issuer: NodeId,
    known: Vec<KnownNode>,
    /// Files from before this was stored lack it.
    #[serde(default)]
    token_addresses: Vec<SocketAddr>,
    revocations: Vec<Hex>,
    incarnation: u64,
    serial_next: u64,
    tokens: Vec<Token>,
    /// Only what was restored has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored_at: Option<WallTime>,
}

#[derive(Deserialize)]
struct Head {
    form: u32,
}

#[derive(Serialize, Deserialize)]
struct KnownNode {
    node: NodeId,
    addresses: Vec<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    id: TokenId,
    /// A hash of the token's secret.
    proof_key: Hex,
    roles: u8,
    created_at: WallTime,
    expires_at: WallTime,
    uses_max: u32,
    used: Vec<Use>,
    revoked_at: Option<WallTime>,
}

#[derive(Serialize, Deserialize)]
struct Use {
    node: NodeId,
    at: WallTime,
    barred: bool,
}

/// Bytes as hexadecimal digits.
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        base16ct::lower::decode_vec(&text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("digits that are not hexadecimal"))
    }
}

impl Hex {
    fn array<const N: usize>(&self, what: &str) -> Result<[u8; N], Unreadable> {
        let wrong = |_| Unreadable::Damaged(format!("`{what}` has {} bytes instead of {N}", self.0.len()));
        self.0.as_slice().try_into().map_err(wrong)
    }
}

pub(super) fn write(contents: &Contents) -> Vec<u8> {
    let file = File {
        form: FORM,
        cluster: contents.cluster_key.id().to_string(),
        cluster_key: Hex(contents.cluster_key.as_bytes().to_vec()),
        certificate: Hex(contents.certificate.as_bytes().to_vec()),
        issuer: contents.issuer,
        known: contents
            .known
            .iter()
            .map(|(node, addresses)| KnownNode { node: *node, addresses: addresses.clone() })
            .collect(),
        token_addresses: contents.token_addresses.clone(),
        revocations: contents.revocations.iter().map(|signed| Hex(signed.as_bytes().to_vec())).collect(),
        incarnation: contents.incarnation,
        serial_next: contents.serial_next,
        tokens: contents.tokens.iter().map(Token::from).collect(),
        restored_at: contents.restored_at,
    };
    // Texts and numbers can always be written.
    serde_json::to_vec_pretty(&file).unwrap_or_default()
}

pub(super) fn read(text: &[u8]) -> Result<Contents, Unreadable> {
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    let Head { form } = serde_json::from_slice(text).map_err(damaged)?;
    if form > FORM {
        return Err(Unreadable::Newer { found: form });
    }
    let file: File = serde_json::from_slice(text).map_err(damaged)?;
    let certificate = SignedCertificate::from_bytes(&file.certificate.0)
        .map_err(|error| Unreadable::Damaged(error.to_string()))?;
    let revocations = file.revocations.iter().map(|bytes| {
        SignedRevocation::from_bytes(&bytes.0).map_err(|error| Unreadable::Damaged(error.to_string()))
    });
    Ok(Contents {
        cluster_key: ClusterPublicKey::from_bytes(file.cluster_key.array("cluster_key")?),
        certificate,
        issuer: file.issuer,
        known: file.known.into_iter().map(|known| (known.node, known.addresses)).collect(),
        token_addresses: file.token_addresses,
        revocations: revocations.collect::<Result<_, _>>()?,
        incarnation: file.incarnation,
        serial_next: file.serial_next,
        tokens: file.tokens.iter().map(Token::record).collect::<Result<_, _>>()?,
        restored_at: file.restored_at,
    })
}

impl From<&TokenRecord> for Token {
    fn from(record: &TokenRecord) -> Self {
        let used = record.used.iter();
        Self {
            id: record.id,
            proof_key: Hex(record.key.reveal().to_vec()),
            roles: record.roles.bits(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            uses_max: record.uses_max,
            used: used.map(|used| Use { node: used.node, at: used.at, barred: used.is_barred }).collect(),
            revoked_at: record.revoked_at,
        }
    }
}

impl Token {
    fn record(&self) -> Result<TokenRecord, Unreadable> {
        let used = self.used.iter();
        Ok(TokenRecord {
            id: self.id,
            key: ProofKey::from_bytes(self.proof_key.array("proof_key")?),
            roles: Roles::from_bits(self.roles),
            created_at: self.created_at,
            expires_at: self.expires_at,
            uses_max: self.uses_max,
            used: used
                .map(|used| TokenUse { node: used.node, at: used.at, is_barred: used.barred })
                .collect(),
            revoked_at: self.revoked_at,
        })
    }
}
