//! Our own actors: supervised, bounded, counted, every ask with a deadline.

use std::sync::Arc;
use std::time::Duration;

use arw_actors::journal::{CountedFailure, Journal, JournalOptions, event};
use arw_actors::store::{Store, StoreOptions};
use arw_kit::clock::Clock;
use arw_kit::life::{Backoff, RestartLimits};
use arw_kit::mailbox::{Actor, Context, Fault, Handle, Reply};
use arw_kit::supervision::{
    ActorSpec, ActorSystem, Restart, RestartEvent, RestartHistory, SupervisionObserver, SupervisorHandle,
};

use crate::contender::{Contender, Restarting, work};

pub(crate) struct Counter(u64);

pub(crate) enum CounterMessage {
    Add(u64),
    Work,
    Get(Reply<u64>),
    Crash,
}
arw_kit::message!(CounterMessage { Add, Work, Get, Crash });

impl Actor for Counter {
    type Message = CounterMessage;
    type Args = ();
    const KIND: &'static str = "counter";

    async fn start((): &(), _: &mut Context<CounterMessage>) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    #[expect(clippy::panic, reason = "crashing is what is measured")]
    async fn handle(
        &mut self,
        message: CounterMessage,
        _: &mut Context<CounterMessage>,
    ) -> Result<(), Fault> {
        match message {
            CounterMessage::Add(n) => self.0 += n,
            CounterMessage::Work => work(),
            CounterMessage::Get(reply) => {
                reply.send(self.0);
            }
            CounterMessage::Crash => panic!("as requested"),
        }
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// `Handle::tell`, which waits for space.
pub(crate) struct Ours {
    system: ActorSystem,
    supervisor: SupervisorHandle,
    spawned: usize,
}

impl Contender for Ours {
    const NAME: &'static str = "arw";
    type Address = Handle<CounterMessage>;

    async fn begin() -> Self {
        let system = ActorSystem::new("bench");
        let supervisor = system.start(system.root()).await.unwrap();
        Self { system, supervisor, spawned: 0 }
    }

    async fn spawn(&mut self) -> Self::Address {
        self.spawned += 1;
        let spec = ActorSpec::<Counter>::new(format!("{}", self.spawned), ()).restart(Restart::Temporary);
        self.supervisor.add(spec, PATIENCE).await.unwrap()
    }

    async fn stop(&mut self, address: Self::Address) {
        let path = address.path().as_str();
        let id = path.rsplit('/').next().unwrap();
        assert!(self.supervisor.remove(id, PATIENCE).await);
        // It leaves the tree when it has ended and its supervisor has buried it.
        while self.system.tree().get(path).is_some() {
            tokio::task::yield_now().await;
        }
    }

    async fn tell(address: &Self::Address) {
        address.tell(CounterMessage::Add(1), PATIENCE).await.unwrap();
    }

    async fn tell_work(address: &Self::Address) {
        address.tell(CounterMessage::Work, PATIENCE).await.unwrap();
    }

    async fn ask(address: &Self::Address) -> u64 {
        address.ask(CounterMessage::Get, PATIENCE).await.unwrap()
    }
}

/// `Handle::try_tell`, which refuses when full. Only for windows that fit into the mailbox.
pub(crate) struct OursTry(Ours);

impl Contender for OursTry {
    const NAME: &'static str = "arw, try_tell";
    type Address = Handle<CounterMessage>;

    async fn begin() -> Self {
        Self(Ours::begin().await)
    }

    async fn spawn(&mut self) -> Self::Address {
        self.0.spawn().await
    }

    async fn stop(&mut self, address: Self::Address) {
        self.0.stop(address).await;
    }

    async fn tell(address: &Self::Address) {
        address.try_tell(CounterMessage::Add(1)).unwrap();
    }

    async fn tell_work(address: &Self::Address) {
        address.try_tell(CounterMessage::Work).unwrap();
    }

    async fn ask(address: &Self::Address) -> u64 {
        Ours::ask(address).await
    }
}

/// Crashes and is restarted by its supervisor; nobody writes it down.
pub(crate) struct Restarted {
    system: ActorSystem,
    counter: Handle<CounterMessage>,
}

impl Restarted {
    async fn observed_by(observer: Option<Arc<dyn SupervisionObserver>>) -> Self {
        let system = ActorSystem::with("bench", Clock::system(), observer, RestartHistory::new(), 0);
        // A window as short as a few restarts, so that the budget holds as many of them as a real one does.
        let limits = RestartLimits { max: 100, window: Duration::from_micros(20) };
        let mut root = system.root().limits(limits).backoff(Backoff::NONE);
        let counter = root.actor(ActorSpec::<Counter>::new("counter", ()));
        system.start(root).await.unwrap();
        Self { system, counter }
    }
}

impl Restarting for Restarted {
    const NAME: &'static str = "arw";

    async fn begin() -> Self {
        Self::observed_by(None).await
    }

    async fn crash_and_ask(&self) {
        self.counter.try_tell(CounterMessage::Crash).unwrap();
        assert_eq!(Ours::ask(&self.counter).await, 0);
    }

    async fn end(self) {
        self.system.shutdown(PATIENCE).await.unwrap();
    }
}

/// The same with every restart in a journal on the disk, as a node has it.
pub(crate) struct Journaled {
    restarted: Restarted,
    journal: Journal,
    store: Store,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Observer(Journal);

impl SupervisionObserver for Observer {
    // As the node's own observer does, which is private to it.
    fn observe(&self, event: &RestartEvent) {
        match event {
            RestartEvent::Restarting { path, reason, budget, .. } => {
                self.0.append(event::Actor::Crashed {
                    path: path.to_string(),
                    reason: "crash".into(),
                    detail: reason.to_string(),
                    handling: Some("Crash".into()),
                    budget: Some(CountedFailure::new(budget, Clock::system().wall())),
                });
            }
            RestartEvent::Restarted { path, reason, budget, .. } => {
                self.0.append(event::Actor::Restarted {
                    path: path.to_string(),
                    reason: "crash".into(),
                    detail: reason.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                    at: Clock::system().wall(),
                    down_ms: Some(0),
                });
            }
            _ => {}
        }
    }
}

impl Restarting for Journaled {
    const NAME: &'static str = "arw, journaled";

    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
        let journal = Journal::open(store.clone(), JournalOptions::default()).unwrap();
        let restarted = Restarted::observed_by(Some(Arc::new(Observer(journal.clone())))).await;
        Self { restarted, journal, store, _folder: folder }
    }

    async fn crash_and_ask(&self) {
        self.restarted.crash_and_ask().await;
    }

    async fn settle(&self) {
        assert!(self.journal.flush(PATIENCE).await, "the journal is not on the disk");
    }

    async fn end(self) {
        self.settle().await;
        self.restarted.end().await;
        assert_eq!(self.journal.status().lost, 0, "the journal has lost events");
        self.store.close(PATIENCE).await.unwrap();
    }
}
