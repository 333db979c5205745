//! A stream between two members.
//!
//! Owns what happens when it is dropped half-way. Refuses to know what flows.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::identity::NodeId;
use crate::wire::StreamRefusal;

/// A stream in both directions. Whoever drops it before `shutdown()` has given up: both directions are reset,
/// and the peer's reads and writes fail. After `shutdown()` what was written arrives in full; dropping it
/// then only says that no more is read.
pub struct PeerStream {
    node: NodeId,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    is_shut: bool,
    is_read: bool,
}

impl PeerStream {
    pub(crate) fn new(node: NodeId, send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self { node, send, receive, is_shut: false, is_read: false }
    }

    /// The node at the other end.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn set_priority(&self, priority: i32) {
        drop(self.send.set_priority(priority));
    }

    /// Sends bytes without copying them. Dropped before it is done, part of them may have been taken.
    pub(crate) async fn write_chunk(&mut self, bytes: Bytes) -> io::Result<()> {
        Ok(self.send.write_chunk(bytes).await?)
    }

    /// Resolves when the peer reads no more, or the connection has ended; or, with `true`, when everything
    /// until `shutdown()` has arrived.
    pub(crate) fn stopped(&self) -> impl Future<Output = bool> + Send + use<> {
        let stopped = self.send.stopped();
        async move { matches!(stopped.await, Ok(None)) }
    }

    /// Gives it up with a reason for the peer.
    pub fn refuse(mut self, reason: StreamRefusal) {
        self.end(reason);
    }

    fn end(&mut self, reason: StreamRefusal) {
        let code = reason.stream_code().into();
        if !self.is_shut {
            self.is_shut = true;
            // Quinn's own drop would finish the stream, as if all had been said.
            drop(self.send.reset(code));
        }
        if !self.is_read {
            self.is_read = true;
            drop(self.receive.stop(code));
        }
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        // WIRE-16
        self.end(StreamRefusal::Cancelled);
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        ready!(AsyncRead::poll_read(Pin::new(&mut self.receive), context, buffer))?;
        if has_room && buffer.filled().len() == before {
            self.is_read = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.send), context))?;
        self.is_shut = true;
        Poll::Ready(Ok(()))
    }
}
