//! Reading frames.
//!
//! Owns what is let through, refused for itself, or ends the connection, and what the last frame was
//! addressed to. Copies no body.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use super::{
    ADDRESS_BYTES, ASK, AT_CALL, AT_KIND, AT_LENGTH, Address, CALL_BYTES, CANCEL, CallId, DEADLINE_BYTES,
    FRAME_BYTES_MAX, HAS_CALL, HAS_TRACE, Header, MARK, MINOR, MessageType, PREFIX_BYTES, REFUSAL, REPLY,
    SAME_ADDRESS, TAKEN, TAKEN_BYTES, TELL, TRACE_BYTES, TargetActor, Trace, WANTS_ANSWER,
};

/// Reads the frames of one lane, one after the other.
#[derive(Debug, Default)]
pub struct FrameReader {
    last: Option<Address>,
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole frame yet: at least so many bytes are missing.
    Need(usize),
    /// A frame.
    Frame {
        /// Its header.
        header: Header,
        /// Where its body stands. The frame ends where the body does.
        body: Range<usize>,
    },
    /// A frame that this node does not understand; the next one follows after `length` bytes.
    Refused {
        /// Why, and whom to tell.
        refusal: FrameRefusal,
        /// Bytes of the frame.
        length: usize,
    },
}

/// A frame is not understood, but the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FrameRefusal {
    /// Why.
    pub reason: RefusalReason,
    /// The call that waits for an answer: it must be told. `None` where nobody waits, so that no refusal is
    /// ever answered with a refusal.
    pub answer_to: Option<CallId>,
}

/// Why a frame is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusalReason {
    /// It was written by a newer version.
    #[error("a frame of minor version {minor}, this node speaks up to {MINOR}: upgrade it")]
    NewerMinor {
        /// Its minor version.
        minor: u8,
    },
    /// Its kind is unknown.
    #[error("a frame of the unknown kind {kind:#04x}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
}

/// The peer does not speak this protocol: the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame, at byte {at}: {what}")]
pub struct FrameError {
    /// What is wrong.
    pub what: Malformed,
    /// Where, from the frame's beginning.
    pub at: usize,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Another first byte.
    Mark {
        /// What stood there.
        found: u8,
    },
    /// Longer than a frame may be.
    TooLong {
        /// The length as given.
        length: u32,
    },
    /// Shorter than its own header.
    TooShort {
        /// The length as given.
        length: u32,
    },
    /// Flags that its kind does not have.
    Flags {
        /// What stood there.
        found: u8,
    },
    /// A call that was never used.
    NoCall,
    /// It is addressed like the frame before, and there was none.
    NoFrameBefore,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark { found } => write!(f, "it begins with {found:#04x}, not {MARK:#04x}"),
            Self::TooLong { length } => {
                write!(f, "length {length}, at most {} are allowed", FRAME_BYTES_MAX - PREFIX_BYTES)
            }
            Self::TooShort { length } => write!(f, "length {length} is less than its header's"),
            Self::Flags { found } => write!(f, "flags that its kind does not have: {found:#04x}"),
            Self::NoCall => f.write_str("a call that was never used"),
            Self::NoFrameBefore => f.write_str("it is addressed like the frame before, and there was none"),
        }
    }
}

impl FrameReader {
    /// Reads the frame at the beginning of `bytes`. When it is a whole one, the next call must get what
    /// follows it.
    ///
    /// # Errors
    /// [`FrameError`]: what follows cannot be trusted any more.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> Result<Parsed, FrameError> {
        // WIRE-3: another protocol ends the connection, at its first byte: a stranger need not be waited for.
        if let Some(&found) = bytes.first().filter(|&&first| first & 0xF0 != MARK) {
            return Err(FrameError { what: Malformed::Mark { found }, at: 0 });
        }
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(Parsed::Need(PREFIX_BYTES - bytes.len()));
        };
        let rest = u32::from_le_bytes([prefix[2], prefix[3], prefix[4], 0]);
        // WIRE-4: the length is judged before anything is waited for.
        let length = rest as usize + PREFIX_BYTES;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError { what: Malformed::TooLong { length: rest }, at: AT_LENGTH });
        }
        let (minor, kind) = (prefix[0] & 0x0F, prefix[AT_KIND]);
        let header_bytes = header_bytes(minor, kind)?;
        if length < header_bytes {
            return Err(FrameError { what: Malformed::TooShort { length: rest }, at: AT_LENGTH });
        }
        let Some(frame) = bytes.get(..length) else { return Ok(Parsed::Need(length - bytes.len())) };
        let mut fields = Fields(&frame[PREFIX_BYTES..]);
        let call = if kind & HAS_CALL == 0 { None } else { Some(fields.call()?) };
        let refused = |reason| {
            let answer_to = call.filter(|_| kind & WANTS_ANSWER != 0);
            Ok(Parsed::Refused { refusal: FrameRefusal { reason, answer_to }, length })
        };
        // WIRE-3: what a newer minor version added is refused by itself.
        if minor > MINOR {
            self.last = None;
            return refused(RefusalReason::NewerMinor { minor });
        }
        let header = match (kind & !(HAS_TRACE | SAME_ADDRESS), call) {
            (TELL, None) => {
                let to = self.address(kind, &mut fields)?;
                Header::Tell { to, trace: fields.trace(kind) }
            }
            (ASK, Some(call)) => {
                let to = self.address(kind, &mut fields)?;
                let deadline_ms = fields.number();
                Header::Ask { to, trace: fields.trace(kind), call, deadline_ms }
            }
            (REPLY, Some(call)) => Header::Reply { call },
            (REFUSAL, Some(call)) => Header::Refusal { call },
            (CANCEL, Some(call)) => Header::Cancel { call },
            (TAKEN, None) => {
                let actor = fields.actor();
                Header::Taken { actor, tells: fields.number(), bytes: fields.number() }
            }
            (_, None | Some(_)) => {
                self.last = None;
                return refused(RefusalReason::UnknownKind { kind });
            }
        };
        Ok(Parsed::Frame { header, body: header_bytes..length })
    }

    #[inline]
    fn address(&mut self, kind: u8, fields: &mut Fields<'_>) -> Result<Address, FrameError> {
        if kind & SAME_ADDRESS == 0 {
            let actor = fields.actor();
            self.last = Some(Address { actor, message: MessageType(fields.number()) });
        }
        // A frame that is refused is followed by none that refers to it, or to one before it.
        self.last.ok_or(FrameError { what: Malformed::NoFrameBefore, at: AT_KIND })
    }
}

/// Bytes of the header of this kind; of one that is not known, as far as it can be read.
#[inline]
fn header_bytes(minor: u8, kind: u8) -> Result<usize, FrameError> {
    let flags = kind & (HAS_TRACE | SAME_ADDRESS);
    let address = if flags & SAME_ADDRESS == 0 { ADDRESS_BYTES } else { 0 };
    let trace = if flags & HAS_TRACE == 0 { 0 } else { TRACE_BYTES };
    let call = if kind & HAS_CALL == 0 { 0 } else { CALL_BYTES };
    Ok(PREFIX_BYTES
        + match kind & !flags {
            _ if minor > MINOR => call,
            TELL => address + trace,
            ASK => call + address + DEADLINE_BYTES + trace,
            REPLY | REFUSAL | CANCEL | TAKEN if flags != 0 => {
                return Err(FrameError { what: Malformed::Flags { found: flags }, at: AT_KIND });
            }
            TAKEN => TAKEN_BYTES,
            _ => call,
        })
}

/// What has not been read of a header. All of it is there.
struct Fields<'frame>(&'frame [u8]);

impl Fields<'_> {
    #[inline]
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return [0; BYTES] };
        self.0 = rest;
        *taken
    }

    #[inline]
    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    #[inline]
    fn actor(&mut self) -> TargetActor {
        TargetActor(u64::from_le_bytes(self.take()))
    }

    #[inline]
    fn call(&mut self) -> Result<CallId, FrameError> {
        let (slot, generation) = (self.number(), NonZeroU32::new(self.number()));
        let generation = generation.ok_or(FrameError { what: Malformed::NoCall, at: AT_CALL + 4 })?;
        Ok(CallId { slot, generation })
    }

    #[inline]
    fn trace(&mut self, kind: u8) -> Option<Trace> {
        if kind & HAS_TRACE == 0 {
            return None;
        }
        let (trace_id, span_id, [flags]) = (self.take(), self.take(), self.take());
        Some(Trace { trace_id, span_id, flags })
    }
}
