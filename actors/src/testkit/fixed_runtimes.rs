//! Runtimes whose every answer a test decides: no processes, no state machine, but real mailboxes, leases and
//! meters.
//!
//! Owns a [`Runtimes`] like the node's. What a real runtime does is tested with real ones.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use arw_kit::clock::Clock;
use arw_kit::life::{RestartBudget, RestartLimits};
use arw_kit::mailbox::{Actor, Context, Fault, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem, SupervisorHandle};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::ids::RuntimeId;
use crate::runtime::actor::{RuntimeMemory, RuntimeMessage};
use crate::runtime::directory::{AddRuntimeError, Board, ControlError, DirectoryMessage, Entry, Runtimes};
use crate::runtime::launcher::{Endpoint, Secret};
use crate::runtime::lease::{AcquireError, EngineEnd, EngineLease, Meter, UsageTotals};
use crate::runtime::log::EngineLog;
use crate::runtime::machine::RuntimeState;
use crate::runtime::row::{BudgetRow, HealthRow, MemoryRow, ProbeRow, QueueRow, RuntimeRow, StartupRow};
use crate::runtime::spec::{IdleAfter, RuntimeSpec};

/// What a runtime answers to whoever wants its engine.
#[derive(Clone, Debug)]
pub enum OnAcquire {
    /// It lends it.
    Lend {
        /// Where the engine is.
        endpoint: Endpoint,
        /// The key that it demands.
        secret: Option<Secret>,
        /// The name that it knows its model by.
        model: Option<String>,
    },
    /// It does not.
    Refuse(AcquireError),
    /// It lets everyone wait.
    Wait,
}

type Answers = Arc<Mutex<Box<dyn FnMut() -> OnAcquire + Send>>>;
type Waiting = Arc<Mutex<Vec<Reply<Result<EngineLease, AcquireError>>>>>;

/// The runtimes of a test.
#[derive(Clone, Debug)]
pub struct FixedRuntimes {
    runtimes: Runtimes,
    root: SupervisorHandle,
    parts: Arc<Mutex<Vec<Part>>>,
    clock: Clock,
    /// Engines that have ended.
    launches: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Part {
    id: RuntimeId,
    meter: Arc<Meter>,
    answers: Answers,
    waiting: Waiting,
    row: Arc<ArcSwap<Option<RuntimeRow>>>,
    /// Tells of the end of the engine that is lent now.
    end: Arc<Mutex<watch::Sender<Option<EngineEnd>>>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Actors of a test start at once.
const PATIENCE: Duration = Duration::from_secs(5);

impl FixedRuntimes {
    /// No runtimes yet, in a system of their own.
    ///
    /// # Panics
    /// The system does not start.
    pub async fn start() -> (ActorSystem, Self) {
        let system = ActorSystem::new("node");
        let mut root = system.root();
        let board = Arc::new(Board::default());
        let shared: Arc<Mutex<Option<FixedRuntimes>>> = Arc::default();
        let directory = root.actor(ActorSpec::<FixedDirectory>::new("runtimes", Arc::clone(&shared)));
        let root = system.start(root).await.unwrap_or_else(|error| panic!("{error}"));
        let clock = system.clock();
        let this = Self {
            runtimes: Runtimes::new(directory, board),
            root,
            parts: Arc::default(),
            clock,
            launches: Arc::default(),
        };
        *shared.lock() = Some(this.clone());
        (system, this)
    }

    /// As the node holds them.
    #[must_use]
    pub fn runtimes(&self) -> Runtimes {
        self.runtimes.clone()
    }

    /// Adds a runtime in this state. It lets requests wait until [`FixedRuntimes::on_acquire`].
    ///
    /// # Panics
    /// There is one of that id already.
    pub async fn add(&self, spec: RuntimeSpec, state: RuntimeState) -> Arc<EngineLog> {
        let row = Arc::new(ArcSwap::from_pointee(Some(plain_row(&spec, state, self.clock))));
        let answers: Answers = Arc::new(Mutex::new(Box::new(|| OnAcquire::Wait)));
        let part = Part {
            id: spec.id.clone(),
            meter: Arc::new(Meter::new(self.clock)),
            answers,
            waiting: Arc::default(),
            row,
            end: Arc::new(Mutex::new(watch::Sender::new(None))),
        };
        let log = Arc::new(EngineLog::in_memory());
        let actor = ActorSpec::<FixedRuntime>::new(spec.id.as_str(), part.clone());
        let handle = self.root.add(actor, PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
        let entry = Entry {
            spec: Arc::new(spec),
            handle,
            memory: Arc::new(Mutex::new(RuntimeMemory::new(
                RestartBudget::new(RestartLimits::default()),
                false,
            ))),
            log: Arc::clone(&log),
            meter: Arc::clone(&part.meter),
            row: Arc::clone(&part.row),
            gauge: Arc::default(),
        };
        self.parts.lock().push(part);
        let mut entries = Vec::clone(&self.runtimes.board().entries.load());
        entries.push(entry);
        self.runtimes.board().entries.store(Arc::new(entries));
        self.runtimes.board().changed();
        log
    }

    /// Takes a runtime away.
    pub async fn remove(&self, id: &str) {
        self.root.remove(id, PATIENCE).await;
        self.parts.lock().retain(|part| part.id.as_str() != id);
        let mut entries = Vec::clone(&self.runtimes.board().entries.load());
        entries.retain(|entry| entry.spec.id.as_str() != id);
        self.runtimes.board().entries.store(Arc::new(entries));
        self.runtimes.board().changed();
    }

    /// Decides what it answers from now on; called once for each request.
    pub fn on_acquire(&self, id: &str, answer: impl FnMut() -> OnAcquire + Send + 'static) {
        *self.part(id).answers.lock() = Box::new(answer);
    }

    /// Changes its row.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut RuntimeRow)) {
        let part = self.part(id);
        let mut row = Option::clone(&part.row.load());
        if let Some(row) = row.as_mut() {
            row.usage = part.meter.totals();
            change(row);
            part.meter.set_totals(&row.usage);
        }
        part.row.store(Arc::new(row));
        self.runtimes.board().changed();
    }

    /// The engine that it lends now ends like this; the next lease is for another launch.
    pub fn end_engine(&self, id: &str, detail: &str, may_be_a_request: bool) {
        let part = self.part(id);
        let mut end = part.end.lock();
        let ended = EngineEnd {
            launch: self.launches.fetch_add(1, Ordering::Relaxed),
            pid: None,
            detail: detail.to_owned(),
            may_be_a_request,
            in_flight: part.meter.in_flight(),
        };
        end.send_replace(Some(ended));
        *end = watch::Sender::new(None);
    }

    /// What its requests used.
    #[must_use]
    pub fn usage(&self, id: &str) -> UsageTotals {
        self.part(id).meter.totals()
    }

    /// Requests that hold a lease now.
    #[must_use]
    pub fn in_flight(&self, id: &str) -> u32 {
        self.part(id).meter.in_flight()
    }

    /// Requests that wait for it and have not gone away.
    #[must_use]
    pub fn waiting(&self, id: &str) -> usize {
        self.part(id).waiting.lock().iter().filter(|reply| !reply.is_abandoned()).count()
    }

    fn part(&self, id: &str) -> Part {
        let part = self.parts.lock().iter().find(|part| part.id.as_str() == id).cloned();
        part.unwrap_or_else(|| panic!("no fixed runtime is called {id}"))
    }
}

struct FixedRuntime(Part);

impl Actor for FixedRuntime {
    type Message = RuntimeMessage;
    type Args = Part;
    const KIND: &'static str = "runtime";

    async fn start(part: &Part, _: &mut Context<RuntimeMessage>) -> Result<Self, Fault> {
        Ok(Self(part.clone()))
    }

    async fn handle(
        &mut self,
        message: RuntimeMessage,
        _: &mut Context<RuntimeMessage>,
    ) -> Result<(), Fault> {
        let part = &self.0;
        let answer = |reply: Reply<RuntimeRow>| {
            if let Some(row) = part.row.load().as_ref() {
                reply.send(row.clone());
            }
        };
        match message {
            RuntimeMessage::Start(reply) | RuntimeMessage::Stop(reply) | RuntimeMessage::Restart(reply) => {
                answer(reply);
            }
            RuntimeMessage::Boot
            | RuntimeMessage::Evict(_)
            | RuntimeMessage::LaunchDone(..)
            | RuntimeMessage::Exited(..)
            | RuntimeMessage::Probed(..)
            | RuntimeMessage::Doubted
            | RuntimeMessage::Looked(..)
            | RuntimeMessage::LeaseLeft
            | RuntimeMessage::ContextAsked(..)
            | RuntimeMessage::Timer
            | RuntimeMessage::Refresh => {}
            RuntimeMessage::Acquire(reply) => {
                let decided = (part.answers.lock())();
                match decided {
                    OnAcquire::Lend { endpoint, secret, model } => {
                        part.meter.enter();
                        let (runtime, meter) = (part.id.clone(), Arc::clone(&part.meter));
                        reply.send(Ok(EngineLease {
                            runtime,
                            model,
                            endpoint,
                            secret,
                            waited: Duration::ZERO,
                            meter,
                            end: Some(part.end.lock().subscribe()),
                        }));
                    }
                    OnAcquire::Refuse(error) => drop(reply.send(Err(error))),
                    OnAcquire::Wait => part.waiting.lock().push(reply),
                }
            }
        }
        Ok(())
    }
}

struct FixedDirectory(Arc<Mutex<Option<FixedRuntimes>>>);

impl Actor for FixedDirectory {
    type Message = DirectoryMessage;
    type Args = Arc<Mutex<Option<FixedRuntimes>>>;
    const KIND: &'static str = "directory";

    async fn start(shared: &Self::Args, _: &mut Context<DirectoryMessage>) -> Result<Self, Fault> {
        Ok(Self(Arc::clone(shared)))
    }

    async fn handle(
        &mut self,
        message: DirectoryMessage,
        _: &mut Context<DirectoryMessage>,
    ) -> Result<(), Fault> {
        let Some(fixed) = self.0.lock().clone() else { return Ok(()) };
        match message {
            DirectoryMessage::Add(spec, reply) => {
                let is_taken = fixed.parts.lock().iter().any(|part| part.id == spec.id);
                if is_taken {
                    reply.send(Err(AddRuntimeError::Exists(spec.id)));
                } else {
                    fixed.add(*spec, RuntimeState::Stopped).await;
                    reply.send(Ok(()));
                }
            }
            DirectoryMessage::Remove(id, reply) => {
                let known: Vec<_> = fixed.parts.lock().iter().map(|part| part.id.to_string()).collect();
                if known.iter().any(|known| known == id.as_str()) {
                    fixed.remove(id.as_str()).await;
                    reply.send(Ok::<(), ControlError>(()));
                } else {
                    reply.send(Err(ControlError::Unknown { id: id.to_string(), known }));
                }
            }
            DirectoryMessage::ProgramSought(..)
            | DirectoryMessage::MakeRoom(..)
            | DirectoryMessage::Measured(..)
            | DirectoryMessage::EvictionAnswered(..)
            | DirectoryMessage::Gone(..)
            | DirectoryMessage::Overdue(..)
            | DirectoryMessage::Readd(..)
            | DirectoryMessage::Written(..)
            | DirectoryMessage::Held(..)
            | DirectoryMessage::Flush(..)
            | DirectoryMessage::LookForRoom
            | DirectoryMessage::RuntimeDown(..) => {}
        }
        Ok(())
    }
}

fn plain_row(spec: &RuntimeSpec, state: RuntimeState, clock: Clock) -> RuntimeRow {
    let unknown = || ProbeRow { status: "unknown", at: None, latency_ms: None, failures: 0 };
    RuntimeRow {
        id: spec.id.clone(),
        adapter: spec.adapter.word(),
        model: spec.model.clone(),
        profile: spec.profile.clone(),
        state,
        severity: state.severity(),
        reason: None,
        hint: None,
        pid: None,
        port: None,
        socket: None,
        since: clock.wall(),
        retry_at: None,
        auto_start: spec.auto_start,
        idle_after_s: IdleAfter::from_span(spec.idle_after(None)),
        health: HealthRow {
            startup: StartupRow { status: "unknown", at: None, took_ms: None },
            liveness: unknown(),
            work: unknown(),
        },
        restart_budget: BudgetRow { window_s: 300, max: 5, used: 0, remaining: 5, resets_at: None },
        last_exit: None,
        queue: QueueRow { waiting: 0, max: 64 },
        in_flight: 0,
        usage: UsageTotals::default(),
        memory: MemoryRow { needed_bytes: None, resident_bytes: None },
        context_length: None,
        accelerator: "cpu",
        sandbox: None,
        attempt: 0,
        is_held: false,
    }
}
