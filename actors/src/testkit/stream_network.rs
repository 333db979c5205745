//! Nodes of one process that reach each other: a [`Transport`] over memory.
//!
//! Owns who is connected, and the streams' ends when that is over. Real connections are tested with real
//! ones.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

use crate::cluster::{
    ClusterError, ClusterErrorKind, CreatedToken, JoinTokenRow, JoinedCluster, OpenError, PeerStream,
    StreamService, TokenOrder, Transport, TransportStatus,
};
use crate::ids::NodeId;

/// What lies in a stream on its way; a real one has a window, too.
const STREAM_BYTES: usize = 64 * 1024;

/// The nodes of a test and what connects them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StreamNetwork {
    nodes: Arc<Mutex<HashMap<NodeId, Place>>>,
}

#[derive(Debug)]
struct Place {
    service: Arc<dyn StreamService>,
    /// Counts how often its streams were cut.
    cuts: watch::Sender<u64>,
    is_away: bool,
    opened: usize,
}

impl StreamNetwork {
    /// No nodes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a node into the network: streams to it come to `service`. Returns its way to the others.
    pub fn attach(&self, node: NodeId, service: Arc<dyn StreamService>) -> Arc<dyn Transport> {
        let place = Place { service, cuts: watch::Sender::new(0), is_away: false, opened: 0 };
        self.nodes.lock().insert(node, place);
        Arc::new(MemoryTransport { network: self.clone(), node })
    }

    /// Breaks every stream to a node. New ones come through.
    pub fn cut(&self, node: NodeId) {
        self.place(node, |place| place.cuts.send_modify(|cuts| *cuts += 1));
    }

    /// From now on there is no connection to a node, or there is one again.
    pub fn set_away(&self, node: NodeId, is_away: bool) {
        self.place(node, |place| place.is_away = is_away);
    }

    /// How many streams were opened to a node.
    #[must_use]
    pub fn opened(&self, node: NodeId) -> usize {
        self.place(node, |place| place.opened)
    }

    fn place<T>(&self, node: NodeId, see: impl FnOnce(&mut Place) -> T) -> T {
        match self.nodes.lock().get_mut(&node) {
            Some(place) => see(place),
            None => panic!("node {} is not in the network", node.short()),
        }
    }

    fn open(&self, from: NodeId, to: NodeId) -> Result<Box<dyn PeerStream>, OpenError> {
        let mut nodes = self.nodes.lock();
        let place = nodes.get_mut(&to).ok_or(OpenError::Unknown(to))?;
        if place.is_away {
            return Err(OpenError::NotConnected(to));
        }
        place.opened += 1;
        let (near, far) = tokio::io::duplex(STREAM_BYTES);
        let (service, cuts) = (Arc::clone(&place.service), place.cuts.clone());
        drop(nodes);
        service.serve(from, Box::new(MemoryStream::new(far, &cuts)));
        Ok(Box::new(MemoryStream::new(near, &cuts)))
    }
}

/// One node's way to the others.
#[derive(Debug)]
struct MemoryTransport {
    network: StreamNetwork,
    node: NodeId,
}

fn no_cluster<T: Send + 'static>() -> BoxFuture<'static, Result<T, ClusterError>> {
    let error = ClusterError {
        kind: ClusterErrorKind::Failed,
        message: "this network is made of memory: it has no tokens and no members".to_owned(),
        help: "use real nodes".to_owned(),
    };
    ready(Err(error)).boxed()
}

impl Transport for MemoryTransport {
    fn open(&self, node: NodeId, _: Duration) -> BoxFuture<'static, Result<Box<dyn PeerStream>, OpenError>> {
        ready(self.network.open(self.node, node)).boxed()
    }

    fn status(&self) -> TransportStatus {
        TransportStatus::default()
    }

    fn create_token(&self, _: TokenOrder) -> BoxFuture<'static, Result<CreatedToken, ClusterError>> {
        no_cluster()
    }

    fn tokens(&self) -> BoxFuture<'static, Result<Vec<JoinTokenRow>, ClusterError>> {
        no_cluster()
    }

    fn revoke_token(&self, _: String) -> BoxFuture<'static, Result<JoinTokenRow, ClusterError>> {
        no_cluster()
    }

    fn join(&self, _: String) -> BoxFuture<'static, Result<JoinedCluster, ClusterError>> {
        no_cluster()
    }

    fn remove(&self, _: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        no_cluster()
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), ClusterError>> {
        no_cluster()
    }
}

/// One end of a stream. It breaks when it is cut, as a stream does whose connection is lost.
struct MemoryStream {
    stream: DuplexStream,
    cut: BoxFuture<'static, ()>,
    is_cut: bool,
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream").field("is_cut", &self.is_cut).finish_non_exhaustive()
    }
}

impl MemoryStream {
    fn new(stream: DuplexStream, cuts: &watch::Sender<u64>) -> Self {
        let mut cuts = cuts.subscribe();
        let cut = async move {
            // Without its sender it was cut, too.
            let _ = cuts.changed().await;
        };
        Self { stream, cut: cut.boxed(), is_cut: false }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.poll_unpin(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
