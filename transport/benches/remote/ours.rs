//! A supervised actor on one node, tells and asks with deadlines from another.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::mailbox::{Actor, Context, Fault, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem};
use arw_transport::frame::MessageType;
use arw_transport::identity::NodeId;
use arw_transport::remote::{
    ControlFull, ControlOut, Exports, Link, Links, Offer, PeerUp, RemoteCall, RemoteHandle, RemoteOptions,
    RemoteTell,
};
use arw_transport::wire::Control;
use quinn::{Connection, Endpoint};
use serde::{Deserialize, Serialize};

use crate::ends::{cpu_time, dial, endpoint, key, micros, millions, server};
use crate::kit::now;

const SEED: u8 = 21;
const PATIENCE: Duration = Duration::from_secs(10);
/// Tells before an ask.
const WINDOW: usize = 16 * 1024;

/// 63 bytes: a number above 32 bits takes nine.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Note([u64; 7]);
impl RemoteTell for Note {
    const TYPE: MessageType = MessageType(1);
}

/// The same, and as much back.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Echo([u64; 7]);
impl RemoteCall for Echo {
    const TYPE: MessageType = MessageType(2);
    type Reply = Echo;
}

#[derive(Serialize, Deserialize)]
struct Count;
impl RemoteCall for Count {
    const TYPE: MessageType = MessageType(3);
    type Reply = u64;
}

const NOTE: Note = Note([u64::MAX; 7]);
const ECHO: Echo = Echo([u64::MAX; 7]);

struct Counter(u64);

enum CounterMessage {
    Note(Note),
    Echo(Echo, Reply<Echo>),
    Count(Reply<u64>),
}
arw_kit::message!(CounterMessage { Note, Echo, Count });

impl Actor for Counter {
    type Message = CounterMessage;
    type Args = ();
    const KIND: &'static str = "counter";

    async fn start((): &(), _: &mut Context<CounterMessage>) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    async fn handle(
        &mut self,
        message: CounterMessage,
        _: &mut Context<CounterMessage>,
    ) -> Result<(), Fault> {
        match message {
            CounterMessage::Note(note) => self.0 += u64::from(note.0[0] == u64::MAX),
            CounterMessage::Echo(echo, reply) => {
                let _ = reply.send(echo);
            }
            CounterMessage::Count(reply) => {
                let _ = reply.send(std::mem::take(&mut self.0));
            }
        }
        Ok(())
    }
}

pub(crate) struct Ours {
    counter: RemoteHandle,
    _links: Links,
    _endpoint: Endpoint,
}

impl Ours {
    pub(crate) async fn start() -> Self {
        let address = server(SEED, serve);
        let endpoint = endpoint(SEED + 1);
        let connection = dial(&endpoint, address, SEED).await;
        let links = Links::new(1, Clock::system(), Arc::new(Exports::new()), RemoteOptions::default());
        up(&links, key(SEED).id(), connection);
        let counter = links.handle(key(SEED).id(), "counter").unwrap();
        Self { counter, _links: links, _endpoint: endpoint }
    }

    pub(crate) async fn round_trips(&self, count: usize) -> [f64; 2] {
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let began = now();
            self.counter.ask(&ECHO, PATIENCE).await.unwrap();
            samples.push(began.elapsed());
        }
        [micros(&mut samples, 0.5), micros(&mut samples, 0.99)]
    }

    /// With an ask after every [`WINDOW`] tells, so that none meets a full mailbox on a busy machine.
    pub(crate) async fn one_way(&self, count: usize) -> f64 {
        let (mut counted, mut left) = (0, count);
        let began = cpu_time();
        while left > 0 {
            let window = left.min(WINDOW);
            for _ in 0..window {
                self.counter.tell(&NOTE, PATIENCE).await.unwrap();
            }
            counted += self.counter.ask(&Count, PATIENCE).await.unwrap();
            left -= window;
        }
        assert_eq!(counted, count as u64, "some were lost");
        millions(count, began)
    }

    pub(crate) async fn asks(&self, count: usize) -> (f64, f64) {
        let each = count / crate::IN_FLIGHT;
        let began = cpu_time();
        let askers: Vec<_> = (0..crate::IN_FLIGHT)
            .map(|_| {
                let counter = self.counter.clone();
                tokio::spawn(async move {
                    let mut samples = Vec::with_capacity(each);
                    for _ in 0..each {
                        let began = now();
                        counter.ask(&ECHO, PATIENCE).await.unwrap();
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
        (millions(each * crate::IN_FLIGHT, began), micros(&mut samples, 0.99))
    }
}

async fn serve(connection: Connection) {
    let system = ActorSystem::new("node");
    let mut root = system.root();
    let counter = root.actor(ActorSpec::<Counter>::new("counter", ()).mailbox(64 * 1024));
    system.start(root).await.unwrap();
    let exports = Arc::new(Exports::new());
    let offer = Offer::new("counter", &counter)
        .tell(|note: Note, _| CounterMessage::Note(note))
        .call(|echo: Echo, _, reply| CounterMessage::Echo(echo, reply), |echo| echo)
        .call(|Count, _, reply| CounterMessage::Count(reply), |count| count);
    exports.offer(offer).unwrap();
    let links = Links::new(1, Clock::system(), exports, RemoteOptions::default());
    up(&links, key(SEED + 1).id(), connection.clone());
    let _ = connection.closed().await;
}

struct NoControl;

impl ControlOut for NoControl {
    fn try_send(&self, _: &Control) -> Result<(), ControlFull> {
        Err(ControlFull)
    }

    fn give_up(&self) {}
}

fn up(links: &Links, node: NodeId, connection: Connection) -> Arc<Link> {
    let link = links.peer_up(PeerUp {
        node,
        incarnation: 1,
        connection: connection.clone(),
        control: Arc::new(NoControl),
        runtime: tokio::runtime::Handle::current(),
    });
    let accepting = Arc::clone(&link);
    tokio::spawn(async move {
        while let Ok(mut stream) = connection.accept_uni().await {
            let mut purpose = [0];
            stream.read_exact(&mut purpose).await.unwrap();
            accepting.accept(stream);
        }
    });
    link
}
