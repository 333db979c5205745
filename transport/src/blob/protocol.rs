//! What is said about a blob before its bytes.
//!
//! Owns the layout of a request and of its answer. Refuses to know what follows from them.
//!
//! ```text
//! request                                   answer
//!  0  kind         1   1: send it            0  kind         1   1: it follows, 2: refused
//!  1  zero         7                         1  zero         1
//!  8  from         8   the first byte        2  reason       2   why it is refused
//! 16  limit        8   the longest blob      4  zero         4
//! 24  sha256      32                         8  length       8   of the whole blob, where it is known
//!                                           16  from         8   the first byte that follows
//! ```
//!
//! All numbers are little-endian. What is zero now is not looked at, so that a newer version can use it.

use super::hash::BlobId;
use crate::wire::BlobRefusal;

/// Bytes of a request.
pub const REQUEST_BYTES: usize = 56;

/// Bytes of an answer.
pub const ANSWER_BYTES: usize = 24;

const SEND: u8 = 1;
const FOLLOWS: u8 = 1;
const REFUSED: u8 = 2;

/// A node asks for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which one.
    pub id: BlobId,
    /// From which byte on.
    pub from_offset: u64,
    /// The longest that it takes, counted from the blob's first byte.
    pub limit_bytes: u64,
}

impl Request {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut out = [0; REQUEST_BYTES];
        out[0] = SEND;
        out[8..16].copy_from_slice(&self.from_offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.limit_bytes.to_le_bytes());
        out[24..].copy_from_slice(&self.id.as_bytes());
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BlobRefusal::Version`]: its kind is one that only a newer version knows.
    pub fn parse(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, BlobRefusal> {
        // BLOB-1
        if bytes[0] != SEND {
            return Err(BlobRefusal::Version);
        }
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[24..]);
        Ok(Self { id: BlobId::from_bytes(id), from_offset: number(bytes, 8), limit_bytes: number(bytes, 16) })
    }
}

/// What a node says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes follow.
    Follows {
        /// Bytes of the whole blob.
        length: u64,
        /// The first byte that follows.
        from_offset: u64,
    },
    /// They do not.
    Refused {
        /// Why.
        reason: BlobRefusal,
        /// Bytes of the whole blob, where the reason is about them; else 0.
        length: u64,
    },
}

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Its kind is unknown.
    #[error("an answer of the unknown kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// It begins elsewhere than asked for, or behind the blob's end.
    #[error("a blob of {length} bytes from byte {from_offset} on, asked for from {asked} on")]
    Offset {
        /// Where it begins.
        from_offset: u64,
        /// Where it was to begin.
        asked: u64,
        /// Bytes of the whole blob.
        length: u64,
    },
}

impl Answer {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut out = [0; ANSWER_BYTES];
        let (kind, reason, length, from) = match *self {
            Self::Follows { length, from_offset } => (FOLLOWS, 0, length, from_offset),
            Self::Refused { reason, length } => (REFUSED, reason.code(), length, 0),
        };
        out[0] = kind;
        out[2..4].copy_from_slice(&reason.to_le_bytes());
        out[8..16].copy_from_slice(&length.to_le_bytes());
        out[16..].copy_from_slice(&from.to_le_bytes());
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`AnswerError::UnknownKind`].
    pub fn parse(bytes: &[u8; ANSWER_BYTES]) -> Result<Self, AnswerError> {
        // BLOB-4
        let length = number(bytes, 8);
        match bytes[0] {
            FOLLOWS => Ok(Self::Follows { length, from_offset: number(bytes, 16) }),
            REFUSED => {
                let reason = BlobRefusal::from_code(u16::from_le_bytes([bytes[2], bytes[3]]));
                Ok(Self::Refused { reason, length })
            }
            kind => Err(AnswerError::UnknownKind { kind }),
        }
    }
}

fn number<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}
