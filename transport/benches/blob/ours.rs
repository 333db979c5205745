//! Two endpoints as nodes have them: one serves blobs, the other fetches them.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_transport::blob::{Blob, BlobId, BlobServer, BlobSource, ServeLimits, WantedBlob, fetch};
use arw_transport::certificate::{CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Role, Roles};
use arw_transport::endpoint::{
    Credentials, Endpoint, EndpointEvents, EndpointHandle, EndpointOptions, InboundStream, Known, Limits,
    NoServices, PeerConnection, PeerDownReason, PeerServices, StreamPurpose,
};
use arw_transport::handshake::Peer;
use arw_transport::identity::NodeId;
use arw_transport::membership::MembershipConfig;
use arw_transport::wire::Control;
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::ends::key;

const WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Ours {
    /// As a node's: the network has a thread of its own.
    runtime: Runtime,
    client: EndpointHandle,
    server: NodeId,
    id: BlobId,
    length: u64,
    _events: [EndpointEvents; 2],
    _server: (EndpointHandle, Runtime),
}

struct OneBlob(BlobId, Bytes);

impl BlobSource for OneBlob {
    fn open(&self, id: BlobId) -> Option<Blob> {
        (id == self.0)
            .then(|| Blob { length: self.1.len() as u64, content: Box::new(Cursor::new(self.1.clone())) })
    }
}

struct Blobs(BlobServer);

impl PeerServices for Blobs {
    fn peer_up(&self, _: &Peer, _: PeerConnection) {}

    fn peer_down(&self, _: NodeId, _: u64, _: &PeerDownReason) {}

    fn stream(&self, _: &Peer, _: StreamPurpose, stream: InboundStream) {
        if let InboundStream::TwoWay(stream) = stream {
            self.0.serve(stream);
        }
    }

    fn control(&self, _: &Peer, _: Control) {}
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Ours {
    pub(crate) fn start(body: Bytes) -> Self {
        let (id, length) = (BlobId::of(&body), body.len() as u64);
        let serving = runtime();
        let blobs =
            BlobServer::new(Arc::new(OneBlob(id, body)), ServeLimits::default(), serving.handle().clone());
        let (server, server_events) = node(21, Arc::new(Blobs(blobs)), None);
        let known = Known { node: server.id(), addresses: vec![server.local_addr()] };
        let (client, client_events) = node(22, Arc::new(NoServices), Some(known));
        let began = crate::kit::now();
        while client.connection(server.id()).is_none() {
            assert!(began.elapsed() < WITHIN, "the nodes do not meet");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self {
            runtime: runtime(),
            client,
            server: server.id(),
            id,
            length,
            _events: [server_events, client_events],
            _server: (server, serving),
        }
    }

    pub(crate) fn fetch(&self) {
        let (client, server, id, length) = (self.client.clone(), self.server, self.id, self.length);
        let fetching = self.runtime.spawn(async move {
            let stream = client.open(server, StreamPurpose::Blob, WITHIN).await.unwrap();
            fetch(stream, WantedBlob::new(id, length), tokio::io::sink(), |_| {}).await.unwrap()
        });
        let fetched = self.runtime.block_on(fetching).unwrap();
        assert_eq!(fetched.length, self.length);
    }
}

fn node(seed: u8, services: Arc<dyn PeerServices>, known: Option<Known>) -> (EndpointHandle, EndpointEvents) {
    let cluster = ClusterKey::from_seed(&[1; 32]).unwrap();
    let (key, clock) = (Arc::new(key(seed)), Clock::system());
    let roles = Roles::from_iter([Role::Worker]);
    let certificate = cluster.certify(key.id(), roles, u64::from(seed), clock.wall(), CERTIFICATE_LIFETIME);
    let revoked = RevocationSet::default();
    Endpoint::start(EndpointOptions {
        key,
        incarnation: 1,
        name: format!("node-{seed}"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: None,
        credentials: Credentials { certificate, cluster_key: cluster.public(), revoked, issuer: None },
        issuer: None,
        known: known.into_iter().collect(),
        limits: Limits::default(),
        membership: MembershipConfig::default(),
        clock,
        services,
    })
    .unwrap()
}
