//! The peers in Rust: tokio's channels in a task, ractor without spans, kameo.

use std::convert::Infallible;
use std::sync::Arc;

use kameo::actor::Spawn as _;
use parking_lot::Mutex;
use ractor::rpc::CallResult;
use ractor::{ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::contender::{Contender, Restarting, work};

/// The mailbox of a task without any actor library: the limit of what tokio allows.
pub(crate) enum TaskMessage {
    Add(u64),
    Work,
    Get(oneshot::Sender<u64>),
}

struct TaskState(u64);

impl TaskState {
    fn handle(&mut self, message: TaskMessage) {
        match message {
            TaskMessage::Add(n) => self.0 += n,
            TaskMessage::Work => work(),
            TaskMessage::Get(reply) => {
                let _ = reply.send(self.0);
            }
        }
    }
}

/// Our own bound, so that the comparison is fair.
const BOUND: usize = 1024;

pub(crate) struct Bounded;

#[derive(Clone)]
pub(crate) struct TaskAddress<S> {
    sender: S,
    task: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

impl<S> TaskAddress<S> {
    fn new(sender: S, task: tokio::task::JoinHandle<()>) -> Self {
        Self { sender, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// The task ends when its last sender is gone.
    async fn ended(self) {
        let task = self.task.lock().take();
        drop(self.sender);
        task.unwrap().await.unwrap();
    }
}

impl Contender for Bounded {
    const NAME: &'static str = "tokio mpsc bounded(1024)";
    type Address = TaskAddress<mpsc::Sender<TaskMessage>>;

    async fn begin() -> Self {
        Self
    }

    async fn spawn(&mut self) -> Self::Address {
        let (sender, mut receiver) = mpsc::channel(BOUND);
        let task = tokio::spawn(async move {
            let mut state = TaskState(0);
            while let Some(message) = receiver.recv().await {
                state.handle(message);
            }
        });
        TaskAddress::new(sender, task)
    }

    async fn stop(&mut self, address: Self::Address) {
        address.ended().await;
    }

    async fn tell(address: &Self::Address) {
        let _ = address.sender.send(TaskMessage::Add(1)).await;
    }

    async fn tell_work(address: &Self::Address) {
        let _ = address.sender.send(TaskMessage::Work).await;
    }

    async fn ask(address: &Self::Address) -> u64 {
        let (reply, answer) = oneshot::channel();
        let _ = address.sender.send(TaskMessage::Get(reply)).await;
        answer.await.unwrap()
    }
}

pub(crate) struct Unbounded;

impl Contender for Unbounded {
    const NAME: &'static str = "tokio mpsc unbounded";
    type Address = TaskAddress<mpsc::UnboundedSender<TaskMessage>>;

    async fn begin() -> Self {
        Self
    }

    #[expect(clippy::disallowed_methods, reason = "the peer without a bound is the limit to compare with")]
    async fn spawn(&mut self) -> Self::Address {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut state = TaskState(0);
            while let Some(message) = receiver.recv().await {
                state.handle(message);
            }
        });
        TaskAddress::new(sender, task)
    }

    async fn stop(&mut self, address: Self::Address) {
        address.ended().await;
    }

    async fn tell(address: &Self::Address) {
        let _ = address.sender.send(TaskMessage::Add(1));
    }

    async fn tell_work(address: &Self::Address) {
        let _ = address.sender.send(TaskMessage::Work);
    }

    async fn ask(address: &Self::Address) -> u64 {
        let (reply, answer) = oneshot::channel();
        let _ = address.sender.send(TaskMessage::Get(reply));
        answer.await.unwrap()
    }
}

/// ractor as it is, without `message_span_propogation`: its asks have no deadline here.
pub(crate) struct Ractor;

pub(crate) struct RactorCounter;

#[derive(Debug)]
pub(crate) enum RactorMessage {
    Add(u64),
    Work,
    Get(RpcReplyPort<u64>),
    Crash,
}

impl ractor::Actor for RactorCounter {
    type Msg = RactorMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RactorMessage>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    #[expect(clippy::panic, reason = "crashing is what is measured")]
    async fn handle(
        &self,
        _: ActorRef<RactorMessage>,
        message: RactorMessage,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RactorMessage::Add(n) => *sum += n,
            RactorMessage::Work => work(),
            RactorMessage::Get(reply) => {
                let _ = reply.send(*sum);
            }
            RactorMessage::Crash => panic!("as requested"),
        }
        Ok(())
    }
}

type RactorAddress = ActorRef<RactorMessage>;

async fn ractor_ask(address: &RactorAddress) -> u64 {
    match address.call(RactorMessage::Get, None).await.unwrap() {
        CallResult::Success(sum) => sum,
        CallResult::Timeout | CallResult::SenderError => u64::MAX,
    }
}

impl Contender for Ractor {
    const NAME: &'static str = "ractor, no spans";
    type Address = RactorAddress;

    async fn begin() -> Self {
        Self
    }

    async fn spawn(&mut self) -> Self::Address {
        // Nobody holds the join handle, as nobody does in a program that spawns many.
        ractor::Actor::spawn(None, RactorCounter, ()).await.unwrap().0
    }

    async fn stop(&mut self, address: Self::Address) {
        address.stop_and_wait(None, None).await.unwrap();
    }

    async fn tell(address: &Self::Address) {
        address.cast(RactorMessage::Add(1)).unwrap();
    }

    async fn tell_work(address: &Self::Address) {
        address.cast(RactorMessage::Work).unwrap();
    }

    async fn ask(address: &Self::Address) -> u64 {
        ractor_ask(address).await
    }
}

/// A supervisor written by hand on ractor: it starts a new actor and tells where it is.
pub(crate) struct RactorRestarted {
    supervisor: ActorRef<()>,
    task: tokio::task::JoinHandle<()>,
    place: Arc<Place>,
}

struct Place {
    current: Mutex<Option<RactorAddress>>,
    changed: Notify,
}

struct RactorSupervisor;

impl RactorSupervisor {
    async fn start(myself: &ActorRef<()>, place: &Place) -> Result<(), ActorProcessingErr> {
        let (actor, _) = ractor::Actor::spawn_linked(None, RactorCounter, (), myself.get_cell()).await?;
        *place.current.lock() = Some(actor);
        place.changed.notify_one();
        Ok(())
    }
}

impl ractor::Actor for RactorSupervisor {
    type Msg = ();
    type State = Arc<Place>;
    type Arguments = Arc<Place>;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        place: Arc<Place>,
    ) -> Result<Arc<Place>, ActorProcessingErr> {
        Self::start(&myself, &place).await?;
        Ok(place)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        place: &mut Arc<Place>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) => Self::start(&myself, place).await,
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

impl Restarting for RactorRestarted {
    const NAME: &'static str = "ractor, restarted by hand";

    async fn begin() -> Self {
        let place = Arc::new(Place { current: Mutex::new(None), changed: Notify::new() });
        let (supervisor, task) =
            ractor::Actor::spawn(None, RactorSupervisor, Arc::clone(&place)).await.unwrap();
        place.changed.notified().await;
        Self { supervisor, task, place }
    }

    async fn crash_and_ask(&self) {
        let current = self.place.current.lock().clone().unwrap();
        current.cast(RactorMessage::Crash).unwrap();
        self.place.changed.notified().await;
        let next = self.place.current.lock().clone().unwrap();
        assert_eq!(ractor_ask(&next).await, 0);
    }

    async fn end(self) {
        self.supervisor.stop(None);
        self.task.await.unwrap();
    }
}

/// kameo with the mailbox that serves it best.
pub(crate) struct Kameo;

pub(crate) struct KameoCounter(u64);
struct Add(u64);
struct Work;
struct Get;

impl kameo::Actor for KameoCounter {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(state: Self, _: kameo::actor::ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(state)
    }
}

type KameoContext<R> = kameo::message::Context<KameoCounter, R>;

impl kameo::message::Message<Add> for KameoCounter {
    type Reply = ();

    async fn handle(&mut self, Add(n): Add, _: &mut KameoContext<()>) {
        self.0 += n;
    }
}

impl kameo::message::Message<Work> for KameoCounter {
    type Reply = ();

    async fn handle(&mut self, _: Work, _: &mut KameoContext<()>) {
        work();
    }
}

impl kameo::message::Message<Get> for KameoCounter {
    type Reply = u64;

    async fn handle(&mut self, _: Get, _: &mut KameoContext<u64>) -> u64 {
        self.0
    }
}

impl Contender for Kameo {
    const NAME: &'static str = "kameo unbounded";
    type Address = kameo::actor::ActorRef<KameoCounter>;

    async fn begin() -> Self {
        Self
    }

    async fn spawn(&mut self) -> Self::Address {
        KameoCounter::spawn_with_mailbox(KameoCounter(0), kameo::mailbox::unbounded())
    }

    async fn stop(&mut self, address: Self::Address) {
        address.stop_gracefully().await.unwrap();
        address.wait_for_shutdown().await;
    }

    async fn tell(address: &Self::Address) {
        address.tell(Add(1)).send().await.unwrap();
    }

    async fn tell_work(address: &Self::Address) {
        address.tell(Work).send().await.unwrap();
    }

    async fn ask(address: &Self::Address) -> u64 {
        address.ask(Get).send().await.unwrap()
    }
}
