//! Reading frames.
//!
//! Owns what is let through, refused for itself, or ends the connection. Copies no body.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{
    AT_DEADLINE, AT_FLAGS, AT_GENERATION, AT_INCARNATION, AT_KIND, AT_LENGTH, AT_MESSAGE, AT_SLOT, AT_TARGET,
    AT_VERSION, CallId, FLAG_TRACE, FRAME_BYTES_MAX, HEADER_BYTES, Header, Kind, MAGIC, MAJOR, MINOR,
    MessageType, NO_DEADLINE, PREFIX_BYTES, TRACE_BYTES, TargetActor, Trace, WANTS_ANSWER,
};

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

/// [`Parsed`] for [`take`], which cuts what it returns off its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Not a whole frame yet: at least so many bytes are missing.
    Need(usize),
    /// A frame.
    Frame {
        /// Its header.
        header: Header,
        /// Its body, not copied.
        body: Bytes,
    },
    /// A frame that this node does not understand.
    Refused(FrameRefusal),
}

/// A frame is not understood, but the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FrameRefusal {
    /// Why.
    pub reason: RefusalReason,
    /// The call that waits for an answer: it must be told. `None` where nobody waits, so that no refusal is ever answered with a refusal.
    pub answer_to: Option<CallId>,
}

/// Why a frame is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusalReason {
    /// It was written by a newer version.
    #[error("a frame of version {MAJOR}.{minor}, this node speaks up to {MAJOR}.{MINOR}: upgrade it")]
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
    /// Its body's type is unknown.
    #[error("a message of the unknown type {message}")]
    UnknownMessage {
        /// The type.
        message: u32,
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
    Magic {
        /// What stood there.
        found: u8,
    },
    /// Another major version.
    Major {
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
    /// Flags that this version does not have.
    Flags {
        /// What stood there.
        found: u8,
    },
    /// An ask or answer without a call.
    NoCall,
    /// A tell with a call.
    CallInTell,
    /// No call, but a place for one.
    SlotWithoutCall,
    /// An ask that would wait for ever.
    NoDeadline,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { found } => write!(f, "it begins with {found:#04x}, not {MAGIC:#04x}"),
            Self::Major { found } => write!(f, "major version {found}, this node speaks {MAJOR}"),
            Self::TooLong { length } => {
                write!(f, "length {length}, at most {} are allowed", FRAME_BYTES_MAX - PREFIX_BYTES)
            }
            Self::TooShort { length } => write!(f, "length {length} is less than its header's"),
            Self::Flags { found } => write!(f, "unknown flags {found:#04x}"),
            Self::NoCall => f.write_str("an ask or an answer without a call"),
            Self::CallInTell => f.write_str("a tell with a call"),
            Self::SlotWithoutCall => f.write_str("a place in the table of calls, but no call"),
            Self::NoDeadline => f.write_str("an ask without a deadline"),
        }
    }
}

/// Reads the frame at the beginning of `bytes`. `knows` says which message types this node has; answers are not asked about, their callers know.
///
/// # Errors
/// [`FrameError`]: what follows cannot be trusted any more.
pub fn parse(bytes: &[u8], knows: impl FnOnce(MessageType) -> bool) -> Result<Parsed, FrameError> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        // The first bytes are judged at once: a stranger need not be waited for.
        judge_start(bytes)?;
        return Ok(Parsed::Need(PREFIX_BYTES - bytes.len()));
    };
    judge_start(prefix)?;
    let rest = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
    // WIRE-4: the length is judged before anything is waited for.
    let length = usize::try_from(rest).unwrap_or(usize::MAX).saturating_add(PREFIX_BYTES);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError { what: Malformed::TooLong { length: rest }, at: AT_LENGTH });
    }
    let minor = prefix[AT_VERSION] & 0x0F;
    let is_newer = minor > MINOR;
    let has_trace = prefix[AT_FLAGS] & FLAG_TRACE != 0 && !is_newer;
    let header_bytes = HEADER_BYTES + if has_trace { TRACE_BYTES } else { 0 };
    if length < header_bytes {
        return Err(FrameError { what: Malformed::TooShort { length: rest }, at: AT_LENGTH });
    }
    let Some(frame) = bytes.get(..length) else { return Ok(Parsed::Need(length - bytes.len())) };
    // `frame` has at least as many bytes.
    let Some(fixed) = frame.first_chunk::<HEADER_BYTES>() else { return Ok(Parsed::Need(1)) };
    let call = call_in(fixed)?;
    let refused = |reason| {
        let wants_answer = fixed[AT_KIND] & WANTS_ANSWER != 0;
        Ok(Parsed::Refused {
            refusal: FrameRefusal { reason, answer_to: call.filter(|_| wants_answer) },
            length,
        })
    };
    // WIRE-3: what a newer minor version added is refused by itself.
    if is_newer {
        return refused(RefusalReason::NewerMinor { minor });
    }
    let Some(kind) = Kind::from_byte(fixed[AT_KIND]) else {
        return refused(RefusalReason::UnknownKind { kind: fixed[AT_KIND] });
    };
    if fixed[AT_FLAGS] & !FLAG_TRACE != 0 {
        return Err(FrameError { what: Malformed::Flags { found: fixed[AT_FLAGS] }, at: AT_FLAGS });
    }
    let trace = if has_trace { trace_in(&frame[HEADER_BYTES..]) } else { None };
    let header = header_of(fixed, kind, call, trace);
    if let Some((at, what)) = header.fault() {
        return Err(FrameError { what, at });
    }
    if matches!(kind, Kind::Tell | Kind::Ask) && !knows(header.message) {
        return refused(RefusalReason::UnknownMessage { message: header.message.0 });
    }
    Ok(Parsed::Frame { header, body: header_bytes..length })
}

/// Cuts the frame at the beginning of `buffer` off it. A body shares the buffer's memory until it is dropped: decode it
/// before it waits anywhere, or a small body keeps a large buffer.
///
/// # Errors
/// [`FrameError`]: what follows cannot be trusted any more.
pub fn take(buffer: &mut BytesMut, knows: impl FnOnce(MessageType) -> bool) -> Result<Taken, FrameError> {
    match parse(buffer, knows)? {
        Parsed::Need(missing) => Ok(Taken::Need(missing)),
        Parsed::Frame { header, body } => {
            let mut frame = buffer.split_to(body.end).freeze();
            bytes::Buf::advance(&mut frame, body.start);
            Ok(Taken::Frame { header, body: frame })
        }
        Parsed::Refused { refusal, length } => {
            bytes::Buf::advance(buffer, length);
            Ok(Taken::Refused(refusal))
        }
    }
}

fn judge_start(bytes: &[u8]) -> Result<(), FrameError> {
    // WIRE-3: another protocol or major version ends the connection.
    if let Some(&found) = bytes.first().filter(|&&magic| magic != MAGIC) {
        return Err(FrameError { what: Malformed::Magic { found }, at: 0 });
    }
    if let Some(&version) = bytes.get(AT_VERSION).filter(|&&version| version >> 4 != MAJOR) {
        return Err(FrameError { what: Malformed::Major { found: version >> 4 }, at: AT_VERSION });
    }
    Ok(())
}

fn call_in(fixed: &[u8; HEADER_BYTES]) -> Result<Option<CallId>, FrameError> {
    let slot = u32_at(fixed, AT_SLOT);
    match NonZeroU32::new(u32_at(fixed, AT_GENERATION)) {
        Some(generation) => Ok(Some(CallId { slot, generation })),
        None if slot == 0 => Ok(None),
        None => Err(FrameError { what: Malformed::SlotWithoutCall, at: AT_SLOT }),
    }
}

fn header_of(fixed: &[u8; HEADER_BYTES], kind: Kind, call: Option<CallId>, trace: Option<Trace>) -> Header {
    let deadline = u32_at(fixed, AT_DEADLINE);
    Header {
        kind,
        target: TargetActor(u64_at(fixed, AT_TARGET)),
        incarnation: u64_at(fixed, AT_INCARNATION),
        call,
        message: MessageType(u32_at(fixed, AT_MESSAGE)),
        deadline_ms: (deadline != NO_DEADLINE).then_some(deadline),
        trace,
    }
}

fn trace_in(bytes: &[u8]) -> Option<Trace> {
    let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
    let (span_id, rest) = rest.split_first_chunk::<8>()?;
    Some(Trace { trace_id: *trace_id, span_id: *span_id, flags: *rest.first()? })
}

fn u32_at(fixed: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
}

fn u64_at(fixed: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(fixed, at)) | u64::from(u32_at(fixed, at + 4)) << 32
}
