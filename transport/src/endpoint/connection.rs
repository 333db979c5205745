//! A connection between two members, as others hold it.
//!
//! Owns how streams are opened on it. Refuses to know whether it is the only one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::control_queue::{ControlQueue, SendControlError};
use super::services::StreamPurpose;
use super::stream::PeerStream;
use crate::certificate::SignedRevocation;
use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::wire::{CloseCode, Control, GoodbyeReason, HelloRefusal, StreamRefusal};

/// A connection with a member. It stays usable as a value after the connection has ended: everything then
/// fails.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    incarnation: u64,
    wire: Wire,
    queue: ControlQueue,
}

/// What a connection goes over: QUIC, or in a test what the test says.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    Quinn(quinn::Connection),
    #[cfg(test)]
    Scripted(Arc<super::core::tests::scripted::ScriptedWire>),
}

impl Wire {
    /// Where the peer is now.
    pub(super) fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quinn(quinn) => canonical(quinn.remote_address()),
            #[cfg(test)]
            Self::Scripted(wire) => wire.remote,
        }
    }

    /// Neither side has ended it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Quinn(quinn) => quinn.close_reason().is_none(),
            #[cfg(test)]
            Self::Scripted(wire) => wire.is_open(),
        }
    }

    /// Closes with a code, and what follows from it as the reason.
    pub(super) fn close(&self, code: CloseCode, reason: &[u8]) {
        match self {
            Self::Quinn(quinn) => quinn.close(code.into(), reason),
            #[cfg(test)]
            Self::Scripted(wire) => wire.close(code, reason),
        }
    }

    /// Whether it could be sent.
    pub(super) fn send_datagram(&self, datagram: Bytes) -> bool {
        match self {
            Self::Quinn(quinn) => quinn.send_datagram(datagram).is_ok(),
            #[cfg(test)]
            Self::Scripted(wire) => wire.send_datagram(datagram),
        }
    }

    fn answered(&self) -> u64 {
        match self {
            Self::Quinn(quinn) => quinn.stats().frame_rx.acks,
            #[cfg(test)]
            Self::Scripted(wire) => wire.answered(),
        }
    }
}

/// A stream was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No such node is known.
    #[error("no such node is known")]
    UnknownNode,
    /// The node is known, but not connected.
    #[error("the node is not connected")]
    NotConnected,
    /// All streams that the peer allows are in use, for as long as was waited.
    #[error("all streams that the node allows are in use")]
    Busy,
    /// The peer took the stream, but not its first byte, for as long as was waited.
    #[error("the node did not take the stream in time")]
    TimedOut,
    /// A stream of this purpose goes the other number of ways.
    #[error("such a stream is opened in another way")]
    WrongDirection,
}

impl PeerConnection {
    pub(super) fn new(peer: &Peer, wire: Wire) -> Self {
        let (node, incarnation) = (peer.id, peer.incarnation);
        Self { inner: Arc::new(Inner { node, incarnation, wire, queue: ControlQueue::default() }) }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    /// The node at the other end.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Which start of it.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.inner.incarnation
    }

    /// Queues a message on the control stream. Never waits.
    ///
    /// # Errors
    /// [`SendControlError`]. When the peer has not read for so long that the queue is full, the connection is
    /// closed.
    pub fn send_control(&self, message: &Control) -> Result<(), SendControlError> {
        let queued = self.inner.queue.push(message);
        if queued == Err(SendControlError::Stalled) {
            // WIRE-19: what was queued can never be taken back, so what is missing cannot be told either.
            self.close(CloseCode::Goodbye(GoodbyeReason::Stalled));
        }
        queued
    }

    pub(super) fn queue(&self) -> &ControlQueue {
        &self.inner.queue
    }

    pub(super) fn close(&self, code: CloseCode) {
        self.inner.wire.close(code, code.to_string().as_bytes());
    }

    pub(super) fn close_with_proof(&self, code: CloseCode, proof: Option<&SignedRevocation>) {
        close_with_proof(&self.inner.wire, code, proof);
    }

    /// The QUIC connection, for lanes. Each stream that is opened on it begins with its
    /// [`StreamPurpose::byte`].
    #[must_use]
    pub fn quinn(&self) -> &quinn::Connection {
        match &self.inner.wire {
            Wire::Quinn(quinn) => quinn,
            #[cfg(test)]
            Wire::Scripted(_) => unreachable!("a script has no streams"),
        }
    }

    /// Where the peer is now.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.wire.remote_address()
    }

    /// How often the peer has confirmed that something arrived, by packets that nobody else can make.
    pub(super) fn answered(&self) -> u64 {
        self.inner.wire.answered()
    }

    /// The round-trip time, smoothed.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.quinn().rtt()
    }

    /// Opens a stream in both directions, and waits at most `within` for the peer to have room for it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, purpose: StreamPurpose, within: Duration) -> Result<PeerStream, OpenError> {
        if purpose.is_one_way() {
            return Err(OpenError::WrongDirection);
        }
        let opened = timeout(within, self.quinn().open_bi()).await.map_err(|_| OpenError::Busy)?;
        let (mut send, receive) = opened.map_err(|_| OpenError::NotConnected)?;
        begin(&mut send, purpose, within).await?;
        Ok(PeerStream::new(self.node(), send, receive))
    }
}

/// WIRE-16: a stream begins with what it is for.
async fn begin(
    send: &mut quinn::SendStream,
    purpose: StreamPurpose,
    within: Duration,
) -> Result<(), OpenError> {
    drop(send.set_priority(purpose.priority()));
    let written = timeout(within, send.write_all(&[purpose.byte()])).await;
    let outcome = match written {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(_)) => OpenError::NotConnected,
        Err(_) => OpenError::TimedOut,
    };
    drop(send.reset(StreamRefusal::Cancelled.stream_code().into()));
    Err(outcome)
}

/// Closes with a verdict as code, and its words for whoever reads a packet trace.
pub(super) fn close(connection: &quinn::Connection, code: CloseCode) {
    connection.close(code.into(), code.to_string().as_bytes());
}

/// WIRE-21: closes with `removed` in one form or another, and with the proof of it as the reason. Nobody
/// believes the code without it.
pub(super) fn close_with_proof(wire: &Wire, code: CloseCode, proof: Option<&SignedRevocation>) {
    wire.close(code, proof.map_or(b"", SignedRevocation::as_bytes));
}

/// What a peer closed with as the proof that this node was removed. It proves nothing before it is verified.
pub(super) fn proof_in(error: &quinn::ConnectionError) -> Option<Vec<u8>> {
    let quinn::ConnectionError::ApplicationClosed(close) = error else { return None };
    match CloseCode::from_code(close.error_code.into_inner()) {
        CloseCode::Goodbye(GoodbyeReason::Removed) | CloseCode::Hello(HelloRefusal::Removed) => {
            Some(close.reason.to_vec())
        }
        CloseCode::Goodbye(_)
        | CloseCode::Hello(_)
        | CloseCode::Join(_)
        | CloseCode::Malformed
        | CloseCode::Unlisted(_) => None,
    }
}

/// WIRE-25: closes because of another start of the peer, and says where that one is. It is for people:
/// nothing follows from it.
pub(super) fn close_with_address(wire: &Wire, code: CloseCode, elsewhere: Option<SocketAddr>) {
    let text = elsewhere.map(|address| address.to_string()).unwrap_or_default();
    wire.close(code, text.as_bytes());
}

/// The connection was closed because of another start of this node: where that one is, and whether it is a
/// copy with the same incarnation.
pub(super) fn another_start_in(error: &quinn::ConnectionError) -> Option<(Option<SocketAddr>, bool)> {
    let quinn::ConnectionError::ApplicationClosed(close) = error else { return None };
    let is_copy = match CloseCode::from_code(close.error_code.into_inner()) {
        CloseCode::Hello(HelloRefusal::OldIncarnation) => false,
        CloseCode::Hello(HelloRefusal::Copied) | CloseCode::Goodbye(GoodbyeReason::Copied) => true,
        CloseCode::Hello(_)
        | CloseCode::Goodbye(_)
        | CloseCode::Join(_)
        | CloseCode::Malformed
        | CloseCode::Unlisted(_) => return None,
    };
    Some((address_in(&close.reason), is_copy))
}

/// The address that a peer closed with, if it is one.
pub(super) fn address_in(reason: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(reason).ok()?.parse().ok()
}

/// An IPv4 address as such, also when the socket speaks IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
