//! An actor system: a tree of supervisors with everything that its actors share.
//!
//! Owns the clock, the tree, dead letters and deadlines of one system. Two systems in one process share nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::child::Child;
use super::exit::ExitReason;
use super::handle::SupervisorHandle;
use super::lingering::Lingering;
use super::machine::BadChild;
use super::spec::SupervisorSpec;
use crate::clock::Clock;
use crate::mailbox::{Core, DeadLetters, Deadlines, Handle, Message, Probe};
use crate::moment::Moment;
use crate::tree::{ActorPath, ActorState, RestartUse, Tree};

/// Is told about every failure, restart, quarantine and escalation, synchronously: it must not block.
pub trait SupervisionObserver: Send + Sync + fmt::Debug + 'static {
    /// Something happened.
    fn observe(&self, event: &RestartEvent);
}

/// What a [`SupervisionObserver`] is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartEvent {
    /// A child failed, and will be started again.
    Restarting {
        /// The child.
        path: ActorPath,
        /// How it failed.
        reason: ExitReason,
        /// The budget after it.
        budget: RestartUse,
        /// The wait before its start.
        delay: Duration,
    },
    /// A child runs again after a failure.
    Restarted {
        /// The child.
        path: ActorPath,
        /// How it had failed last.
        reason: ExitReason,
        /// The budget now.
        budget: RestartUse,
        /// How long it did not run.
        down: Duration,
    },
    /// A stuck child has ended after all.
    StuckEnded {
        /// The child.
        path: ActorPath,
    },
    /// A child is forgotten.
    Forgotten {
        /// The child.
        path: ActorPath,
    },
    /// A child used up its own budget and was set aside.
    Quarantined {
        /// The child.
        path: ActorPath,
        /// How it failed.
        reason: ExitReason,
        /// Its budget.
        budget: RestartUse,
        /// Until it is tried again.
        wait: Duration,
    },
    /// A child was killed and has not ended: it blocks its thread. Nothing of it is started until it has.
    Stuck {
        /// The child.
        path: ActorPath,
    },
    /// A quarantined child runs again and has stayed up.
    Recovered {
        /// The child.
        path: ActorPath,
    },
    /// A supervisor gave up.
    Escalated {
        /// The supervisor.
        path: ActorPath,
        /// The child that used up the budget.
        child: ActorPath,
        /// How that child last ended.
        text: Arc<str>,
        /// The budget that it used up.
        budget: RestartUse,
    },
}

/// Earlier restarts by path, as read from the journal: budgets go on across a restart of the node.
pub type RestartHistory = HashMap<ActorPath, Vec<Moment>>;

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

pub(crate) struct SystemShared {
    pub(crate) clock: Clock,
    pub(crate) tree: Arc<Tree>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) lingering: Lingering,
    name: Arc<str>,
    observer: Option<Arc<dyn SupervisionObserver>>,
    history: Mutex<RestartHistory>,
    seed: AtomicU64,
    root: Mutex<Option<SupervisorHandle>>,
    ended: watch::Sender<Option<ExitReason>>,
}

impl SystemShared {
    pub(crate) fn observe(&self, event: &RestartEvent) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    pub(crate) fn take_history(&self, path: &ActorPath) -> Vec<Moment> {
        self.history.lock().remove(path).unwrap_or_default()
    }

    pub(crate) fn next_seed(&self) -> u64 {
        // An odd step, so that no seed repeats.
        self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

/// A tree of supervised actors. Cheap to clone.
///
/// See `actors/examples/counter.rs` for a whole program.
#[derive(Clone)]
pub struct ActorSystem {
    shared: Arc<SystemShared>,
}

impl fmt::Debug for ActorSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorSystem({})", self.shared.name)
    }
}

impl ActorSystem {
    /// A system whose root is called `name`. Call it inside a tokio runtime.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with(name, Clock::system(), None, RestartHistory::new(), 0)
    }

    /// A system with everything injected: clock, observer, earlier restarts, and the seed that spreads backoffs.
    #[must_use]
    pub fn with(
        name: &str,
        clock: Clock,
        observer: Option<Arc<dyn SupervisionObserver>>,
        history: RestartHistory,
        seed: u64,
    ) -> Self {
        Self {
            shared: Arc::new(SystemShared {
                clock,
                tree: Arc::new(Tree::new(clock)),
                dead_letters: DeadLetters::default(),
                deadlines: Deadlines::new(),
                lingering: Lingering::default(),
                name: name.into(),
                observer,
                history: Mutex::new(history),
                seed: AtomicU64::new(seed),
                root: Mutex::new(None),
                ended: watch::channel(None).0,
            }),
        }
    }

    /// A mailbox that no supervisor knows.
    #[cfg(test)]
    pub(crate) fn core<M: Message>(&self, name: &str) -> Arc<Core<M>> {
        let path = ActorPath::root(&self.shared.name).child(name);
        let record = self.shared.tree.make(path, "test", M::KINDS);
        let options = crate::mailbox::CoreOptions { bound: 16 };
        Arc::new(Core::new(Arc::clone(&self.shared), record, options))
    }

    pub(crate) fn from_shared(shared: Arc<SystemShared>) -> Self {
        Self { shared }
    }

    /// Begins the root supervisor; [`ActorSystem::start`] starts it.
    #[must_use]
    pub fn root(&self) -> SupervisorSpec {
        let name = Arc::clone(&self.shared.name);
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
        self.shared.tree.enter(&record);
        let running = match child.start_under(None).await {
            Ok(running) => running,
            Err(text) => {
                child.is_over();
                return Err(StartSystemError::Failed(text));
            }
        };
        record.set_state(ActorState::Running);
        *self.shared.root.lock() = Some(handle.clone());
        self.shared.tree.changed();
        let shared = Arc::clone(&self.shared);
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
            shared.tree.changed();
            shared.ended.send_replace(Some(reason));
            // The root knows its system, which nothing would ever drop otherwise.
            shared.root.lock().take();
        });
        Ok(handle)
    }

    /// Resolves when the root has ended, with the reason.
    pub async fn ended(&self) -> ExitReason {
        let mut ended = self.shared.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // The sender lives as long as `self`.
        reason.unwrap_or(ExitReason::Killed)
    }

    /// Stops everything in reverse start order. `None` when that took longer than `patience`.
    pub async fn shutdown(&self, patience: Duration) -> Option<ExitReason> {
        let root = self.shared.root.lock().clone();
        if let Some(root) = root {
            root.request_stop();
        } else if self.shared.ended.borrow().is_none() {
            // It was never started.
            return None;
        }
        tokio::time::timeout(patience, self.ended()).await.ok()
    }

    /// The live tree.
    #[must_use]
    pub fn tree(&self) -> &Arc<Tree> {
        &self.shared.tree
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.shared.dead_letters
    }

    /// The handle of the actor at `path`; `None` when there is none, or when it takes other messages.
    #[must_use]
    pub fn find<M: Message>(&self, path: &str) -> Option<Handle<M>> {
        let mailbox: Arc<dyn Probe> = self.shared.tree.get(path)?.probe()?;
        let mailbox: Arc<dyn std::any::Any + Send + Sync> = mailbox;
        mailbox.downcast::<Core<M>>().ok().map(Handle::new)
    }
}
