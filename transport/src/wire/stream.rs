//! Messages on the control stream: where each begins and ends.
//!
//! Owns the header, the limits before and after a peer is known, and what ends the connection.

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::OutOfBounds;
use super::control::{Control, First};
use crate::codec::{BODY_BYTES_MAX, DecodeError, EncodeError};

/// Bytes of the first message with its header: what a stranger can make a node keep.
pub const FIRST_BYTES_MAX: usize = 4 * 1024;

/// Bytes of any other message with its header.
pub const CONTROL_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

const HEADER_BYTES: usize = 6;

/// What stands at the beginning of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not a whole message yet: at least so many bytes are missing.
    Need(usize),
    /// A message.
    Message(Control),
    /// A message of a type that only a newer version knows. It is skipped and counted.
    Unknown {
        /// Its type.
        code: u16,
    },
}

/// The peer does not speak this protocol: the connection must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is too long.
    #[error("control message of type {code} with {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Its type.
        code: u16,
        /// Its length with the header.
        length: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// Its body is not what its type says.
    #[error("control message of type {code}: {problem}")]
    Body {
        /// Its type.
        code: u16,
        /// What is wrong.
        problem: DecodeError,
    },
    /// One of its fields is not what it may be.
    #[error("control message of type {code}: {problem}")]
    Field {
        /// Its type.
        code: u16,
        /// What is wrong.
        problem: OutOfBounds,
    },
}

/// The first message of a connection is none that may be the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirstError {
    /// It is no message.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It is another one.
    #[error("the first message must be a hello or a join, this one has the type {code}")]
    Unexpected {
        /// Its type.
        code: u16,
    },
}

/// Adds `message` to `out`.
///
/// # Errors
/// [`EncodeError`] when it is too long; `out` is then as it was.
pub fn put(message: &Control, out: &mut BytesMut) -> Result<(), EncodeError> {
    debug_assert!(message.check().is_ok(), "a message that every peer refuses: {message:?}");
    let start = out.len();
    out.put_u16_le(message.code());
    out.put_u32_le(0);
    let length = match message.encode(BODY_BYTES_MAX, out) {
        Ok(length) => length,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    // At most 64 KiB.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[start + 2..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Takes the message at the beginning of `buffer` off it.
///
/// # Errors
/// [`ControlError`]: what follows cannot be trusted any more.
pub fn take(buffer: &mut BytesMut) -> Result<Received, ControlError> {
    take_within(buffer, CONTROL_BYTES_MAX)
}

/// [`take`] for the first message of a connection, from a stranger. `None`: it has not wholly arrived yet.
///
/// # Errors
/// [`FirstError`]: the connection must end.
pub fn take_first(buffer: &mut BytesMut) -> Result<Option<First>, FirstError> {
    // WIRE-13: a stranger can make a node keep 4 KiB, and say one of two things.
    match take_within(buffer, FIRST_BYTES_MAX)? {
        Received::Need(_) => Ok(None),
        Received::Message(Control::Hello(hello)) => Ok(Some(First::Hello(hello))),
        Received::Message(Control::Join(join)) => Ok(Some(First::Join(join))),
        Received::Message(other) => Err(FirstError::Unexpected { code: other.code() }),
        Received::Unknown { code } => Err(FirstError::Unexpected { code }),
    }
}

fn take_within(buffer: &mut BytesMut, max: usize) -> Result<Received, ControlError> {
    let Some((header, _)) = buffer.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Received::Need(HEADER_BYTES - buffer.len()));
    };
    let code = u16::from_le_bytes([header[0], header[1]]);
    let body = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
    let length = usize::try_from(body).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES);
    if length > max {
        return Err(ControlError::TooLong { code, length, max });
    }
    let Some(message) = buffer.get(HEADER_BYTES..length) else {
        return Ok(Received::Need(length - buffer.len()));
    };
    // WIRE-5: an unknown type is skipped; a known one that cannot be read ends the connection.
    let received = match Control::decode(code, message) {
        Some(message) => Received::Message(message?),
        None => Received::Unknown { code },
    };
    buffer.advance(length);
    Ok(received)
}
