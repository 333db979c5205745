//! An actor system: a tree of supervisors with everything that its actors share.
//!
//! Owns the clock, the tree, dead letters and deadlines of one system. Two systems in one process share
//! nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::child::Child;
use super::handle::SupervisorHandle;
use super::machine::BadChild;
use super::shared::{RestartHistory, SupervisionObserver, SystemShared};
use super::spec::SupervisorSpec;
use crate::clock::Clock;
use crate::life::{ActorPath, ExitReason};
#[cfg(test)]
use crate::mailbox::{Core, CoreOptions};
use crate::mailbox::{DeadLetters, Handle, Message, Services};
use crate::tree::{ActorState, Tree};

/// The system could not start; nothing of it is left running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartSystemError {
    /// A child spec is not acceptable.
    #[error(transparent)]
    Bad(#[from] BadChild),
    /// A child could not start.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// A tree of supervised actors. Cheap to clone.
///
/// See `actors/kit/examples/counter.rs` for a whole program.
#[derive(Clone)]
pub struct ActorSystem {
    shared: Arc<SystemShared>,
    life: Arc<SystemLife>,
}

/// Of the system as a whole, which nothing below the root needs to know.
struct SystemLife {
    name: Arc<str>,
    root: Mutex<Option<SupervisorHandle>>,
    ended: watch::Sender<Option<ExitReason>>,
}

impl fmt::Debug for ActorSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorSystem({})", self.life.name)
    }
}

impl ActorSystem {
    /// A system whose root is called `name`. Call it inside a tokio runtime.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with(name, Clock::system(), None, RestartHistory::new(), 0)
    }

    /// A system with everything injected: clock, observer, earlier restarts, and the seed that spreads
    /// backoffs.
    #[must_use]
    pub fn with(
        name: &str,
        clock: Clock,
        observer: Option<Arc<dyn SupervisionObserver>>,
        history: RestartHistory,
        seed: u64,
    ) -> Self {
        let life = SystemLife { name: name.into(), root: Mutex::new(None), ended: watch::channel(None).0 };
        Self {
            shared: SystemShared::new(Services::new(clock), observer, history, seed),
            life: Arc::new(life),
        }
    }

    /// A mailbox that no supervisor knows.
    #[cfg(test)]
    pub(crate) fn core<M: Message>(&self, name: &str) -> Arc<Core<M>> {
        let path = ActorPath::root(&self.life.name).child(name);
        let record = self.shared.services.tree.make(path, "test", M::KINDS);
        let options = CoreOptions { bound: 16 };
        Arc::new(Core::new(Arc::clone(&self.shared.services), record, options))
    }

    /// Begins the root supervisor; [`ActorSystem::start`] starts it.
    #[must_use]
    pub fn root(&self) -> SupervisorSpec {
        let name = Arc::clone(&self.life.name);
        SupervisorSpec::new(Arc::clone(&self.shared), ActorPath::root(&name), name)
    }

    /// Starts the root and, in order, everything under it.
    ///
    /// # Errors
    /// See [`StartSystemError`].
    pub async fn start(&self, root: SupervisorSpec) -> Result<SupervisorHandle, StartSystemError> {
        if let Some(bad) = root.bad() {
            return Err(bad.clone().into());
        }
        let handle = root.handle();
        let (child, record) = root.into_supervisor_child();
        self.shared.services.tree.enter(&record);
        let running = match child.start_under(None).await {
            Ok(running) => running,
            Err(text) => {
                child.is_over();
                return Err(StartSystemError::Failed(text));
            }
        };
        record.set_state(ActorState::Running);
        *self.life.root.lock() = Some(handle.clone());
        self.shared.services.tree.changed();
        let (services, life) = (Arc::clone(&self.shared.services), Arc::clone(&self.life));
        tokio::spawn(async move {
            // A panic in the supervisor ends it like an exit does.
            if let Some(join) = running.join {
                let _ = join.await;
            }
            let reason = record.exit_offered(record.incarnation()).unwrap_or(ExitReason::Killed);
            record.set_last_exit(reason.clone());
            let state = if reason.is_abnormal() { ActorState::Failed } else { ActorState::Stopped };
            record.set_state(state);
            child.is_over();
            services.tree.changed();
            life.ended.send_replace(Some(reason));
            // The root knows its system, which nothing would ever drop otherwise.
            life.root.lock().take();
        });
        Ok(handle)
    }

    /// Resolves when the root has ended, with the reason.
    pub async fn ended(&self) -> ExitReason {
        let mut ended = self.life.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // The sender lives as long as `self`.
        reason.unwrap_or(ExitReason::Killed)
    }

    /// Stops everything in reverse start order. `None` when that took longer than `patience`.
    pub async fn shutdown(&self, patience: Duration) -> Option<ExitReason> {
        let root = self.life.root.lock().clone();
        if let Some(root) = root {
            root.request_stop();
        } else if self.life.ended.borrow().is_none() {
            // It was never started.
            return None;
        }
        tokio::time::timeout(patience, self.ended()).await.ok()
    }

    /// The live tree.
    #[must_use]
    pub fn tree(&self) -> &Arc<Tree> {
        &self.shared.services.tree
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.services.clock
    }

    /// The dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.shared.services.dead_letters
    }

    /// The handle of the actor at `path`; `None` when there is none, or when it takes other messages.
    #[must_use]
    pub fn find<M: Message>(&self, path: &str) -> Option<Handle<M>> {
        Handle::find(&self.shared.services.tree, path)
    }
}
