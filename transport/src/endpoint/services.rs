//! What others do with a connection between two members.
//!
//! Owns the words for it: what a stream is for, and the port [`PeerServices`]. Refuses to know who stands
//! behind the port.

use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::wire::{CloseCode, Control, GoodbyeReason, StreamRefusal};

use super::connection::PeerConnection;
use super::stream::PeerStream;

/// What a stream is for: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamPurpose {
    /// Framed messages between actors, one way.
    Lane = 1,
    /// A request between nodes and its answer, as HTTP.
    Service = 2,
    /// A large body, which gives way to everything else.
    Blob = 3,
    /// One message to an actor and its many answers.
    Answers = 4,
}

impl StreamPurpose {
    /// The byte with which such a stream begins.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// What a stream with this first byte is for. `None`: only a newer version knows.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Lane),
            2 => Some(Self::Service),
            3 => Some(Self::Blob),
            4 => Some(Self::Answers),
            _ => None,
        }
    }

    /// Such a stream goes one way only.
    #[must_use]
    pub const fn is_one_way(self) -> bool {
        matches!(self, Self::Lane)
    }

    /// Of several streams that have something to send, the one with the highest goes first.
    pub(super) const fn priority(self) -> i32 {
        match self {
            Self::Lane | Self::Service | Self::Answers => 0,
            Self::Blob => -1,
        }
    }
}

/// A stream that a peer opened; its purpose has been read off it.
#[derive(Debug)]
pub enum InboundStream {
    /// The peer sends.
    OneWay(quinn::RecvStream),
    /// Both send.
    TwoWay(PeerStream),
}

impl InboundStream {
    /// Gives it back to the peer with a reason.
    pub fn refuse(self, reason: StreamRefusal) {
        match self {
            Self::OneWay(mut stream) => drop(stream.stop(reason.stream_code().into())),
            Self::TwoWay(stream) => stream.refuse(reason),
        }
    }
}

/// What a node does with its peers, besides knowing them.
///
/// Everything is called on the network's own thread, one after the other, and must not wait for anything:
/// whatever takes time belongs into a task elsewhere. For one peer the calls come in order: up, then streams
/// and messages, then down. A new connection in the place of an old one is a down and an up.
pub trait PeerServices: Send + Sync + 'static {
    /// A connection with a member stands: both have accepted each other.
    fn peer_up(&self, peer: &Peer, connection: PeerConnection);

    /// It is over.
    fn peer_down(&self, node: NodeId, incarnation: u64, reason: &PeerDownReason);

    /// The peer opened a stream.
    fn stream(&self, peer: &Peer, purpose: StreamPurpose, stream: InboundStream);

    /// The peer sent a message that is none of the endpoint's: `Monitor`, `Demonitor`, `Down`.
    fn control(&self, peer: &Peer, message: Control);
}

/// Serves nothing: every stream is refused, every message ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoServices;

impl PeerServices for NoServices {
    fn peer_up(&self, _peer: &Peer, _connection: PeerConnection) {}

    fn peer_down(&self, _node: NodeId, _incarnation: u64, _reason: &PeerDownReason) {}

    fn stream(&self, _peer: &Peer, _purpose: StreamPurpose, stream: InboundStream) {
        stream.refuse(StreamRefusal::NotServed);
    }

    fn control(&self, _peer: &Peer, _message: Control) {}
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerDownReason {
    /// The peer ended it.
    #[error("the peer ended the connection: {0}")]
    Goodbye(GoodbyeReason),
    /// This node ended it.
    #[error("this node ended the connection: {0}")]
    Closed(GoodbyeReason),
    /// One of the two got bytes that are not the protocol.
    #[error("the connection was ended because of bytes that are not the protocol")]
    Malformed,
    /// Nothing came from the peer for as long as a connection may be silent, or since it was asked for a sign
    /// of life.
    #[error("the peer does not answer")]
    TimedOut,
    /// The peer has forgotten the connection: it was started anew.
    #[error("the peer has forgotten the connection")]
    Reset,
    /// Something else.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl PeerDownReason {
    /// Why quinn says that a connection is over, when this node did not end it.
    pub(super) fn of(error: &quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                match CloseCode::from_code(close.error_code.into_inner()) {
                    CloseCode::Goodbye(reason) => Self::Goodbye(reason),
                    CloseCode::Malformed => Self::Malformed,
                    other => Self::Lost(other.to_string()),
                }
            }
            quinn::ConnectionError::TimedOut => Self::TimedOut,
            quinn::ConnectionError::Reset => Self::Reset,
            other => Self::Lost(other.to_string()),
        }
    }

    /// The peer may be gone. A connection that gives way to another one says nothing about that.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Goodbye(reason) | Self::Closed(reason) => {
                !matches!(reason, GoodbyeReason::Replaced | GoodbyeReason::Moving)
            }
            Self::Malformed | Self::TimedOut | Self::Reset | Self::Lost(_) => true,
        }
    }
}
