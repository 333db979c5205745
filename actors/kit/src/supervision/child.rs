//! A child without its type: what a supervisor needs in order to start, stop and bury it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ractor::ActorCell;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::handle::SupervisorPort;
use super::machine::SupervisorRules;
use super::shared::SystemShared;
use super::spec::ChildSpec;
use super::supervisor::{SupervisorActor, SupervisorArgs, SupervisorMessage};
use crate::life::ExitReason;
use crate::mailbox::{Actor, Control, Core, RefusedReason, Resident, ResidentArgs};
use crate::tree::{ActorState, Record};

/// A running incarnation.
pub(crate) struct Running {
    pub(crate) cell: ActorCell,
    /// Taken by whoever waits for the end.
    pub(crate) join: Option<JoinHandle<()>>,
}

pub(crate) trait Child: Send + Sync {
    fn record(&self) -> &Arc<Record>;
    /// Starts an incarnation, once nothing of an earlier one lives. Dropping the future leaves nothing
    /// running, unless `cancel_start` is to be used.
    fn start(self: Arc<Self>, supervisor: ActorCell) -> BoxFuture<'static, Result<Running, Arc<str>>>;
    /// `true` when a running start was told to fail by itself.
    fn cancel_start(&self) -> bool {
        false
    }
    /// Asks for an orderly end.
    fn stop(&self);
    /// It is going to be killed.
    fn killed(&self);
    /// Shows a state, and opens or closes the mailbox accordingly.
    fn show(&self, state: ActorState);
    /// Resolves when nothing of an incarnation lives: its state is dropped, its tasks have ended.
    fn all_ended(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
    /// An incarnation has fully ended; the next one has not begun.
    fn buried(&self);
    /// Tells who monitors it of the end of an incarnation.
    fn notify_down(&self, _incarnation: u32, _reason: &ExitReason, _is_final: bool) {}
    /// No incarnation will ever follow, of this child and of all below it: tells who monitors them.
    fn is_over(&self);
}

/// A start that finds an earlier incarnation alive waits so long for its end, and fails. It is tried again as
/// any start that failed.
const LAST_END_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct ActorChild<A: Actor> {
    core: Arc<Core<A::Message>>,
    args: Arc<A::Args>,
}

impl<A: Actor> ActorChild<A> {
    pub(crate) fn new(core: Arc<Core<A::Message>>, args: Arc<A::Args>) -> Self {
        Self { core, args }
    }
}

impl<A: Actor> Child for ActorChild<A> {
    fn record(&self) -> &Arc<Record> {
        &self.core.record
    }

    fn start(self: Arc<Self>, supervisor: ActorCell) -> BoxFuture<'static, Result<Running, Arc<str>>> {
        let args = ResidentArgs::<A> { core: Arc::clone(&self.core), args: Arc::clone(&self.args) };
        async move {
            let lingering = &self.core.services.lingering;
            // SUP-2: also where the supervisor that knew the last incarnation has ended before it.
            if lingering.is_before(&self.core.record)
                && tokio::time::timeout(LAST_END_PATIENCE, lingering.ended(&self.core.record)).await.is_err()
            {
                return Err(
                    "an earlier incarnation was killed and has not ended: it blocks its thread".into()
                );
            }
            spawned(ractor::ActorRuntime::spawn_linked(None, Resident::<A>::new(), args, supervisor).await)
        }
        .boxed()
    }

    fn stop(&self) {
        self.core.command(self.core.record.incarnation(), Control::Stop);
    }

    fn killed(&self) {
        let incarnation = self.core.record.incarnation();
        self.core.record.offer_exit(incarnation, ExitReason::Killed);
        self.core.command(incarnation, Control::Killed);
    }

    fn show(&self, state: ActorState) {
        self.core.record.set_state(state);
        match state {
            ActorState::Starting => self.core.open(),
            ActorState::Stopped | ActorState::Failed => {
                self.core.close(RefusedReason::Stopped);
                self.core.rests();
            }
            ActorState::Quarantined => self.core.close(RefusedReason::Quarantined),
            ActorState::Running | ActorState::Stopping | ActorState::Backoff => {}
        }
    }

    fn all_ended(&self) -> BoxFuture<'static, ()> {
        let core = Arc::clone(&self.core);
        async move { core.services.lingering.ended(&core.record).await }.boxed()
    }

    fn buried(&self) {
        self.core.record.batch_ended();
        // The message in hand has left room, and nobody else says so.
        self.core.notify_space();
    }

    fn notify_down(&self, incarnation: u32, reason: &ExitReason, is_final: bool) {
        self.core.notify_down(incarnation, reason, is_final);
    }

    fn is_over(&self) {
        self.core.close(RefusedReason::Stopped);
        self.core.is_over();
    }
}

fn spawned<M>(
    result: Result<(ractor::ActorRef<M>, JoinHandle<()>), ractor::SpawnErr>,
) -> Result<Running, Arc<str>> {
    match result {
        Ok((actor, join)) => Ok(Running { cell: actor.get_cell(), join: Some(join) }),
        Err(ractor::SpawnErr::StartupFailed(fault)) => Err(fault.to_string().into()),
        Err(other) => Err(other.to_string().into()),
    }
}

pub(crate) struct SupervisorChild {
    system: Arc<SystemShared>,
    record: Arc<Record>,
    rules: SupervisorRules,
    children: Vec<ChildSpec>,
    port: Arc<SupervisorPort>,
}

impl SupervisorChild {
    pub(crate) fn new(
        system: Arc<SystemShared>,
        record: Arc<Record>,
        rules: SupervisorRules,
        children: Vec<ChildSpec>,
        port: Arc<SupervisorPort>,
    ) -> Self {
        Self { system, record, rules, children, port }
    }

    fn args(&self, ready: oneshot::Sender<Result<(), Arc<str>>>) -> SupervisorArgs {
        SupervisorArgs {
            system: Arc::clone(&self.system),
            record: Arc::clone(&self.record),
            rules: self.rules,
            children: self.children.clone(),
            port: Arc::clone(&self.port),
            ready,
        }
    }

    /// Starts it with or without a supervisor of its own; resolves when all its children have started.
    pub(crate) async fn start_under(&self, parent: Option<ActorCell>) -> Result<Running, Arc<str>> {
        let (ready, is_ready) = oneshot::channel();
        let args = self.args(ready);
        let started = match parent {
            Some(parent) => ractor::ActorRuntime::spawn_linked(None, SupervisorActor, args, parent).await,
            None => ractor::ActorRuntime::spawn(None, SupervisorActor, args).await,
        };
        let running = spawned(started)?;
        match is_ready.await {
            Ok(Ok(())) => Ok(running),
            failed => {
                // SUP-2: a failed start leaves nothing behind. The supervisor is ending; a panic in it was
                // reported.
                if let Some(join) = running.join {
                    let _ = join.await;
                }
                // What was added to it meanwhile ends with it.
                self.port.clear();
                let text = failed.ok().and_then(Result::err);
                Err(text.unwrap_or_else(|| "the supervisor ended while it started".into()))
            }
        }
    }
}

impl Child for SupervisorChild {
    fn record(&self) -> &Arc<Record> {
        &self.record
    }

    fn start(self: Arc<Self>, supervisor: ActorCell) -> BoxFuture<'static, Result<Running, Arc<str>>> {
        async move { self.start_under(Some(supervisor)).await }.boxed()
    }

    fn cancel_start(&self) -> bool {
        self.port.send(SupervisorMessage::Stop);
        true
    }

    fn stop(&self) {
        self.port.send(SupervisorMessage::Stop);
    }

    fn killed(&self) {
        self.record.offer_exit(self.record.incarnation(), ExitReason::Killed);
    }

    fn show(&self, state: ActorState) {
        if state == ActorState::Starting {
            self.record.begin_incarnation();
        }
        self.record.set_state(state);
    }

    fn buried(&self) {
        self.port.clear();
    }

    fn is_over(&self) {
        self.port.clear();
        for child in &self.children {
            child.child.is_over();
        }
    }
}
