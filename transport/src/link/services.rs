//! Hands what members open to whoever serves it.
//!
//! Owns which purpose goes where: HTTP to the gateway, messages to the actors that this node offers. Refuses
//! what nobody serves.

use std::sync::Arc;

use arw_actors::cluster::StreamService;
use tokio::runtime::Handle;
use tracing::debug;

use crate::endpoint::{InboundStream, PeerConnection, PeerDownReason, PeerServices, StreamPurpose};
use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::remote::{ControlFull, ControlOut, Links, PeerUp};
use crate::wire::{CloseCode, Control, GoodbyeReason, StreamRefusal};

pub(super) struct Services {
    service: Arc<dyn StreamService>,
    /// The network's own thread serves nobody.
    runtime: Handle,
    links: Arc<Links>,
}

impl Services {
    /// To be called in the runtime that serves.
    pub(super) fn new(service: Arc<dyn StreamService>, links: Arc<Links>) -> Self {
        Self { service, runtime: Handle::current(), links }
    }
}

impl PeerServices for Services {
    fn peer_up(&self, peer: &Peer, connection: PeerConnection) {
        self.links.peer_up(PeerUp {
            node: peer.id,
            incarnation: peer.incarnation,
            connection: connection.quinn().clone(),
            control: Arc::new(ControlStream(connection)),
            // Lanes are read and written beside the connection that carries them.
            runtime: Handle::current(),
        });
    }

    fn peer_down(&self, node: NodeId, incarnation: u64, _: &PeerDownReason) {
        self.links.peer_down(node, incarnation);
    }

    fn stream(&self, peer: &Peer, purpose: StreamPurpose, stream: InboundStream) {
        match (purpose, stream) {
            (StreamPurpose::Service, InboundStream::TwoWay(stream)) => {
                let _entered = self.runtime.enter();
                self.service.serve(peer.id, Box::new(stream));
            }
            (StreamPurpose::Lane, InboundStream::OneWay(stream)) => match self.links.link(peer.id) {
                Some(link) => link.accept(stream),
                None => debug!(node = %peer.id.short(), "a lane of a connection that is gone"),
            },
            (StreamPurpose::Answers, InboundStream::TwoWay(stream)) => match self.links.link(peer.id) {
                Some(link) => link.accept_answers(stream),
                None => stream.refuse(StreamRefusal::NotServed),
            },
            (_, InboundStream::TwoWay(stream)) => stream.refuse(StreamRefusal::NotServed),
            // Dropped, which tells the peer to stop.
            (_, InboundStream::OneWay(_)) => {}
        }
    }

    fn control(&self, peer: &Peer, message: Control) {
        if let Some(link) = self.links.link(peer.id)
            && !link.control(&message)
        {
            debug!(node = %peer.id.short(), "a control message that nobody serves");
        }
    }
}

/// The control stream, for what remote actors have to say on it.
struct ControlStream(PeerConnection);

impl ControlOut for ControlStream {
    fn try_send(&self, message: &Control) -> Result<(), ControlFull> {
        self.0.send_control(message).map_err(|_| ControlFull)
    }

    fn give_up(&self) {
        let code = CloseCode::Goodbye(GoodbyeReason::Stalled);
        self.0.quinn().close(code.into(), b"the control stream takes nothing more");
    }
}
