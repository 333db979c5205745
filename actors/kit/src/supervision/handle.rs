//! How others reach a supervisor.
//!
//! Owns [`SupervisorHandle`], valid across the supervisor's restarts, and the bound on its commands. Refuses
//! to decide.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::{Semaphore, oneshot};

use super::child::Child;
use super::shared::{RestartEvent, SystemShared};
use super::spec::{ActorSpec, AddChildError};
use super::supervisor::{Command, SupervisorMessage};
use crate::life::ActorPath;
use crate::mailbox::{Actor, Handle};

/// Adds, restarts and removes children of a running supervisor. Valid across the supervisor's restarts.
#[derive(Clone)]
pub struct SupervisorHandle {
    port: Arc<SupervisorPort>,
}

/// Where a supervisor's current incarnation is reached.
pub(crate) struct SupervisorPort {
    system: Arc<SystemShared>,
    path: ActorPath,
    pub(super) current: Mutex<Option<ActorRef<SupervisorMessage>>>,
    /// ractor's own mailboxes have no bound; this is the bound for commands.
    permits: Arc<Semaphore>,
    /// Children that were added while it ran.
    pub(super) added: Mutex<Vec<Arc<dyn Child>>>,
}

const COMMANDS_MAX: usize = 1024;

impl SupervisorPort {
    pub(crate) fn new(system: Arc<SystemShared>, path: ActorPath) -> Self {
        Self {
            system,
            path,
            current: Mutex::new(None),
            permits: Arc::new(Semaphore::new(COMMANDS_MAX)),
            added: Mutex::default(),
        }
    }

    /// `false` when no incarnation runs.
    pub(crate) fn send(&self, message: SupervisorMessage) -> bool {
        let current = self.current.lock().clone();
        current.is_some_and(|current| current.cast(message).is_ok())
    }

    /// The incarnation has ended: what was added to it while it ran ends with it.
    pub(crate) fn clear(&self) {
        *self.current.lock() = None;
        let added = std::mem::take(&mut *self.added.lock());
        for child in added {
            self.system.services.tree.leave(child.record());
            self.system.services.lingering.forget(child.record());
            child.is_over();
            self.system.observe(&RestartEvent::Forgotten { path: child.record().path().clone() });
        }
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupervisorHandle({})", self.port.path)
    }
}

impl SupervisorHandle {
    pub(crate) fn new(port: Arc<SupervisorPort>) -> Self {
        Self { port }
    }

    /// The supervisor's place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.port.path
    }

    /// Adds an actor at the end of the start order and starts it. It is not kept over a restart of the
    /// supervisor itself.
    ///
    /// # Errors
    /// See [`AddChildError`]. After `NoSupervisor` the child may still come up, if the supervisor was only
    /// slow.
    pub async fn add<A: Actor>(
        &self,
        spec: ActorSpec<A>,
        patience: Duration,
    ) -> Result<Handle<A::Message>, AddChildError> {
        let add = async {
            let _permit = self.port.permits.acquire().await.map_err(|_| AddChildError::NoSupervisor)?;
            let (spec, handle) = spec.mount(&self.port.system, &self.port.path);
            let (reply, answer) = oneshot::channel();
            let sent = self.port.send(SupervisorMessage::Add(Box::new(spec), reply));
            let result = match answer.await {
                Ok(result) if sent => result,
                Ok(_) | Err(_) => Err(AddChildError::NoSupervisor),
            };
            result.map(|()| handle)
        };
        tokio::time::timeout(patience, add).await.unwrap_or(Err(AddChildError::NoSupervisor))
    }

    /// Starts a child that is stopped, or tries a quarantined one now. `false` when there is no such child.
    pub async fn start(&self, id: &str, patience: Duration) -> bool {
        self.command(id, Command::Start, patience).await
    }

    /// Stops a child and leaves it so. Resolves when the stop has begun; `false` when there is no such child.
    pub async fn stop(&self, id: &str, patience: Duration) -> bool {
        self.command(id, Command::Stop, patience).await
    }

    /// Stops a child and forgets it. Resolves when the stop has begun; `false` when there is no such child.
    pub async fn remove(&self, id: &str, patience: Duration) -> bool {
        self.command(id, Command::Remove, patience).await
    }

    /// Kills a child's incarnation, as a failure: its restart rules decide what follows. `false` when there
    /// is no such child.
    pub async fn kill(&self, id: &str, patience: Duration) -> bool {
        self.command(id, Command::Kill, patience).await
    }

    /// Asks it to stop its children in reverse order and then itself.
    pub(crate) fn request_stop(&self) {
        self.port.send(SupervisorMessage::Stop);
    }

    async fn command(&self, id: &str, command: Command, patience: Duration) -> bool {
        let run = async {
            let _permit = self.port.permits.acquire().await.ok()?;
            let (reply, answer) = oneshot::channel();
            self.port.send(SupervisorMessage::Command(id.into(), command, reply)).then_some(())?;
            answer.await.ok()
        };
        tokio::time::timeout(patience, run).await.ok().flatten().unwrap_or(false)
    }
}
