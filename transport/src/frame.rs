//! Frames on a message lane: one small message of one actor to another.
//!
//! Owns the header and where each field stands. Refuses to know what a body means, who the actors are, and how bytes travel.
//!
//! ```text
//!  0  magic 0xA7       1
//!  1  version          1   major in the high half, minor in the low half
//!  2  kind             1   the highest bit: the sender waits for an answer
//!  3  flags            1   1: a trace follows the fixed header
//!  4  length           4   of everything after this field; all numbers are little-endian
//!  8  target actor     8
//! 16  incarnation      8   of the node that the frame goes to
//! 24  call slot        4
//! 28  call generation  4   0: no call
//! 32  message type     4
//! 36  deadline left    4   in ms; 0xFFFF_FFFF: none
//! 40  trace           25   trace id, span id, trace flags; only with flag 1
//!     body                 up to 64 KiB
//! ```

mod parse;
mod write;

use std::num::NonZeroU32;

pub use parse::{FrameError, FrameRefusal, Malformed, Parsed, RefusalReason, Taken, parse, take};
pub use write::{FrameWriter, WriteError};

use crate::codec::BODY_BYTES_MAX;

/// The first byte of every frame. It is no letter, no zero and no valid start of UTF-8, so text and padding are noticed at once.
pub const MAGIC: u8 = 0xA7;

/// Peers with another major version cannot talk at all: everything in this file may differ.
pub const MAJOR: u8 = 1;

/// A newer minor version may add kinds, flags and message types, but moves no field of the fixed header.
pub const MINOR: u8 = 0;

/// Bytes before the rest that `length` counts.
pub const PREFIX_BYTES: usize = 8;

/// Bytes of a header without a trace.
pub const HEADER_BYTES: usize = 40;

/// Bytes of a trace.
pub const TRACE_BYTES: usize = 25;

/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + TRACE_BYTES + BODY_BYTES_MAX;

const FLAG_TRACE: u8 = 1;
const WANTS_ANSWER: u8 = 0x80;
const NO_DEADLINE: u32 = u32::MAX;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A message without an answer.
    Tell = 0x01,
    /// The answer to an ask.
    Reply = 0x02,
    /// An ask that is not answered, and why.
    Refusal = 0x03,
    /// A message that wants an answer.
    Ask = 0x80 | 0x01,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Tell, Self::Reply, Self::Refusal, Self::Ask].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// An actor, by the number under which its node offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetActor(pub u64);

/// What a body is, by the number that both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u32);

/// A call that waits for its answer: a place in the caller's table, and how often the place was used before. A late answer to an earlier
/// call in the same place is told apart by the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The place.
    pub slot: u32,
    /// The use, counted from 1.
    pub generation: NonZeroU32,
}

/// The trace that a message belongs to, as in W3C `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The sender's span.
    pub span_id: [u8; 8],
    /// 1: sampled.
    pub flags: u8,
}

/// Everything in front of a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// Who gets it. Of an answer: who gave it.
    pub target: TargetActor,
    /// Which start of the receiving node it is for. Another start never gets it.
    pub incarnation: u64,
    /// The call; of the sender in an ask, of the receiver in an answer. A tell has none, everything else has one.
    pub call: Option<CallId>,
    /// What the body is.
    pub message: MessageType,
    /// How long the sender still waits, in milliseconds. An ask has one.
    pub deadline_ms: Option<u32>,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

impl Header {
    /// Bytes of this header.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + if self.trace.is_some() { TRACE_BYTES } else { 0 }
    }

    /// What is wrong with it, if anything: the rule is the same for who writes and who reads.
    fn fault(&self) -> Option<(usize, Malformed)> {
        // WIRE-7: a tell has no call, everything else has one, and an ask has a deadline.
        match (self.kind, self.call, self.deadline_ms) {
            (Kind::Tell, Some(_), _) => Some((AT_GENERATION, Malformed::CallInTell)),
            (Kind::Ask | Kind::Reply | Kind::Refusal, None, _) => Some((AT_GENERATION, Malformed::NoCall)),
            (Kind::Ask, Some(_), None) => Some((AT_DEADLINE, Malformed::NoDeadline)),
            (Kind::Tell, None, _)
            | (Kind::Ask, Some(_), Some(_))
            | (Kind::Reply | Kind::Refusal, Some(_), _) => None,
        }
    }
}

const AT_VERSION: usize = 1;
const AT_KIND: usize = 2;
const AT_FLAGS: usize = 3;
const AT_LENGTH: usize = 4;
const AT_TARGET: usize = 8;
const AT_INCARNATION: usize = 16;
const AT_SLOT: usize = 24;
const AT_GENERATION: usize = 28;
const AT_MESSAGE: usize = 32;
const AT_DEADLINE: usize = 36;

#[cfg(test)]
mod tests;
