//! Nodes with endpoints, connected as after a hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::Handle;
use arw_kit::supervision::ActorSystem;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
};
use tokio::sync::{Notify, mpsc};

use super::actor::{CounterMessage, counter, offer};
use super::network::Network;
use crate::endpoint::{PeerStream, StreamPurpose};
use crate::identity::{NodeId, NodeKey, SeededCrypto};
use crate::lanes::stream_start;
use crate::remote::{ControlFull, ControlOut, Exports, Link, Links, PeerUp, RemoteHandle, RemoteOptions};
use crate::wire::Control;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// One start of a node, with a counter on offer.
pub(super) struct Node {
    pub(super) key: NodeKey,
    pub(super) incarnation: u64,
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
    pub(super) links: Arc<Links>,
    pub(super) system: ActorSystem,
    pub(super) counter: Handle<CounterMessage>,
}

#[derive(Clone, Copy)]
pub(super) struct NodeSpec {
    pub(super) number: u8,
    pub(super) incarnation: u64,
    pub(super) mailbox: u32,
    pub(super) options: RemoteOptions,
}

impl NodeSpec {
    pub(super) fn new(number: u8) -> Self {
        Self { number, incarnation: 1, mailbox: 100_000, options: RemoteOptions::default() }
    }
}

impl Node {
    pub(super) async fn start(network: &Network, spec: NodeSpec) -> Self {
        let address =
            SocketAddr::from(([10, 0, 0, spec.number], 7000 + u16::try_from(spec.incarnation).unwrap()));
        let socket = network.socket(address);
        let key = NodeKey::from_seed(&[spec.number; 32]).unwrap();
        let crypto = crypto_of(network.seed(), &spec);
        let keys = key.endpoint_keys();
        let tls = QuicServerConfig::try_from(crypto.tls_server(&key).unwrap()).unwrap();
        let mut server = ServerConfig::new(Arc::new(tls), Arc::new(keys.retry));
        server.transport_config(transport());
        let mut config = EndpointConfig::new(Arc::new(keys.reset));
        config.rng_seed(Some(crypto.bytes())).cid_generator(move || crypto.connection_ids());
        let mut endpoint =
            Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime)).unwrap();
        let mut client = client_config(crypto.tls_client(&key).unwrap());
        client.initial_dst_cid_provider(Arc::new(move || crypto.first_destination()));
        endpoint.set_default_client_config(client);
        Self::with(endpoint, address, key, spec).await
    }

    /// A node whose endpoint is on a real socket.
    pub(super) async fn on_loopback(spec: NodeSpec) -> Self {
        let key = NodeKey::from_seed(&[spec.number; 32]).unwrap();
        let mut server = ServerConfig::with_crypto(Arc::new(
            QuicServerConfig::try_from(key.tls_server().unwrap()).unwrap(),
        ));
        server.transport_config(transport());
        let mut endpoint = Endpoint::server(server, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(client_config(key.tls_client().unwrap()));
        let address = endpoint.local_addr().unwrap();
        Self::with(endpoint, address, key, spec).await
    }

    async fn with(endpoint: Endpoint, address: SocketAddr, key: NodeKey, spec: NodeSpec) -> Self {
        let (system, counter) = counter(spec.mailbox).await;
        let exports = Arc::new(Exports::new());
        exports.offer(offer("counter", &counter)).unwrap();
        let links = Arc::new(Links::new(spec.incarnation, system.clock(), exports, spec.options));
        Self { key, incarnation: spec.incarnation, address, endpoint, links, system, counter }
    }

    pub(super) fn id(&self) -> NodeId {
        self.key.id()
    }

    /// The counter of another node.
    pub(super) fn counter_of(&self, other: &Self) -> RemoteHandle {
        self.links.handle(other.id(), "counter").unwrap()
    }

    /// The node stops existing, without a word.
    pub(super) fn vanish(self, network: &Network) {
        network.unplug(self.address);
    }
}

/// The chance of one start of a node in one network.
fn crypto_of(network: u64, spec: &NodeSpec) -> SeededCrypto {
    let mut seed = [spec.number; 32];
    seed[..8].copy_from_slice(&network.to_be_bytes());
    seed[8..16].copy_from_slice(&spec.incarnation.to_be_bytes());
    SeededCrypto::new(seed)
}

fn client_config(tls: rustls::ClientConfig) -> ClientConfig {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(transport());
    config
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some((3 * SECOND).try_into().unwrap()));
    transport.keep_alive_interval(Some(SECOND));
    // One stream that is not read could take the whole of it.
    transport.stream_receive_window((256_u32 * 1024).into());
    transport.receive_window((256_u32 * 1024).into());
    transport.send_window(256 * 1024);
    Arc::new(transport)
}

/// Both ends of a connection.
pub(super) async fn dial(from: &Node, to: &Node) -> (Connection, Connection) {
    let connecting = from.endpoint.connect(to.address, &crate::identity::server_name(&to.id())).unwrap();
    let (near, far) = tokio::join!(connecting, async { to.endpoint.accept().await.unwrap().await });
    (near.unwrap(), far.unwrap())
}

/// A control stream that is a queue in memory.
struct Queue {
    out: mpsc::Sender<Control>,
    connection: Connection,
}

impl ControlOut for Queue {
    fn try_send(&self, message: &Control) -> Result<(), ControlFull> {
        self.out.try_send(message.clone()).map_err(|_| ControlFull)
    }

    fn give_up(&self) {
        self.connection.close(1_u32.into(), b"control");
    }
}

/// Connects two nodes as their hello would, each believing what it is told of the other's start.
pub(super) async fn connect_as(
    (one, one_is): (&Node, u64),
    (two, two_is): (&Node, u64),
) -> (Arc<Link>, Arc<Link>) {
    let (near, far) = dial(one, two).await;
    let (to_two, at_two) = mpsc::channel(8);
    let (to_one, at_one) = mpsc::channel(8);
    let one_link = up(one, (two.id(), two_is), near, to_two, at_one);
    let two_link = up(two, (one.id(), one_is), far, to_one, at_two);
    (one_link, two_link)
}

pub(super) async fn connect(one: &Node, two: &Node) -> (Arc<Link>, Arc<Link>) {
    connect_as((one, one.incarnation), (two, two.incarnation)).await
}

fn up(
    own: &Node,
    (node, incarnation): (NodeId, u64),
    connection: Connection,
    out: mpsc::Sender<Control>,
    control: mpsc::Receiver<Control>,
) -> Arc<Link> {
    up_until(own, (node, incarnation), connection, out, control, std::future::pending())
}

/// [`up`], as long as the endpoint keeps the connection.
fn up_until(
    own: &Node,
    (node, incarnation): (NodeId, u64),
    connection: Connection,
    out: mpsc::Sender<Control>,
    mut control: mpsc::Receiver<Control>,
    let_go: impl Future<Output = ()> + Send + 'static,
) -> Arc<Link> {
    let link = own.links.peer_up(PeerUp {
        node,
        incarnation,
        connection: connection.clone(),
        control: Arc::new(Queue { out, connection: connection.clone() }),
        runtime: tokio::runtime::Handle::current(),
    });
    let (links, accepting) = (Arc::clone(&own.links), Arc::clone(&link));
    tokio::spawn(async move {
        let mut let_go = std::pin::pin!(let_go);
        loop {
            tokio::select! {
                biased;
                () = &mut let_go => break,
                Some(message) = control.recv() => assert!(accepting.control(&message)),
                stream = connection.accept_uni() => {
                    let Ok(mut stream) = stream else { break };
                    let mut purpose = [0];
                    // A stream that ends before its first byte is none.
                    if stream.read_exact(&mut purpose).await.is_ok() {
                        assert_eq!(purpose, [StreamPurpose::Lane.byte()]);
                        accepting.accept(stream);
                    }
                }
                stream = connection.accept_bi() => {
                    let Ok((send, mut receive)) = stream else { break };
                    let mut purpose = [0];
                    if receive.read_exact(&mut purpose).await.is_ok() {
                        assert_eq!(purpose, [StreamPurpose::Answers.byte()]);
                        accepting.accept_answers(PeerStream::new(node, send, receive));
                    }
                }
            }
        }
        links.peer_down(node, incarnation);
    });
    link
}

/// A peer that speaks QUIC, and beyond that does only what a test lets it do.
pub(super) struct Stranger {
    pub(super) id: NodeId,
    pub(super) connection: Connection,
    /// How the node sees it.
    pub(super) link: Arc<Link>,
    kept: Arc<Notify>,
    _endpoint: Endpoint,
}

impl Stranger {
    pub(super) const INCARNATION: u64 = 5;

    pub(super) async fn start(network: &Network, node: &Node) -> Self {
        let other = Node::start(network, NodeSpec::new(200)).await;
        let (connection, far) = dial(&other, node).await;
        // Both ends of the control stream stay open and say nothing.
        let (out, _quiet) = mpsc::channel(8);
        let (quiet, control) = mpsc::channel(8);
        let kept = Arc::new(Notify::new());
        let let_go = Arc::clone(&kept).notified_owned();
        let link = up_until(node, (other.id(), Self::INCARNATION), far, out, control, let_go);
        tokio::spawn(async move {
            let _quiet = (_quiet, quiet);
            std::future::pending::<()>().await;
        });
        Self { id: other.id(), connection, link, kept, _endpoint: other.endpoint }
    }

    /// The node's endpoint keeps the connection no longer.
    pub(super) fn let_go(&self) {
        self.kept.notify_one();
    }

    /// A lane to a node that has been started once.
    pub(super) async fn open_lane(&self) -> quinn::SendStream {
        self.open_lane_to(1).await
    }

    pub(super) async fn open_lane_to(&self, incarnation: u64) -> quinn::SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(&stream_start(StreamPurpose::Lane, incarnation)).await.unwrap();
        stream
    }

    /// Reads whatever comes from now on.
    pub(super) fn read_all(&self) {
        let connection = self.connection.clone();
        tokio::spawn(async move {
            while let Ok(mut stream) = connection.accept_uni().await {
                tokio::spawn(async move { while let Ok(Some(_)) = stream.read_chunk(65_536, true).await {} });
            }
        });
    }

    /// The first lane that the node opened.
    pub(super) async fn read_first(&self) -> ReadLane {
        let mut stream = self.connection.accept_uni().await.unwrap();
        let mut start = [0; 9];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(start, stream_start(StreamPurpose::Lane, Self::INCARNATION), "LANE-1");
        ReadLane { stream, bytes: Vec::new() }
    }
}

pub(super) struct ReadLane {
    stream: quinn::RecvStream,
    pub(super) bytes: Vec<u8>,
}

impl ReadLane {
    pub(super) async fn more(&mut self) {
        let chunk = self.stream.read_chunk(65_536, true).await.unwrap().unwrap();
        self.bytes.extend_from_slice(&chunk.bytes);
    }
}
