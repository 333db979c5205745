//! Drives one runtime: does what its machine says, and lets requests through.
//!
//! Owns the engine, the requests that wait for it and the row that others read. Refuses to decide
//! (`machine.rs`).

mod journaling;
mod launching;
mod probing;
mod properties;
mod publishing;
mod serving;
mod tending;

pub use publishing::wall_of;
pub(crate) use tending::Gauge;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arw_kit::life::RestartBudget;
use arw_kit::mailbox::{Actor, Context, Fault, Handle, Reply};
use arw_kit::moment::Moment;
use arw_kit::tree::ResourceRow;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use self::launching::LaunchOutcome;
use self::tending::Tended;
use super::directory::{Board, DirectoryMessage};
use super::engine_client::{EngineClient, EngineLook};
use super::launcher::{Endpoint, EngineExit, Launcher, Secret};
use super::lease::{AcquireError, EngineEnd, EngineLease, Meter};
use super::log::EngineLog;
use super::machine::{
    By, HealthAnswer, Past, ProbeKind, RuntimeAction, RuntimeEvent, RuntimeMachine, RuntimeRules,
    RuntimeState,
};
use super::row::RuntimeRow;
use super::spec::{Adapter, RuntimeSpec};
use crate::journal::{Journal, event};
use crate::model::{ModelLibrary, ModelRecord};

/// What every incarnation of a runtime's actor starts from.
pub(crate) struct RuntimeArgs {
    pub(crate) spec: Arc<RuntimeSpec>,
    pub(crate) rules: RuntimeRules,
    pub(crate) queue_max: usize,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) client: EngineClient,
    pub(crate) models: ModelLibrary,
    pub(crate) journal: Journal,
    pub(crate) directory: Handle<DirectoryMessage>,
    pub(crate) log: Arc<EngineLog>,
    pub(crate) row: Arc<ArcSwap<Option<RuntimeRow>>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) board: Arc<Board>,
    pub(crate) scratch: PathBuf,
    pub(crate) accelerator: &'static str,
    /// What the next incarnation must know.
    pub(crate) memory: Arc<Mutex<RuntimeMemory>>,
}

/// What outlives a crash of the runtime's actor.
#[derive(Debug)]
pub(crate) struct RuntimeMemory {
    pub(crate) budget: RestartBudget,
    pub(crate) is_wanted: bool,
    /// That an operator has stopped it outlives the node, too.
    pub(crate) past: Past,
}

impl RuntimeMemory {
    /// Of a runtime that has not run yet.
    pub(crate) fn new(budget: RestartBudget, held: bool) -> Self {
        Self { budget, is_wanted: false, past: Past::none(held) }
    }
}

pub(crate) enum RuntimeMessage {
    Start(Reply<RuntimeRow>),
    Stop(Reply<RuntimeRow>),
    Restart(Reply<RuntimeRow>),
    Acquire(Reply<Result<EngineLease, AcquireError>>),
    /// Start with the node.
    Boot,
    /// Give the memory back, if idle. Answered when it is known whether it does.
    Evict(Reply<()>),
    LaunchDone(u64, LaunchOutcome),
    Exited(u64, EngineExit),
    Probed(u64, ProbeKind, HealthAnswer, Duration),
    /// A request did not reach the engine.
    Doubted,
    /// So it was looked at.
    Looked(u64, EngineLook),
    LeaseLeft,
    /// The engine was asked how many tokens a conversation may have.
    ContextAsked(u64, Option<u64>),
    Timer,
    /// Show what moves without a change of state.
    Refresh,
}
arw_kit::message!(RuntimeMessage {
    Start,
    Stop,
    Restart,
    Acquire,
    Boot,
    Evict,
    LaunchDone,
    Exited,
    Probed,
    Doubted,
    Looked,
    LeaseLeft,
    ContextAsked,
    Timer,
    Refresh
});

pub(crate) struct RuntimeActor {
    spec: Arc<RuntimeSpec>,
    args: Shared,
    machine: RuntimeMachine,
    engine: Option<Serving>,
    tended: Option<Tended>,
    cancel_launch: Option<oneshot::Sender<()>>,
    waiting: VecDeque<Waiting>,
    timer: Option<(Moment, arw_kit::mailbox::TaskHandle)>,
    engine_row: ResourceRow,
    model: Option<ModelRecord>,
    needed_bytes: Option<u64>,
    /// What an engine of this runtime said last.
    context_tokens: Option<u64>,
    /// The program that has just ended, for the story of its end.
    ended_pid: Option<u32>,
    /// A task waits for the last request in flight.
    awaits_leases: bool,
    /// An operator has started it, and it has not come up or failed since.
    is_asked_for: bool,
    /// It ends in order.
    is_leaving: bool,
}

/// The parts of [`RuntimeArgs`] that the actor uses all its life.
#[derive(Clone)]
struct Shared {
    queue_max: usize,
    rules: RuntimeRules,
    launcher: Arc<dyn Launcher>,
    client: EngineClient,
    models: ModelLibrary,
    journal: Journal,
    directory: Handle<DirectoryMessage>,
    log: Arc<EngineLog>,
    row: Arc<ArcSwap<Option<RuntimeRow>>>,
    meter: Arc<Meter>,
    gauge: Arc<Gauge>,
    board: Arc<Board>,
    scratch: PathBuf,
    accelerator: &'static str,
    memory: Arc<Mutex<RuntimeMemory>>,
}

/// Where the running engine is reached.
#[derive(Clone)]
struct Serving {
    pid: Option<u32>,
    endpoint: Option<Endpoint>,
    secret: Option<Secret>,
    sandbox: Option<super::launcher::SandboxReport>,
    /// Tells the leases how the process ended; `None` for an external server.
    end: Option<watch::Sender<Option<EngineEnd>>>,
}

struct Waiting {
    reply: Reply<Result<EngineLease, AcquireError>>,
    since: Moment,
}

/// Resident memory and counters of a busy engine are shown this often.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

impl Actor for RuntimeActor {
    type Message = RuntimeMessage;
    type Args = RuntimeArgs;
    const KIND: &'static str = "runtime";

    async fn start(args: &RuntimeArgs, context: &mut Context<RuntimeMessage>) -> Result<Self, Fault> {
        let (budget, is_wanted, past) = {
            let memory = args.memory.lock();
            (memory.budget.clone(), memory.is_wanted, memory.past.clone())
        };
        let seed = u64::from(std::process::id()) ^ context.now().as_nanos();
        let machine = RuntimeMachine::new(args.rules, budget.clone(), context.now(), seed);
        let machine = machine.continuing(past.past_its_launch());
        let (state, _) = machine.state();
        let engine_row = context.tree().enter_resource(context.path(), "engine", "process");
        engine_row.set_budget(budget);
        let mut actor = Self {
            spec: Arc::clone(&args.spec),
            args: Shared::new(args),
            machine,
            engine: None,
            tended: None,
            cancel_launch: None,
            waiting: VecDeque::new(),
            timer: None,
            engine_row,
            model: args.spec.model.as_deref().and_then(|model| args.models.find(model)),
            needed_bytes: None,
            context_tokens: None,
            ended_pid: None,
            awaits_leases: false,
            is_asked_for: false,
            is_leaving: false,
        };
        if !args.spec.is_managed() {
            actor.engine = Some(launching::external(&args.spec)?);
        }
        actor.show_state(state);
        actor.publish(context);
        if actor.args.gauge.is_alive() {
            // What the last incarnation has left is ending; its end changes the row.
            let gauge = Arc::clone(&actor.args.gauge);
            context.spawn(async move {
                gauge.all_gone().await;
                RuntimeMessage::Refresh
            });
        }
        context.every(REFRESH_EVERY, || RuntimeMessage::Refresh);
        actor.await_doubts(context, Duration::ZERO);
        if is_wanted {
            // One that is to wait goes on waiting.
            actor.feed(context, RuntimeEvent::StartWanted(By::Boot));
        }
        Ok(actor)
    }

    async fn handle(
        &mut self,
        message: RuntimeMessage,
        context: &mut Context<RuntimeMessage>,
    ) -> Result<(), Fault> {
        match message {
            RuntimeMessage::Acquire(reply) => {
                self.acquire(context, reply);
                return Ok(());
            }
            RuntimeMessage::Start(reply) => {
                self.is_asked_for = true;
                self.feed(context, RuntimeEvent::StartWanted(By::Operator));
                self.answer(reply);
            }
            RuntimeMessage::Stop(reply) => {
                self.end_when_idle(context, RuntimeEvent::StopWanted(By::Operator));
                self.answer(reply);
            }
            RuntimeMessage::Restart(reply) => {
                self.is_asked_for = true;
                self.end_when_idle(context, RuntimeEvent::RestartWanted);
                self.answer(reply);
            }
            RuntimeMessage::Boot => self.feed(context, RuntimeEvent::StartWanted(By::Boot)),
            RuntimeMessage::Evict(reply) => {
                self.end_when_idle(context, RuntimeEvent::StopWanted(By::Eviction));
                // The directory may have given up.
                let _ = reply.send(());
            }
            RuntimeMessage::LaunchDone(attempt, outcome) => self.launch_done(context, attempt, outcome),
            RuntimeMessage::Exited(attempt, exit) => self.exited(context, attempt, exit),
            RuntimeMessage::Probed(attempt, kind, answer, latency) => {
                self.note_progress(context, attempt);
                self.end_when_idle(context, RuntimeEvent::Probed { attempt, kind, answer, latency });
            }
            RuntimeMessage::Doubted => self.look(context),
            RuntimeMessage::Looked(attempt, found) => self.looked(context, attempt, found),
            RuntimeMessage::LeaseLeft => {
                self.awaits_leases = false;
                self.look_at_leases(context);
            }
            RuntimeMessage::ContextAsked(attempt, tokens) => self.context_asked(context, attempt, tokens),
            RuntimeMessage::Timer => {
                self.timer = None;
                self.end_when_idle(context, RuntimeEvent::TimerFired);
            }
            RuntimeMessage::Refresh => self.publish_if_changed(context),
        }
        Ok(())
    }

    async fn stopping(&mut self, context: &mut Context<RuntimeMessage>) {
        self.refuse_waiting(context.now());
        self.is_leaving = true;
        self.publish_leaving(context);
        if let Some(tended) = self.tended.take() {
            tended.end(self.args.rules.stop_grace).await;
        }
    }
}

impl Drop for RuntimeActor {
    /// An actor that falls leaves no row that shows its engine as if somebody looked after it.
    fn drop(&mut self) {
        if !self.is_leaving && self.spec.is_managed() {
            self.show_fallen();
        }
    }
}

impl Shared {
    fn new(args: &RuntimeArgs) -> Self {
        Self {
            queue_max: args.queue_max,
            rules: args.rules,
            launcher: Arc::clone(&args.launcher),
            client: args.client.clone(),
            models: args.models.clone(),
            journal: args.journal.clone(),
            directory: args.directory.clone(),
            log: Arc::clone(&args.log),
            row: Arc::clone(&args.row),
            meter: Arc::clone(&args.meter),
            gauge: Arc::clone(&args.gauge),
            board: Arc::clone(&args.board),
            scratch: args.scratch.clone(),
            accelerator: args.accelerator,
            memory: Arc::clone(&args.memory),
        }
    }
}

impl RuntimeActor {
    /// Passes an event to the machine and does what it says.
    fn feed(&mut self, context: &mut Context<RuntimeMessage>, event: RuntimeEvent) {
        let actions = self.machine.handle(context.now(), event);
        if actions.is_empty() {
            self.reset_timer(context);
            return;
        }
        // Whoever is answered must find the new state when it looks.
        let is_answer = |action: &RuntimeAction| {
            matches!(action, RuntimeAction::ServeWaiting | RuntimeAction::RefuseWaiting)
        };
        let (answers, rest): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_answer);
        for action in rest {
            self.perform(context, action);
        }
        self.reset_timer(context);
        self.publish(context);
        if answers.is_empty() {
            return;
        }
        for action in answers {
            self.perform(context, action);
        }
        self.publish_if_changed(context);
    }

    fn perform(&mut self, context: &mut Context<RuntimeMessage>, action: RuntimeAction) {
        match action {
            RuntimeAction::Launch { attempt } => self.launch(context, attempt),
            RuntimeAction::CancelLaunch { .. } => {
                if let Some(cancel) = self.cancel_launch.take() {
                    // It may just have ended; then its result is on its way.
                    let _ = cancel.send(());
                }
            }
            RuntimeAction::Terminate { grace, .. } => {
                if let Some(tended) = &self.tended {
                    tended.terminate(grace);
                }
            }
            RuntimeAction::Probe { attempt, kind } => self.probe(context, attempt, kind),
            RuntimeAction::Changed { from, to } => {
                self.changed(from, to);
                self.is_asked_for &= !matches!(
                    to,
                    RuntimeState::Ready
                        | RuntimeState::Stopped
                        | RuntimeState::Quarantined
                        | RuntimeState::Failed
                );
                if to == RuntimeState::Ready && self.tended.is_some() {
                    self.measure(context);
                    self.ask_properties(context);
                }
            }
            // The row is published after each action.
            RuntimeAction::ReasonChanged => {}
            RuntimeAction::Restarted { since } => self.restarted(context, since),
            RuntimeAction::Stuck { diagnosis } => {
                error!(runtime = %self.spec.id, reason = diagnosis.detail, "a runtime's program does not end");
            }
            RuntimeAction::Failed { diagnosis } => self.failed(context, &diagnosis),
            RuntimeAction::Quarantined { until, diagnosis } => {
                let usage = self.machine.budget().usage(context.now());
                let wait = until.since(context.now());
                warn!(runtime = %self.spec.id, reason = diagnosis.detail, ?wait, "runtime quarantined");
                self.args.journal.append(event::Runtime::Quarantined {
                    id: self.spec.id.to_string(),
                    reason: diagnosis.detail,
                    hint: diagnosis.hint,
                    used: usage.used,
                    max: usage.max,
                    window_s: usage.window.as_secs(),
                    retry_at: Some(context.clock().wall() + wait),
                });
            }
            RuntimeAction::Recovered { since } => {
                let down_ms = u64::try_from(context.now().since(since).as_millis()).unwrap_or(u64::MAX);
                info!(runtime = %self.spec.id, down_ms, "runtime recovered");
                self.args.journal.append(event::Runtime::Recovered { id: self.spec.id.to_string(), down_ms });
            }
            RuntimeAction::ServeWaiting => self.serve_waiting(context),
            RuntimeAction::RefuseWaiting => self.refuse_waiting(context.now()),
        }
    }

    fn reset_timer(&mut self, context: &mut Context<RuntimeMessage>) {
        let due = self.machine.next_deadline();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.cancel();
        }
        if let Some(due) = due {
            let wait = due.since(context.now());
            self.timer = Some((due, context.after(wait, RuntimeMessage::Timer)));
        }
    }

    /// Notes what the next incarnation of this actor must know.
    fn remember(&self) {
        let mut memory = self.args.memory.lock();
        memory.budget = self.machine.budget().clone();
        memory.is_wanted = self.machine.is_wanted();
        let before = std::mem::replace(&mut memory.past, self.machine.past());
        if before.held != memory.past.held {
            let held = DirectoryMessage::Held(self.spec.id.clone(), memory.past.held);
            // A full mailbox means that it is not written down: the node may forget it when it ends.
            let _ = self.args.directory.try_tell(held);
        }
    }

    fn answer(&self, reply: Reply<RuntimeRow>) {
        if let Some(row) = self.args.row.load().as_ref() {
            // Whoever asked may have given up.
            let _ = reply.send(row.clone());
        }
    }

    /// Passes on an event that may end the engine, which requests in flight hold up.
    fn end_when_idle(&mut self, context: &mut Context<RuntimeMessage>, event: RuntimeEvent) {
        self.look_at_leases(context);
        self.feed(context, event);
        self.look_at_leases(context);
    }

    /// Tells the machine how many requests are in flight.
    fn look_at_leases(&mut self, context: &mut Context<RuntimeMessage>) {
        let count = self.args.meter.in_flight();
        self.feed(context, RuntimeEvent::InFlight(count));
        let drains = self.machine.state().0 == RuntimeState::Draining;
        if drains && count > 0 && !self.awaits_leases {
            self.awaits_leases = true;
            let meter = Arc::clone(&self.args.meter);
            context.spawn(async move {
                meter.left().await;
                RuntimeMessage::LeaseLeft
            });
        }
    }
}

/// The path under which an engine's restarts are journaled: the engine's row in the tree.
pub(crate) fn engine_path(runtime_path: &str) -> String {
    format!("{runtime_path}/engine")
}

impl RuntimeSpec {
    /// Whether a one-token completion can be asked for as a probe.
    pub(crate) fn has_work_probe(&self, model: Option<&ModelRecord>) -> bool {
        self.adapter == Adapter::LlamaCpp && model.is_none_or(|model| !model.embedding)
    }
}
