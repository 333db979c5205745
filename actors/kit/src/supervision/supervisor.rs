//! Carries out what the [`SupervisorMachine`] decides.
//!
//! Owns the running incarnations of one supervisor's children and the traps of ractor around them: an exit
//! event comes before the actor's state is dropped (so its task is awaited), a start runs in its caller (so a
//! slow one runs beside), a supervisor's own end kills its children (so they are stopped first).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use ractor::{ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::{error, warn};

use super::child::{Child, Running};
use super::handle::SupervisorPort;
use super::machine::{
    ChildKey, OnExhausted, SupervisorAction, SupervisorEvent, SupervisorMachine, SupervisorRules,
};
use super::shared::{RestartEvent, SystemShared};
use super::spec::{AddChildError, ChildSpec, Shutdown};
use crate::life::{ActorPath, ExitReason, RestartBudget};
use crate::moment::Moment;
use crate::tree::{ActorState, Record};

pub(crate) enum SupervisorMessage {
    StartDone(ChildKey, Result<Running, Arc<str>>),
    Gone(ChildKey, ActorId, ExitReason),
    Timer,
    KillDue(ChildKey, ActorId),
    StuckDue(ChildKey, ActorId),
    Add(Box<ChildSpec>, oneshot::Sender<Result<(), AddChildError>>),
    Command(Arc<str>, Command, oneshot::Sender<bool>),
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Start,
    Stop,
    Remove,
    Kill,
}

pub(crate) struct SupervisorActor;

pub(crate) struct SupervisorArgs {
    pub(crate) system: Arc<SystemShared>,
    pub(crate) record: Arc<Record>,
    pub(crate) rules: SupervisorRules,
    pub(crate) children: Vec<ChildSpec>,
    pub(crate) port: Arc<SupervisorPort>,
    pub(crate) ready: oneshot::Sender<Result<(), Arc<str>>>,
}

pub(crate) struct SupervisorState {
    machine: SupervisorMachine,
    pub(super) slots: HashMap<ChildKey, Slot>,
    pub(super) by_actor: HashMap<ActorId, ChildKey>,
    /// Exits that were reported before the start that they ended: ractor puts exits first.
    pub(super) early_exits: HashMap<ActorId, ExitReason>,
    pub(super) starting: usize,
    timer: Option<(Moment, AbortHandle)>,
    shared_budget: Arc<Mutex<RestartBudget>>,
    system: Arc<SystemShared>,
    record: Arc<Record>,
    port: Arc<SupervisorPort>,
    ready: Option<oneshot::Sender<Result<(), Arc<str>>>>,
}

pub(super) struct Slot {
    pub(super) child: Arc<dyn Child>,
    shutdown: Shutdown,
    pub(super) start_deadline: Duration,
    pub(super) running: Option<Running>,
    budget: Arc<Mutex<RestartBudget>>,
    pub(super) cancel: Option<oneshot::Sender<()>>,
    kill_timer: Option<AbortHandle>,
    /// Since when it has not run, and how it failed last.
    failed: Option<(Moment, ExitReason)>,
    is_stuck: bool,
    pub(super) added: Option<oneshot::Sender<Result<(), AddChildError>>>,
}

/// A killed actor ends at its next await. One that blocks its thread does not: after this long it is reported
/// as stuck, and set aside until it has ended.
const STUCK_AFTER: Duration = Duration::from_secs(5);

impl ractor::Actor for SupervisorActor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let path = args.record.path().clone();
        let seed = args.system.next_seed();
        let mut state = SupervisorState {
            machine: SupervisorMachine::new(path, args.rules, seed),
            slots: HashMap::new(),
            by_actor: HashMap::new(),
            early_exits: HashMap::new(),
            starting: 0,
            timer: None,
            shared_budget: Arc::new(Mutex::new(RestartBudget::new(args.rules.limits))),
            system: args.system,
            record: args.record,
            port: Arc::clone(&args.port),
            ready: Some(args.ready),
        };
        for spec in args.children {
            state.mount(spec, None)?;
        }
        *args.port.current.lock() = Some(myself);
        Ok(state)
    }

    async fn post_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.feed(&myself, SupervisorEvent::Begun);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartDone(key, result) => state.start_done(&myself, key, result),
            SupervisorMessage::Gone(key, id, reason) => {
                if state.is_current(key, id) {
                    state.gone(&myself, key, &reason);
                }
            }
            SupervisorMessage::Timer => {
                state.timer = None;
                state.feed(&myself, SupervisorEvent::TimerFired);
            }
            SupervisorMessage::KillDue(key, id) => {
                if state.is_current(key, id) {
                    state.kill(&myself, key);
                }
            }
            SupervisorMessage::StuckDue(key, id) => {
                if state.is_current(key, id) {
                    state.feed(&myself, SupervisorEvent::Stuck(key));
                }
            }
            SupervisorMessage::Add(spec, reply) => state.add(&myself, *spec, reply),
            SupervisorMessage::Command(id, command, reply) => {
                let key = state.machine.find(&id);
                if let Some(key) = key {
                    state.command(&myself, key, command);
                }
                // Whoever asked may have given up.
                let _ = reply.send(key.is_some());
            }
            SupervisorMessage::Stop => state.feed(&myself, SupervisorEvent::StopRequested),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, fallback) = match event {
            SupervisionEvent::ActorTerminated(cell, old_state, reason) => {
                // The old state goes before anything of the next incarnation exists.
                drop(old_state);
                let killed = reason.is_some_and(|reason| reason == "killed");
                (cell, if killed { ExitReason::Killed } else { ExitReason::Stop })
            }
            SupervisionEvent::ActorFailed(cell, fault) => {
                let text = fault.to_string().into();
                (cell, ExitReason::Crash { text, while_handling: None })
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        state.exit_reported(&myself, cell.get_id(), fallback);
        Ok(())
    }
}

impl SupervisorState {
    fn mount(
        &mut self,
        spec: ChildSpec,
        added: Option<oneshot::Sender<Result<(), AddChildError>>>,
    ) -> Result<ChildKey, super::machine::BadChild> {
        let history = self.system.take_history(spec.child.record().path());
        let key = match self.machine.add(spec.rules.clone(), history) {
            Ok(key) => key,
            Err(bad) => {
                if let Some(added) = added {
                    // Whoever asked may have given up.
                    let _ = added.send(Err(bad.clone().into()));
                }
                return Err(bad);
            }
        };
        let budget = match spec.rules.on_exhausted {
            OnExhausted::Escalate => Arc::clone(&self.shared_budget),
            OnExhausted::Quarantine(own) => Arc::new(Mutex::new(RestartBudget::new(own.limits))),
        };
        spec.child.record().show_budget(Arc::clone(&budget));
        self.system.services.tree.enter(spec.child.record());
        let slot = Slot {
            child: spec.child,
            shutdown: spec.shutdown,
            start_deadline: spec.start_deadline,
            running: None,
            budget,
            cancel: None,
            kill_timer: None,
            failed: None,
            is_stuck: false,
            added,
        };
        self.slots.insert(key, slot);
        self.show_budget(key);
        Ok(key)
    }

    fn add(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        spec: ChildSpec,
        reply: oneshot::Sender<Result<(), AddChildError>>,
    ) {
        let child = Arc::clone(&spec.child);
        if let Ok(key) = self.mount(spec, Some(reply)) {
            self.port.added.lock().push(child);
            self.feed(myself, SupervisorEvent::StartWanted(key));
        }
    }

    fn command(&mut self, myself: &ActorRef<SupervisorMessage>, key: ChildKey, command: Command) {
        match command {
            Command::Start => self.feed(myself, SupervisorEvent::StartWanted(key)),
            Command::Stop => self.feed(myself, SupervisorEvent::StopWanted(key)),
            Command::Remove => self.feed(myself, SupervisorEvent::RemoveWanted(key)),
            Command::Kill => self.kill(myself, key),
        }
    }

    /// Passes an event to the machine and does what it says.
    pub(super) fn feed(&mut self, myself: &ActorRef<SupervisorMessage>, event: SupervisorEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let actions = self.machine.handle(self.system.services.clock.now(), event);
            for action in actions {
                // A start that is over at once is fed back here instead of through the mailbox.
                events.extend(self.perform(myself, action));
            }
        }
        self.system.services.tree.changed();
        self.reset_timer(myself);
    }

    fn perform(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        action: SupervisorAction,
    ) -> Option<SupervisorEvent> {
        match action {
            SupervisorAction::Start(key) => return self.start(myself, key),
            SupervisorAction::CancelStart(key) => self.cancel_start(key),
            SupervisorAction::Stop(key) => self.stop(myself, key),
            SupervisorAction::Show(key, state) => {
                if let Some(slot) = self.slots.get(&key) {
                    slot.child.show(state);
                }
            }
            SupervisorAction::Healing { child, reason, budget, delay } => {
                self.show_budget(child);
                self.note_failure(child, &reason);
                let path = self.path_of(child)?;
                warn!(%path, %reason, used = budget.used, max = budget.max, ?delay, "restarting");
                self.system.observe(&RestartEvent::Restarting { path, reason, budget, delay });
            }
            SupervisorAction::Quarantined { child, reason, until } => {
                self.show_budget(child);
                self.note_failure(child, &reason);
                let path = self.path_of(child)?;
                let wait = until.since(self.system.services.clock.now());
                warn!(%path, %reason, ?wait, "quarantined: restart budget used up");
                let budget = self.machine.budget(child).usage(self.system.services.clock.now());
                self.system.observe(&RestartEvent::Quarantined { path, reason, budget, wait });
            }
            SupervisorAction::Stuck(key) => {
                let slot = self.slots.get_mut(&key)?;
                slot.is_stuck = true;
                let record = slot.child.record();
                record.set_last_exit(record.exit_offered(record.incarnation()).unwrap_or(ExitReason::Killed));
                let path = record.path().clone();
                error!(%path, "killed, and has not ended: it blocks its thread; nothing of it is started until it has ended");
                self.system.observe(&RestartEvent::Stuck { path });
            }
            SupervisorAction::Recovered(key) => {
                self.show_budget(key);
                let path = self.path_of(key)?;
                self.system.observe(&RestartEvent::Recovered { path });
            }
            SupervisorAction::Forget(key) => self.forget(key),
            SupervisorAction::Ready => {
                if let Some(ready) = self.ready.take() {
                    // The starter may have given up.
                    let _ = ready.send(Ok(()));
                }
            }
            SupervisorAction::Finish(reason) => self.finish(myself, reason),
        }
        None
    }

    fn stop(&mut self, myself: &ActorRef<SupervisorMessage>, key: ChildKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(running) = &slot.running else { return };
        let id = running.cell.get_id();
        match slot.shutdown {
            Shutdown::Kill => self.kill(myself, key),
            Shutdown::Grace(grace) => {
                slot.child.stop();
                slot.kill_timer = Some(remind(myself, grace, SupervisorMessage::KillDue(key, id)));
            }
        }
    }

    fn kill(&mut self, myself: &ActorRef<SupervisorMessage>, key: ChildKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(running) = &slot.running else { return };
        let id = running.cell.get_id();
        slot.child.killed();
        running.cell.kill();
        let reminder = remind(myself, STUCK_AFTER, SupervisorMessage::StuckDue(key, id));
        if let Some(earlier) = slot.kill_timer.replace(reminder) {
            earlier.abort();
        }
    }

    fn is_current(&self, key: ChildKey, id: ActorId) -> bool {
        let running = self.slots.get(&key).and_then(|slot| slot.running.as_ref());
        running.is_some_and(|running| running.cell.get_id() == id)
    }

    /// ractor says that an incarnation has ended; its task may still be dropping its state, and tasks that it
    /// has spawned may still be running.
    pub(super) fn exit_reported(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        id: ActorId,
        fallback: ExitReason,
    ) {
        let Some(key) = self.by_actor.get(&id).copied() else {
            self.early_exits.insert(id, fallback);
            return;
        };
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(running) = slot.running.as_mut() else { return };
        let record = slot.child.record();
        let reason = record.exit_offered(record.incarnation()).unwrap_or(fallback);
        let Some(mut join) = running.join.take() else { return };
        // SUP-2: the next incarnation starts only after the last one has fully ended.
        let has_ended = (&mut join).now_or_never().is_some();
        if has_ended && !record.is_alive() {
            self.gone(myself, key, &reason);
            return;
        }
        let all_ended = slot.child.all_ended();
        // A task that it has left may block its thread as well.
        slot.kill_timer
            .get_or_insert_with(|| remind(myself, STUCK_AFTER, SupervisorMessage::StuckDue(key, id)));
        let myself = myself.clone();
        tokio::spawn(async move {
            if !has_ended {
                // A panic in the task was reported as the exit's reason.
                let _ = join.await;
            }
            all_ended.await;
            let _ = myself.cast(SupervisorMessage::Gone(key, id, reason));
        });
    }

    fn gone(&mut self, myself: &ActorRef<SupervisorMessage>, key: ChildKey, reason: &ExitReason) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if let Some(running) = slot.running.take() {
            self.by_actor.remove(&running.cell.get_id());
        }
        if let Some(timer) = slot.kill_timer.take() {
            timer.abort();
        }
        let child = Arc::clone(&slot.child);
        let incarnation = child.record().incarnation();
        if std::mem::take(&mut slot.is_stuck) {
            self.system.observe(&RestartEvent::StuckEnded { path: child.record().path().clone() });
        }
        child.record().set_last_exit(reason.clone());
        child.buried();
        self.feed(myself, SupervisorEvent::Ended(key, reason.clone()));
        // What is forgotten is over for good, and has told so.
        child.notify_down(incarnation, reason, !self.slots.contains_key(&key));
    }

    fn forget(&mut self, key: ChildKey) {
        if let Some(slot) = self.slots.remove(&key) {
            slot.child.is_over();
            slot.child.show(ActorState::Stopped);
            self.system.observe(&RestartEvent::Forgotten { path: slot.child.record().path().clone() });
            self.system.services.tree.leave(slot.child.record());
            self.system.services.lingering.forget(slot.child.record());
            self.port.added.lock().retain(|added| !Arc::ptr_eq(added.record(), slot.child.record()));
        }
    }

    fn finish(&mut self, myself: &ActorRef<SupervisorMessage>, reason: ExitReason) {
        if let Some(ready) = self.ready.take() {
            // The starter may have given up.
            let _ = ready.send(Err(reason.to_string().into()));
        }
        if let ExitReason::Escalated { child, text } = &reason {
            let event = RestartEvent::Escalated {
                path: self.record.path().clone(),
                child: child.clone(),
                text: Arc::clone(text),
                budget: self.machine.shared_budget().usage(self.system.services.clock.now()),
            };
            self.system.observe(&event);
        }
        self.record.offer_exit(self.record.incarnation(), reason);
        myself.stop(None);
    }

    fn note_failure(&mut self, key: ChildKey, reason: &ExitReason) {
        let now = self.system.services.clock.now();
        if let Some(slot) = self.slots.get_mut(&key) {
            let since = slot.failed.take().map_or(now, |(since, _)| since);
            slot.failed = Some((since, reason.clone()));
        }
    }

    /// It runs; where it had failed, that is told.
    pub(super) fn note_restart(&mut self, key: ChildKey) {
        let now = self.system.services.clock.now();
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some((since, reason)) = slot.failed.take() else { return };
        let path = slot.child.record().path().clone();
        let budget = self.machine.budget(key).usage(now);
        self.system.observe(&RestartEvent::Restarted { path, reason, budget, down: now.since(since) });
    }

    /// Copies the deciding budget to where the tree reads it.
    fn show_budget(&mut self, key: ChildKey) {
        if let Some(slot) = self.slots.get(&key) {
            *slot.budget.lock() = self.machine.budget(key).clone();
        }
    }

    fn path_of(&self, key: ChildKey) -> Option<ActorPath> {
        self.slots.get(&key).map(|slot| slot.child.record().path().clone())
    }

    fn reset_timer(&mut self, myself: &ActorRef<SupervisorMessage>) {
        let due = self.machine.next_deadline();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, task)) = self.timer.take() {
            task.abort();
        }
        if let Some(due) = due {
            let wait = due.since(self.system.services.clock.now());
            self.timer = Some((due, remind(myself, wait, SupervisorMessage::Timer)));
        }
    }
}

/// Sends a message to the supervisor later.
fn remind(myself: &ActorRef<SupervisorMessage>, after: Duration, message: SupervisorMessage) -> AbortHandle {
    let myself = myself.clone();
    let task = tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // A supervisor that is gone needs no reminder.
        let _ = myself.cast(message);
    });
    task.abort_handle()
}
