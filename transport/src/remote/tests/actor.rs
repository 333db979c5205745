//! An actor that others reach, and what crosses to it.

use std::time::Duration;

use arw_kit::life::Backoff;
use arw_kit::mailbox::{Actor, Context, Fault, Handle, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem};
use serde::{Deserialize, Serialize};

use crate::frame::{MessageType, Trace};
use crate::identity::NodeId;
use crate::remote::{Offer, RemoteCall, RemoteTell};

/// Notes a number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bump(pub(crate) u64);
impl RemoteTell for Bump {
    const TYPE: MessageType = MessageType(1);
}

/// Every number noted, with where it came from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sum;
impl RemoteCall for Sum {
    const TYPE: MessageType = MessageType(2);
    type Reply = Vec<(u8, u64)>;
}

/// Notes a number and answers it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Echo(pub(crate) u64, pub(crate) Vec<u8>);
impl RemoteCall for Echo {
    const TYPE: MessageType = MessageType(3);
    type Reply = Echo;
}

/// Does something unusual.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Odd {
    Panic,
    Forget,
    Sleep(u64),
    Trace,
    Long,
    /// Is at work for as long as somebody waits for the answer.
    Wait,
}
impl RemoteCall for Odd {
    const TYPE: MessageType = MessageType(4);
    type Reply = Vec<u8>;
}

/// Keeps the actor busy for so many milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Doze(pub(crate) u64);
impl RemoteTell for Doze {
    const TYPE: MessageType = MessageType(5);
}

/// Never offered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Secret;
impl RemoteCall for Secret {
    const TYPE: MessageType = MessageType(99);
    type Reply = ();
}

/// Another idea of what an [`Echo`] is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mistaken(pub(crate) u8);
impl RemoteCall for Mistaken {
    const TYPE: MessageType = MessageType(3);
    type Reply = Mistaken;
}

pub(crate) enum CounterMessage {
    Note(u8, u64),
    Sum(Reply<Vec<(u8, u64)>>),
    Echo(u8, Echo, Reply<Echo>),
    Odd(Odd, Option<Trace>, Reply<Vec<u8>>),
    Doze(Duration),
    Stop,
}
arw_kit::message!(CounterMessage { Note, Sum, Echo, Odd, Doze, Stop });

impl From<Bump> for CounterMessage {
    fn from(Bump(number): Bump) -> Self {
        Self::Note(0, number)
    }
}

#[derive(Default)]
pub(crate) struct Counter(Vec<(u8, u64)>);

impl Actor for Counter {
    type Message = CounterMessage;
    type Args = ();
    const KIND: &'static str = "counter";

    async fn start((): &(), _: &mut Context<CounterMessage>) -> Result<Self, Fault> {
        Ok(Self::default())
    }

    async fn handle(
        &mut self,
        message: CounterMessage,
        context: &mut Context<CounterMessage>,
    ) -> Result<(), Fault> {
        match message {
            CounterMessage::Note(from, number) => self.0.push((from, number)),
            CounterMessage::Sum(reply) => {
                let _ = reply.send(self.0.clone());
            }
            CounterMessage::Echo(from, echo, reply) => {
                self.0.push((from, echo.0));
                let _ = reply.send(echo);
            }
            CounterMessage::Doze(time) => tokio::time::sleep(time).await,
            CounterMessage::Stop => context.stop(),
            CounterMessage::Odd(odd, trace, mut reply) => match odd {
                Odd::Panic => panic!("boom"),
                Odd::Forget => drop(reply),
                Odd::Sleep(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    let _ = reply.send(vec![1]);
                }
                Odd::Trace => {
                    let _ = reply.send(trace.map_or(Vec::new(), |trace| trace.trace_id.to_vec()));
                }
                Odd::Wait => {
                    reply.abandoned().await;
                    assert!(reply.is_abandoned() && !reply.send(vec![2]));
                    self.0.push((0, 99));
                }
                Odd::Long => {
                    let _ = reply.send(vec![7; crate::codec::BODY_BYTES_MAX]);
                }
            },
        }
        Ok(())
    }
}

/// A counter in a system of its own.
pub(crate) async fn counter(mailbox: u32) -> (ActorSystem, Handle<CounterMessage>) {
    let system = ActorSystem::new("node");
    let mut root = system.root().backoff(Backoff::NONE);
    let counter = root.actor(ActorSpec::<Counter>::new("counter", ()).mailbox(mailbox));
    system.start(root).await.unwrap();
    (system, counter)
}

fn first(node: NodeId) -> u8 {
    node.as_bytes()[0]
}

/// Everything that a counter offers.
pub(crate) fn offer(name: &str, counter: &Handle<CounterMessage>) -> Offer<CounterMessage> {
    Offer::new(name, counter)
        .tell(|Bump(number), origin| CounterMessage::Note(first(origin.node), number))
        .tell(|Doze(millis), _| CounterMessage::Doze(Duration::from_millis(millis)))
        .call(|Sum, _, reply| CounterMessage::Sum(reply), |sum| sum)
        .call(|echo: Echo, origin, reply| CounterMessage::Echo(first(origin.node), echo, reply), |echo| echo)
        .call(|odd: Odd, origin, reply| CounterMessage::Odd(odd, origin.trace, reply), |answer| answer)
}
