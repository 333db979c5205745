//! Frames on a message lane: one small message of one actor to another.
//!
//! Owns the header and where each field stands. Refuses to know what a body means, who the actors are, and
//! how bytes travel.
//!
//! ```text
//! mark        1   0xA in the high half, the minor version in the low half
//! kind        1   bit 7: the sender waits for an answer; bit 6: a call follows; bit 5: a trace follows;
//!                 bit 4: actor and message type are those of the tell or ask before; bits 3..0 with 7 and 6: what it is for
//! length      3   of everything after this field; all numbers are little-endian
//! call        8   place 4, use 4; only with bit 6
//! address    12   actor 8, message type 4; of a tell or an ask, without bit 4
//! deadline    4   of an ask: what is left of it, in ms
//! taken      16   actor 8, tells 4, bytes of their bodies 4; of a word about tells that were taken
//! trace      25   trace id, span id, trace flags; only with bit 5
//! body            up to 64 KiB
//! ```
//!
//! A header takes 5 to 54 bytes. What all frames of a lane have in common, the start of the node that they go
//! to, stands at the lane's beginning and not here: each byte of a frame costs both ends some two nanoseconds
//! (docs/adr/0007).

mod parse;
mod write;

use std::num::NonZeroU32;

pub use parse::{FrameError, FrameReader, FrameRefusal, Malformed, Parsed, RefusalReason};
pub use write::FrameWriter;

use crate::codec::BODY_BYTES_MAX;

/// The high half of every frame's first byte. It begins no letter and no zero, so text and padding are
/// noticed at once.
pub const MARK: u8 = 0xA0;

/// A newer minor version may add kinds and message types, but moves neither length nor call.
pub const MINOR: u8 = 1;

/// Bytes before the rest that `length` counts.
pub const PREFIX_BYTES: usize = 5;

/// Bytes of the longest header.
pub const HEADER_BYTES_MAX: usize = PREFIX_BYTES + CALL_BYTES + ADDRESS_BYTES + DEADLINE_BYTES + TRACE_BYTES;

/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES_MAX + BODY_BYTES_MAX;

/// An actor, by the number under which its node offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetActor(pub u64);

/// What a body is, by the number that both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u32);

/// Who gets a message, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The actor.
    pub actor: TargetActor,
    /// What the body is.
    pub message: MessageType,
}

/// A call that waits for its answer: a place in the caller's table, and how often the place was used before.
/// A late answer to an earlier call in the same place is told apart by the generation.
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

/// Everything in front of a frame's body. WIRE-7: a tell has no call, everything else has one, and an ask has
/// a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A message without an answer.
    Tell {
        /// Who gets it.
        to: Address,
        /// The trace that it belongs to.
        trace: Option<Trace>,
    },
    /// A message that wants an answer.
    Ask {
        /// Who gets it.
        to: Address,
        /// The trace that it belongs to.
        trace: Option<Trace>,
        /// Which call of the sender the answer is for.
        call: CallId,
        /// How long the sender still waits, in milliseconds.
        deadline_ms: u32,
    },
    /// The answer to an ask.
    Reply {
        /// The call of the receiver that it answers.
        call: CallId,
    },
    /// An ask that is not answered, and why.
    Refusal {
        /// The call of the receiver that it ends.
        call: CallId,
    },
    /// The ask with this call is waited for no more. It has no body.
    Cancel {
        /// The call of the sender that has ended.
        call: CallId,
    },
    /// So many tells of the receiver have been taken, or lost. It has no body.
    Taken {
        /// By whom.
        actor: TargetActor,
        /// How many.
        tells: u32,
        /// Bytes of their bodies.
        bytes: u32,
    },
}

const CALL_BYTES: usize = 8;
const ADDRESS_BYTES: usize = 12;
const DEADLINE_BYTES: usize = 4;
const TRACE_BYTES: usize = 25;
const TAKEN_BYTES: usize = 16;

const WANTS_ANSWER: u8 = 0x80;
const HAS_CALL: u8 = 0x40;
const HAS_TRACE: u8 = 0x20;
const SAME_ADDRESS: u8 = 0x10;

const TELL: u8 = 0x01;
const REPLY: u8 = HAS_CALL | 0x02;
const REFUSAL: u8 = HAS_CALL | 0x03;
const TAKEN: u8 = 0x04;
const CANCEL: u8 = HAS_CALL | 0x04;
const ASK: u8 = WANTS_ANSWER | HAS_CALL | 0x01;

const AT_KIND: usize = 1;
const AT_LENGTH: usize = 2;
const AT_CALL: usize = PREFIX_BYTES;

#[cfg(test)]
mod tests;
