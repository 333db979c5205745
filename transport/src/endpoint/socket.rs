//! A UDP socket that can be given back while others still hold connections over it.
//!
//! Owns that alone. A connection that somebody keeps would otherwise keep the port, and a node that starts
//! anew could not have it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::RwLock;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// A socket until it is released.
#[derive(Debug)]
pub(super) struct ReleasableSocket {
    address: SocketAddr,
    inner: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
}

impl ReleasableSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>) -> io::Result<Self> {
        Ok(Self { address: inner.local_addr()?, inner: RwLock::new(Some(inner)) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing is sent or received any more, and the port is free.
    pub(super) fn release(&self) {
        *self.inner.write() = None;
    }
}

fn released() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket was given back")
}

impl AsyncUdpSocket for ReleasableSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(ReleasablePoller { socket: self, inner: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.read().as_ref().map_or_else(|| Err(released()), |socket| socket.try_send(transmit))
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let inner = self.inner.read();
        inner.as_ref().map_or(Poll::Pending, |socket| socket.poll_recv(context, buffers, meta))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.read().as_ref().map_or(1, |socket| socket.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.read().as_ref().map_or(1, |socket| socket.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.inner.read().as_ref().is_none_or(|socket| socket.may_fragment())
    }
}

/// Holds the socket only while it waits.
struct ReleasablePoller {
    socket: Arc<ReleasableSocket>,
    inner: Option<Pin<Box<dyn UdpPoller>>>,
}

impl UdpPoller for ReleasablePoller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = self.socket.inner.read().clone() else { return Poll::Ready(Err(released())) };
        let poller = self.inner.get_or_insert_with(|| socket.create_io_poller());
        let polled = poller.as_mut().poll_writable(context);
        if polled.is_ready() {
            self.inner = None;
        }
        polled
    }
}

impl fmt::Debug for ReleasablePoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReleasablePoller")
    }
}
