//! What a handler may do besides handling.
//!
//! Owns an incarnation's timers, tasks and monitors: all of them end with it. Refuses to touch other actors'
//! state.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinSet};

use super::dead_letters::DeadLetters;
use super::handle::{Handle, MonitorGuard};
use super::inbox::{Alive, Control, Core};
use super::message::Message;
use super::outcome::Down;
use crate::clock::Clock;
use crate::life::{ActorPath, ExitReason};
use crate::moment::Moment;
use crate::panics::{panic_text, poll_in_actor};
use crate::tree::Tree;

/// Passed to every handler of an actor with messages `M`.
pub struct Context<M> {
    core: Arc<Core<M>>,
    incarnation: u32,
    tasks: Option<Box<JoinSet<()>>>,
    monitors: Vec<MonitorGuard>,
    stop: bool,
}

/// A timer or task of one incarnation; see [`Context::after`]. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct TaskHandle(AbortHandle);

impl TaskHandle {
    /// Ends it. A message that it has already sent stays in the mailbox: number attempts where that matters.
    pub fn cancel(&self) {
        self.0.abort();
    }
}

impl<M> fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.core.record.path())
    }
}

/// A timer's message waits for space this long; the mailbox of an actor that does not come to it in an hour
/// is stuck for good.
const OWN_MESSAGE_PATIENCE: Duration = Duration::from_secs(3600);

impl<M: Message> Context<M> {
    pub(crate) fn new(core: Arc<Core<M>>, incarnation: u32) -> Self {
        Self { core, incarnation, tasks: None, monitors: Vec::new(), stop: false }
    }

    /// This actor's own handle.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        Handle::new(Arc::clone(&self.core))
    }

    /// This actor's place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.core.record.path()
    }

    /// The live tree of its system. [`Handle::find`] looks up other actors in it.
    #[must_use]
    pub fn tree(&self) -> &Arc<Tree> {
        &self.core.services.tree
    }

    /// The dead letters of its system.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.core.services.dead_letters
    }

    /// The system's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.core.services.clock
    }

    /// Monotonic now.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.core.services.clock.now()
    }

    /// Ends this incarnation in order after the current message, as a normal exit.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    pub(crate) fn wants_stop(&self) -> bool {
        self.stop
    }

    /// Sends `message` to this actor once, `delay` from now.
    pub fn after(&mut self, delay: Duration, message: M) -> TaskHandle {
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            message
        })
    }

    /// Sends a message to this actor every `period`. A tick that finds the mailbox full is skipped, and the
    /// ticks that a slow handler missed are not made up for.
    pub fn every(&mut self, period: Duration, message: impl Fn() -> M + Send + 'static) -> TaskHandle {
        let handle = self.handle();
        self.spawn_task(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // A refusal is counted as a dead letter; the next tick will do.
                let _ = handle.try_tell(message());
            }
        })
    }

    /// Runs slow work beside the mailbox; what it returns comes back as a message. The work is dropped when
    /// this incarnation ends, and a panic in it ends the incarnation as a crash.
    pub fn spawn(&mut self, work: impl Future<Output = M> + Send + 'static) -> TaskHandle {
        let handle = self.handle();
        self.spawn_task(async move {
            let message = work.await;
            // Refused only when the actor is ending anyway.
            let _ = handle.tell(message, OWN_MESSAGE_PATIENCE).await;
        })
    }

    /// Tells this actor, as a message made by `to_message`, about each exit of another one. Ends with this
    /// incarnation.
    pub fn monitor<N: Message>(
        &mut self,
        other: &Handle<N>,
        to_message: impl Fn(Down) -> M + Send + Sync + 'static,
    ) {
        let handle = self.handle();
        let guard = other.monitor(move |down| {
            // A full mailbox is counted as a dead letter: the supervisor that calls this must not wait.
            let _ = handle.try_tell(to_message(down.clone()));
        });
        self.monitors.push(guard);
    }

    /// Something of this incarnation that lives until it is dropped, as a thread that is blocked does.
    #[cfg(test)]
    pub(crate) fn outlive(&self) -> Alive<M> {
        Alive::new(&self.core)
    }

    fn spawn_task(&mut self, work: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let (core, incarnation) = (Arc::clone(&self.core), self.incarnation);
        let alive = Alive::new(&core);
        let tasks = self.tasks.get_or_insert_default();
        // Finished tasks are taken out here, so that the set holds only what runs.
        while tasks.try_join_next().is_some() {}
        TaskHandle(tasks.spawn(async move {
            // Gone before the rest follows: the task counts as alive until all of its work has been dropped.
            let done = {
                let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
                poll_fn(|cx| poll_in_actor(work.as_mut(), cx)).await
            };
            if let Err(panic) = done {
                let text = format!("task panicked: {}", panic_text(panic.as_ref()));
                let reason = ExitReason::Crash { text: text.into(), while_handling: None };
                core.record.offer_exit(incarnation, reason);
                core.command(incarnation, Control::Stop);
            }
            drop(alive);
        }))
    }
}
