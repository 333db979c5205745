//! What a message is that crosses, and how sending one fails.
//!
//! Owns the traits of messages, an actor's number on the wire and the errors of handles. Refuses to know
//! connections.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{DecodeError, EncodeError};
use crate::frame::{MessageType, TargetActor, Trace};
use crate::identity::NodeId;
use crate::wire::ReplyRefusal;

/// A message without an answer, as it crosses. Its number and fields never change: what needs other fields
/// gets a new number and type.
pub trait RemoteTell: Serialize + DeserializeOwned + 'static {
    /// Its number, unique within the actor.
    const TYPE: MessageType;
}

/// A message with an answer, as both cross.
pub trait RemoteCall: Serialize + DeserializeOwned + 'static {
    /// Its number, unique within the actor; the answer has the same.
    const TYPE: MessageType;
    /// Its answer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// A message with many answers, as all cross. They come on a stream of their own, which holds up nobody else
/// where it is not read; beside that, each is as an answer to a [`RemoteCall`].
pub trait RemoteStream: Serialize + DeserializeOwned + 'static {
    /// Its number, unique within the actor; the answers have the same.
    const TYPE: MessageType;
    /// One of its answers.
    type Item: Serialize + DeserializeOwned + Send + 'static;
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node. It is a member: its connection proved that.
    pub node: NodeId,
    /// The trace that the message belongs to.
    pub trace: Option<Trace>,
}

/// LANE-5: an actor's number on the wire is the beginning of its name's SHA-256.
#[must_use]
pub fn target_of(name: &str) -> TargetActor {
    let hash = digest(&SHA256, name.as_bytes());
    let first = hash.as_ref().first_chunk::<8>();
    // A SHA-256 has 32 bytes.
    TargetActor(first.map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

/// A node cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeDown {
    /// There is no connection to it now.
    #[error("the node is not connected")]
    NotConnected,
    /// The connection ended. What was sent over it may have had its effect.
    #[error("the connection to the node was lost")]
    ConnectionLost,
    /// The node has started anew, and the handle is bound to an earlier start.
    #[error("the node has started anew: start {now}, the handle is bound to start {bound}")]
    Restarted {
        /// The start that the handle is bound to.
        bound: u64,
        /// The latest start known.
        now: u64,
    },
}

/// A tell was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteTellError {
    /// As much as may already waits for the node to read, or for the actor to handle.
    #[error("too much waits for the actor, or to be sent to its node")]
    Overloaded,
    /// The node cannot be reached.
    #[error(transparent)]
    Down(#[from] NodeDown),
    /// The message cannot be sent at all.
    #[error(transparent)]
    Write(EncodeError),
}

/// Why an ask has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteAskError {
    /// As much as may already waits for the node, to be sent or to be answered. Nothing was sent.
    #[error("too much waits for the node already")]
    Overloaded,
    /// The node refuses, or its actor does.
    #[error("{reason}{}", if .detail.is_empty() { String::new() } else { format!(": {}", .detail) })]
    Refused {
        /// Why.
        reason: ReplyRefusal,
        /// More about it, for people.
        detail: String,
    },
    /// No answer came in time. The message may be handled later, or be skipped if it had not been begun.
    #[error("no answer within {0:?}")]
    Expired(Duration),
    /// The node cannot be reached any more. Where the message was sent before, it may have had its effect.
    #[error(transparent)]
    Down(#[from] NodeDown),
    /// The message cannot be sent at all.
    #[error(transparent)]
    Write(EncodeError),
    /// The answer is not what was expected: the two nodes disagree about its type.
    #[error("the answer cannot be understood: {0}")]
    Answer(DecodeError),
}

/// A watch was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteMonitorError {
    /// As much as may already waits for the node, or is watched on it.
    #[error("too much waits for the node already")]
    Overloaded,
    /// The node cannot be reached.
    #[error(transparent)]
    Down(#[from] NodeDown),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_5_a_name_has_the_same_number_on_every_node() {
        // LANE-5
        // The first eight bytes of the hash of "abc", which stands in FIPS 180.
        assert_eq!(
            target_of("abc"),
            TargetActor(u64::from_be_bytes([0xea, 0xcf, 0x01, 0x8f, 0xbf, 0x16, 0x78, 0xba]))
        );
        assert_ne!(target_of("counter"), target_of("Counter"));
    }
}
