//! Serves what other nodes ask.
//!
//! Owns the streams that members open: their number and their orderly end. Refuses to know what is asked
//! (`routes.rs`), and who is a member: the transport brings streams of members only.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use arw_actors::cluster::{PeerStream, StreamService};
use arw_actors::ids::NodeId;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::PeerNode;
use crate::front::Front;
use crate::server;
use crate::shared::Gate;

/// How many streams may be open at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// Of all nodes together.
    pub(crate) total: u32,
    /// Of one node: a node that asks without end leaves room for the others.
    pub(crate) per_node: u32,
}

impl PeerLimits {
    /// HTTP-16: as many as there may be connections of clients, and of these one node at most 256.
    pub(crate) fn of(connections_max: u64) -> Self {
        let total = u32::try_from(connections_max).unwrap_or(u32::MAX).min(STREAMS_MAX);
        Self { total, per_node: total.min(STREAMS_PER_NODE_MAX) }
    }
}

/// Fits the semaphore of every platform.
const STREAMS_MAX: u32 = 1 << 20;
/// Four times what a runtime lets wait.
const STREAMS_PER_NODE_MAX: u32 = 256;

/// Serves streams of other nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerService {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Gate,
    router: Router,
    limits: PeerLimits,
    permits: Arc<Semaphore>,
    places: Places,
    /// Streams come on the transport's threads; they are served on the gateway's.
    runtime: Handle,
    cut: watch::Sender<bool>,
}

impl fmt::Debug for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerService").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl PeerService {
    /// To be called within the tokio runtime that is to serve.
    pub(crate) fn new(gate: &Gate, limits: PeerLimits) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(limits.total).unwrap_or(usize::MAX)));
        let shared = Shared {
            gate: Arc::clone(gate),
            router: super::router(gate),
            limits,
            permits,
            places: Places { per_node: limits.per_node, open: Arc::default() },
            runtime: Handle::current(),
            cut: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Resolves when no stream is open any more.
    pub(crate) async fn drained(&self) {
        // The semaphore is never closed.
        let _ = self.shared.permits.acquire_many(self.shared.limits.total).await;
    }

    /// Drops every stream that is still open.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_replace(true);
    }
}

impl StreamService for PeerService {
    /// HTTP-16: beyond the limits, and once the gateway is stopping, a stream is dropped at once.
    fn serve(&self, from: NodeId, stream: Box<dyn PeerStream>) {
        let shared = &self.shared;
        if shared.gate.is_stopping() {
            return;
        }
        let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
            warn!(from = from.short(), "too many streams of other nodes are open; one more was dropped");
            return;
        };
        let Some(place) = shared.places.take(from) else {
            warn!(from = from.short(), "a node has too many streams open; one more was dropped");
            return;
        };
        shared.gate.metrics.peers.served(from);
        shared.runtime.spawn(serve(Arc::clone(shared), from, stream, place, permit));
    }
}

async fn serve(
    shared: Arc<Shared>,
    from: NodeId,
    stream: Box<dyn PeerStream>,
    _place: Place,
    _permit: OwnedSemaphorePermit,
) {
    let front = Front::for_peer(Arc::clone(&shared.gate), shared.router.clone(), from);
    let service = TowerToHyperService::new(front.map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(PeerNode(from));
        request.map(Body::new)
    }));
    let mut stream = TimeoutStream::new(stream);
    // HTTP-6, as for clients: what answers a node that reads nothing holds a place, and maybe an engine.
    stream.set_write_timeout(Some(server::STALL));
    let stream = TokioIo::new(Box::pin(stream));
    let served = server::builder(&shared.gate.settings).serve_connection(stream, service);
    let mut served = pin!(served);
    let mut cut = shared.cut.subscribe();
    let to_the_end = async {
        tokio::select! {
            ended = served.as_mut() => ended,
            () = shared.gate.stopping() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    };
    tokio::select! {
        ended = to_the_end => if let Err(error) = ended {
            // Requests are taken back all the time.
            debug!(from = from.short(), %error, "a stream of another node ended early");
        },
        _ = cut.wait_for(|is_cut| *is_cut) => {}
    }
}

/// How many streams each node has open.
struct Places {
    per_node: u32,
    open: Arc<Mutex<HashMap<NodeId, u32>>>,
}

/// One of a node's streams, while it lives.
struct Place {
    open: Arc<Mutex<HashMap<NodeId, u32>>>,
    node: NodeId,
}

impl Places {
    /// HTTP-16: `None` where the node has as many as it may.
    fn take(&self, node: NodeId) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(node).or_default();
        if *count >= self.per_node {
            return None;
        }
        *count += 1;
        Some(Place { open: Arc::clone(&self.open), node })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.node) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-16.
    #[test]
    fn a_node_that_asks_without_end_leaves_room_for_the_others() {
        let limits = PeerLimits::of(1_024);
        assert_eq!((limits.total, limits.per_node), (1_024, 256));
        let places = Places { per_node: 2, open: Arc::default() };
        let (greedy, modest) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let first = places.take(greedy).unwrap();
        let _second = places.take(greedy).unwrap();
        assert!(places.take(greedy).is_none());
        let other = places.take(modest).unwrap();
        drop(first);
        assert!(places.take(greedy).is_some());
        drop(other);
        assert!(!places.open.lock().unwrap().contains_key(&modest), "what is gone leaves nothing behind");
    }
}
