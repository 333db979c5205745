//! What every request can reach.
//!
//! Owns the node's facade, the way to other nodes' gateways, the settings, the metrics and the sign that the
//! gateway is stopping. Refuses to know routes.

use std::future::Future;
use std::sync::Arc;

use arw_actors::config::GatewaySettings;
use arw_actors::node::Node;
use arw_kit::moment::{Moment, WallTime};
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::openai::Trials;
use crate::peer::{PeerClient, Shares};

/// One gateway's state. A process may hold several.
pub(crate) type Gate = Arc<Shared>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: Node,
    pub(crate) settings: GatewaySettings,
    pub(crate) metrics: Metrics,
    /// HTTP to other nodes.
    pub(crate) peers: PeerClient,
    /// What other nodes do for this one.
    pub(crate) shares: Shares,
    /// Requests that engines may have died of.
    pub(crate) trials: Trials,
    /// HTTP-6: one permit for each event stream that may be open.
    pub(crate) event_streams: Arc<Semaphore>,
    /// HTTP-16: the same for other nodes.
    pub(crate) peer_event_streams: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(node: Node, settings: &GatewaySettings) -> Gate {
        let streams_max =
            usize::try_from(settings.event_streams_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let event_streams = Arc::new(Semaphore::new(streams_max));
        let metrics = Metrics::new(&node, &event_streams, streams_max);
        Arc::new(Self {
            metrics,
            peers: PeerClient::new(node.cluster.clone()),
            shares: Shares::default(),
            trials: Trials::new(node.system.clock()),
            settings: settings.clone(),
            event_streams,
            peer_event_streams: Arc::new(Semaphore::new((streams_max / 2).max(1))),
            stopping: watch::Sender::new(false),
            node,
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.node.system.clock().now()
    }

    pub(crate) fn wall(&self) -> WallTime {
        self.node.system.clock().wall()
    }

    /// Ends event streams and long polls.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// The gateway is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the gateway is stopping.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.subscribe();
        async move {
            if stopping.wait_for(|is_stopping| *is_stopping).await.is_err() {
                // The service is gone without having been stopped: whoever holds an answer of it may read on.
                std::future::pending::<()>().await;
            }
        }
    }
}
