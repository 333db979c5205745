//! The text that lets one machine join a cluster.
//!
//! Owns its form, and what is wrong with a text that is none. Refuses to know which tokens are in use: that
//! is [`TokenTable`]'s.
//!
//! `arw1-` and the base32 of these bytes:
//!
//! ```text
//!  0  form           1   1
//!  1  length         1   of everything, checksum included
//!  2  cluster id    16
//! 18  issuer        32   the node that is dialed; its key is pinned
//! 50  token id       8
//! 58  secret        16
//! 74  expires at     4   seconds since 1970, little-endian
//! 78  addresses      1   how many, then each: 4 or 6, the address, the port (both big-endian)
//!     checksum       4   of SHA-256 over all before
//! ```

mod base32;
mod proof;
mod table;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use arw_kit::moment::WallTime;
use aws_lc_rs::digest::{SHA256, digest};

pub use proof::{EXPORTER_LABEL, KeyingMaterial, Proof, ProofKey};
pub use table::{
    CreateTokenError, NewToken, TOKENS_MAX, TTL_MAX, TokenRecord, TokenRefusal, TokenState, TokenTable,
    TokenUse, USES_MAX, Used,
};

use crate::certificate::{CLOCK_SKEW_ALLOWED, ClusterId};
use crate::identity::NodeId;
use arw_kit::hex_id;

/// Addresses in a token: a node with IPv4 and IPv6, inside and outside of a network, has four.
pub const ADDRESSES_MAX: usize = 4;

const PREFIX: &str = "arw1-";
const FORM: u8 = 1;
const FIXED_BYTES: usize = 79;
const CHECKSUM_BYTES: usize = 4;

hex_id! {
    /// Names a token; it is no secret. Its bytes are the context with which keying material is exported.
    TokenId: 8,
    /// The text is not a token's id.
    BadTokenId: "the id of a token: it is 16 hexadecimal digits, as `arw cluster token list` shows them"
}

/// Everything that a machine needs to join. `Debug` shows nothing of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that gave the token out.
    pub issuer: NodeId,
    /// The token.
    pub id: TokenId,
    /// When it ends, to the second.
    pub expires_at: WallTime,
    /// Where the issuer is, 1 to [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    secret: [u8; 16],
}

impl JoinToken {
    /// Reads a token as a person pasted it: spaces, line breaks and the case of letters do not matter.
    ///
    /// # Errors
    /// [`TokenError`]: what is wrong with it.
    pub fn parse(text: &str, now: WallTime) -> Result<Self, TokenError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(TEXT_CHARS_MAX).collect();
        let text = text.to_ascii_lowercase();
        let digits = text.strip_prefix(PREFIX).ok_or_else(|| not_a_token(&text))?;
        let bytes = base32::decode(digits).map_err(|error| TokenError::Character {
            character: error.character,
            position: error.position + PREFIX.len() + 1,
        })?;
        let token = Self::from_bytes(&bytes)?;
        if token.expires_at + CLOCK_SKEW_ALLOWED < now {
            return Err(TokenError::Expired { expired_at: token.expires_at });
        }
        Ok(token)
    }

    /// The token's text, for the one place that shows it.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + ADDRESSES_MAX * 19 + CHECKSUM_BYTES);
        bytes.extend_from_slice(&[FORM, 0]);
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(self.issuer.as_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&seconds(self.expires_at).to_le_bytes());
        let addresses = self.addresses.iter().take(ADDRESSES_MAX);
        bytes.push(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        // At most 79 + 4 * 19 + 4.
        bytes[1] = u8::try_from(bytes.len() + CHECKSUM_BYTES).unwrap_or(u8::MAX);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        format!("{PREFIX}{}", base32::encode(&bytes))
    }

    /// The key with which the joiner proves that it has the token.
    #[must_use]
    pub fn proof_key(&self) -> ProofKey {
        ProofKey::of_secret(&self.secret)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let (&form, &length) = match bytes {
            [form, length, ..] => (form, length),
            [] | [_] => return Err(TokenError::Truncated { have: bytes.len(), want: FIXED_BYTES }),
        };
        if form != FORM {
            return Err(TokenError::Form { found: form });
        }
        let (have, want) = (bytes.len(), usize::from(length).max(FIXED_BYTES + CHECKSUM_BYTES));
        if have < want {
            return Err(TokenError::Truncated { have, want });
        }
        if have > want {
            return Err(TokenError::TooLong { have, want });
        }
        let (body, sum) = bytes.split_at(have - CHECKSUM_BYTES);
        if checksum(body) != sum {
            return Err(TokenError::Checksum);
        }
        let mut rest = Reader(&body[2..]);
        let token = (|| {
            Some(Self {
                cluster: ClusterId::from_bytes(rest.array()?),
                issuer: NodeId::from_bytes(rest.array()?),
                id: TokenId(rest.array()?),
                secret: rest.array()?,
                expires_at: WallTime::from_millis(i64::from(u32::from_le_bytes(rest.array()?)) * 1000),
                addresses: rest.addresses()?,
            })
        })();
        // The checksum is right, so whoever made it did not follow the form.
        token.filter(|_| rest.0.is_empty()).ok_or(TokenError::Contents)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("issuer", &self.issuer)
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Longer texts are cut: the longest token has 5 + 255 characters.
const TEXT_CHARS_MAX: usize = 4096;

struct Reader<'bytes>(&'bytes [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn addresses(&mut self) -> Option<Vec<SocketAddr>> {
        let [count] = self.array()?;
        if !(1..=ADDRESSES_MAX).contains(&usize::from(count)) {
            return None;
        }
        (0..count).map(|_| self.address()).collect()
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.array()? {
            [4] => IpAddr::from(self.array::<4>()?),
            [6] => IpAddr::from(self.array::<16>()?),
            [_] => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECKSUM_BYTES]);
    sum
}

/// Whole seconds since 1970, within what four bytes hold (until 2106).
fn seconds(at: WallTime) -> u32 {
    u32::try_from(at.as_millis().max(0) / 1000).unwrap_or(u32::MAX)
}

fn not_a_token(text: &str) -> TokenError {
    if PREFIX.starts_with(text) {
        return TokenError::Truncated { have: 0, want: FIXED_BYTES + CHECKSUM_BYTES };
    }
    match text.strip_prefix("arw").and_then(|rest| rest.split_once('-')) {
        Some((number, _)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            TokenError::Form { found: number.parse().unwrap_or(u8::MAX) }
        }
        Some(_) | None => TokenError::NotAToken,
    }
}

/// What is wrong with the text of a token. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("this is not a join token: it begins with `{PREFIX}`; `arw cluster token create` prints one")]
    NotAToken,
    /// A newer program made it.
    #[error("this token has the form {found}, this program knows {FORM}: upgrade it")]
    Form {
        /// Its form.
        found: u8,
    },
    /// A character that no token has.
    #[error(
        "the token has the character {character:?} at position {position}, which no token has: copy it again"
    )]
    Character {
        /// Which.
        character: char,
        /// Where, counted from 1, without spaces.
        position: usize,
    },
    /// Its end is missing.
    #[error("the token is cut off ({have} of {want} bytes): copy all of it")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there must be.
        want: usize,
    },
    /// Something follows it.
    #[error("the token is followed by something else ({have} bytes instead of {want}): copy only the token")]
    TooLong {
        /// Bytes there are.
        have: usize,
        /// Bytes there must be.
        want: usize,
    },
    /// A character is wrong.
    #[error("the token has a typing error: its checksum does not fit; copy it again")]
    Checksum,
    /// It was made by something else.
    #[error("the token is complete but makes no sense: it was not made by `arw cluster token create`")]
    Contents,
    /// Its time is over.
    #[error("the token has expired at {expired_at}: make another with `arw cluster token create`")]
    Expired {
        /// Since when.
        expired_at: WallTime,
    },
}

#[cfg(test)]
mod tests;
