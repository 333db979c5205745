//! ractor_cluster between two node servers, over one QUIC stream: a counting actor, as ours is measured.
//!
//! Started by `remote.rs`; reads lines `TEST COUNT` and answers each with `TEST FIGURE…`. Both ends in one
//! process, a thread and a current-thread runtime each, on endpoints like ours. It ends with its standard
//! input. Refuses to know targets.

#[path = "../../bare.rs"]
mod bare;
#[path = "../../../../../actors/benches/kit/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the kit serves other benchmarks too")]
mod kit;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bare::{cpu_time, micros, millions, runtime};
use kit::now;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NodeEventSubscription, NodeServer, NodeServerMessage,
    RactorClusterMessage,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::BufReader;
use tokio::sync::oneshot;

const SERVER_NAME: &str = "server.invalid";
const PATIENCE: Duration = Duration::from_secs(10);
/// Casts before a call, as ours: nothing else would hold the sender back.
const WINDOW: usize = 16 * 1024;
const IN_FLIGHT: usize = 1_000;
const BODY: usize = 64;

fn main() {
    let (certificate, key) = self_signed();
    let (told, address) = std::sync::mpsc::sync_channel(1);
    let (server_certificate, server_key) = (certificate.clone(), key.clone_key());
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let endpoint = endpoint(&server_certificate, server_key);
            told.send(endpoint.local_addr().unwrap()).unwrap();
            serve(endpoint.accept().await.unwrap().await.unwrap()).await;
        });
    });
    let address = address.recv().unwrap();
    let runtime = runtime();
    let client = runtime.block_on(async {
        let endpoint = endpoint(&certificate, key);
        let client = Client::start(&endpoint, address);
        tokio::time::timeout(PATIENCE, client).await.unwrap()
    });
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (test, count) = line.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        let figures = match test {
            "round_trip" => runtime.block_on(client.round_trips(count)).to_vec(),
            "one_way" => vec![runtime.block_on(client.one_way(count))],
            "asks_in_flight" => runtime.block_on(client.asks(count)).to_vec(),
            _ => panic!("no test is called {test}"),
        };
        let figures: Vec<_> = figures.iter().map(f64::to_string).collect();
        println!("{test} {}", figures.join(" "));
    }
}

fn self_signed() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    (made.cert.der().clone(), PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()))
}

/// The cipher is rustls's first choice, as a node's is.
fn endpoint(certificate: &CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Endpoint {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = &[&rustls::version::TLS13];
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    bare::endpoint(server, client)
}

#[derive(RactorClusterMessage)]
enum CounterMessage {
    Note(Vec<u8>),
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
    #[rpc]
    Count(RpcReplyPort<u64>),
}

struct Counter;

impl Actor for Counter {
    type Msg = CounterMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CounterMessage>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMessage>,
        message: CounterMessage,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMessage::Note(body) => *count += u64::from(body.len() == BODY),
            CounterMessage::Echo(body, reply) => {
                let _ = reply.send(body);
            }
            CounterMessage::Count(reply) => {
                let _ = reply.send(std::mem::take(count));
            }
        }
        Ok(())
    }
}

/// One QUIC stream as ractor_cluster wants it.
struct Stream(SendStream, RecvStream);

impl ClusterBidiStream for Stream {
    /// With a read buffer: it reads a length of 8 bytes, then a body, each of which would else be a visit to
    /// the connection.
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let Self(send, recv) = *self;
        (Box::new(BufReader::with_capacity(64 * 1024, recv)), Box::new(send))
    }
}

/// Its own listener for TCP is of no use here, and listens on a port that nobody is told.
async fn node(name: &str) -> ActorRef<NodeServerMessage> {
    // Hosts differ, or both would take the other for themselves.
    let host = format!("{name}.invalid");
    let mode = NodeConnectionMode::Isolated;
    let server = NodeServer::new(0, "a secret".into(), name.into(), host, None, Some(mode))
        .with_listen_addr(Ipv4Addr::LOCALHOST.into());
    Actor::spawn(None, server, ()).await.unwrap().0
}

async fn serve(connection: Connection) {
    // It lives as long as the process, and is the only actor here that a node shows to others.
    let _counter = Actor::spawn(None, Counter, ()).await.unwrap();
    let node = node("server").await;
    let (send, recv) = connection.accept_bi().await.unwrap();
    let stream = Box::new(Stream(send, recv));
    node.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server: true }).unwrap();
    let _ = connection.closed().await;
}

/// Tells who waits for it that the nodes know each other's actors.
struct Ready(std::sync::Mutex<Option<oneshot::Sender<NodeServerSessionInformation>>>);

impl NodeEventSubscription for Ready {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}
    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        panic!("lost {session:?}");
    }
    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        let waiting = self.0.lock().unwrap().take();
        if let Some(waiting) = waiting {
            // Who waits may have given up.
            let _ = waiting.send(session);
        }
    }
}

struct Client {
    counter: ActorRef<CounterMessage>,
    _node: ActorRef<NodeServerMessage>,
    _connection: Connection,
}

impl Client {
    async fn start(endpoint: &Endpoint, address: SocketAddr) -> Self {
        let connection = endpoint.connect(address, SERVER_NAME).unwrap().await.unwrap();
        let node = node("client").await;
        let (told, ready) = oneshot::channel();
        let subscription = Box::new(Ready(std::sync::Mutex::new(Some(told))));
        let subscribe = NodeServerMessage::SubscribeToEvents { id: "bench".into(), subscription };
        node.cast(subscribe).unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        ractor_cluster::client_connect_external(&node, Box::new(Stream(send, recv))).await.unwrap();
        // Actors belong to the process, and the ids that both nodes have for the other's counter are the
        // same: only the session tells them apart.
        let seen = ready.await.unwrap().actor.get_children();
        let counter = seen.into_iter().find(|child| !child.get_id().is_local());
        Self { counter: counter.unwrap().into(), _node: node, _connection: connection }
    }

    async fn round_trips(&self, count: usize) -> [f64; 2] {
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let began = now();
            echo(&self.counter).await;
            samples.push(began.elapsed());
        }
        [micros(&mut samples, 0.5), micros(&mut samples, 0.99)]
    }

    async fn one_way(&self, count: usize) -> f64 {
        let (mut counted, mut left) = (0, count);
        let began = cpu_time();
        while left > 0 {
            let window = left.min(WINDOW);
            for _ in 0..window {
                self.counter.cast(CounterMessage::Note(vec![7; BODY])).unwrap();
            }
            match self.counter.call(CounterMessage::Count, Some(PATIENCE)).await.unwrap() {
                CallResult::Success(more) => counted += more,
                other => panic!("no count: {other:?}"),
            }
            left -= window;
        }
        assert_eq!(counted, count as u64, "some were lost");
        millions(count, began)
    }

    async fn asks(&self, count: usize) -> [f64; 2] {
        let each = count / IN_FLIGHT;
        let began = cpu_time();
        let askers: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let counter = self.counter.clone();
                tokio::spawn(async move {
                    let mut samples = Vec::with_capacity(each);
                    for _ in 0..each {
                        let began = now();
                        echo(&counter).await;
                        samples.push(began.elapsed());
                    }
                    samples
                })
            })
            .collect();
        let mut samples = Vec::with_capacity(count);
        for asker in askers {
            samples.extend(asker.await.unwrap());
        }
        [millions(each * IN_FLIGHT, began), micros(&mut samples, 0.99)]
    }
}

async fn echo(counter: &ActorRef<CounterMessage>) {
    let asked = counter.call(|reply| CounterMessage::Echo(vec![7; BODY], reply), Some(PATIENCE)).await;
    match asked.unwrap() {
        CallResult::Success(body) => assert_eq!(body.len(), BODY),
        other => panic!("no answer: {other:?}"),
    }
}
