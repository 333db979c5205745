//! What the rest of the node calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arw_kit::mailbox::{AskError, Down, Handle, Reply};
use arw_kit::moment::Moment;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::file::Unsaved;
use super::memory::{RETURNS_WITHIN, Sight};
use super::room::{Ended, Load, RoomAnswer};
use crate::ids::RuntimeId;
use crate::runtime::actor::{Gauge, RuntimeMemory, RuntimeMessage};
use crate::runtime::launcher::{Diagnosis, LaunchError};
use crate::runtime::lease::{AcquireError, EngineLease, Meter, NotReady};
use crate::runtime::log::EngineLog;
use crate::runtime::machine::RuntimeState;
use crate::runtime::row::RuntimeRow;
use crate::runtime::spec::{BadRuntimeSpec, RuntimeSpec};

/// The runtimes of a node. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes {
    directory: Handle<DirectoryMessage>,
    board: Arc<Board>,
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtimes({})", self.board.entries.load().len())
    }
}

/// What can be read without asking anybody: written by the directory, read by all.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) entries: ArcSwap<Vec<Entry>>,
    /// Counts changes of the list and of any runtime's row.
    pub(crate) changes: watch::Sender<u64>,
    /// Of runtimes that were removed and whose programs have ended lately.
    removed: Mutex<Vec<Arc<Gauge>>>,
    /// Why the list of runtimes cannot be read, and is not written therefore.
    pub(super) list_outage: watch::Sender<Option<Arc<str>>>,
}

/// One runtime on the board.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) spec: Arc<RuntimeSpec>,
    pub(crate) handle: Handle<RuntimeMessage>,
    /// Kept for the next incarnation of its actor, and for an actor that takes its place.
    pub(crate) memory: Arc<Mutex<RuntimeMemory>>,
    pub(crate) log: Arc<EngineLog>,
    pub(crate) meter: Arc<Meter>,
    /// The newest row that its actor has written.
    pub(crate) row: Arc<ArcSwap<Option<RuntimeRow>>>,
    /// What its engine holds now.
    pub(crate) gauge: Arc<Gauge>,
}

impl Entry {
    /// The row as its actor has written it, with what moves too often to be written each time.
    fn row(&self) -> Option<RuntimeRow> {
        let mut row = self.row.load().as_ref().clone()?;
        row.in_flight = self.meter.in_flight();
        row.usage = self.meter.totals();
        Some(row)
    }
}

impl Board {
    /// A runtime is no more; what its program held may not be free yet.
    pub(super) fn note_removed(&self, gauge: Arc<Gauge>, now: Moment) {
        let mut removed = self.removed.lock();
        removed.push(gauge);
        removed.retain(|gauge| !gauge.ended_within(RETURNS_WITHIN, now).is_empty());
    }

    /// Programs that have ended within the last `window`, of all runtimes.
    pub(super) fn ended_within(&self, window: Duration, now: Moment) -> Vec<Ended> {
        let mut removed = self.removed.lock();
        removed.retain(|gauge| !gauge.ended_within(window, now).is_empty());
        let entries = self.entries.load();
        let gauges = entries.iter().map(|entry| &entry.gauge).chain(removed.iter());
        let ended = gauges.flat_map(|gauge| gauge.ended_within(window, now));
        ended.map(|(held_bytes, ago)| Ended { held_bytes, ago }).collect()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

pub(crate) enum DirectoryMessage {
    Add(Box<RuntimeSpec>, Reply<Result<(), AddRuntimeError>>),
    /// The program of a runtime that is to be added was looked for.
    ProgramSought(Box<RuntimeSpec>, Result<(), LaunchError>, Reply<Result<(), AddRuntimeError>>),
    Remove(RuntimeId, Reply<Result<(), ControlError>>),
    /// A runtime is about to load.
    MakeRoom(Load, Reply<RoomAnswer>),
    /// Memory was read, and what the runtimes hold of it.
    Measured(Box<Sight>),
    /// The list was written, or not, and this was waiting for it.
    Written(Vec<Unsaved>, Result<(), String>),
    /// A runtime that was asked to go has said whether it does.
    EvictionAnswered(RuntimeId),
    /// Room is waited for: look again.
    LookForRoom,
    /// An operator has stopped a runtime, or has started it again.
    Held(RuntimeId, bool),
    /// Somebody wants to know when everything so far is in the file.
    Flush(Reply<Result<(), String>>),
    /// A runtime's actor has ended, though nobody removed it.
    RuntimeDown(RuntimeId, Down),
    /// The programs of a runtime that was removed have ended.
    Gone(RuntimeId, u64),
    /// A runtime that was removed has had its time to end.
    Overdue(RuntimeId, u64),
    /// A runtime whose actor could not be started is tried again.
    Readd(RuntimeId),
}
arw_kit::message!(DirectoryMessage {
    Add,
    ProgramSought,
    Remove,
    MakeRoom,
    Measured,
    Written,
    EvictionAnswered,
    LookForRoom,
    Held,
    Flush,
    RuntimeDown,
    Gone,
    Overdue,
    Readd
});

/// A runtime that serves a model, for `/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The name that clients ask for.
    pub name: String,
    /// By which runtime.
    pub runtime: RuntimeId,
    /// Its state.
    pub state: RuntimeState,
    /// One more request could wait for it.
    pub has_room: bool,
    /// An operator has stopped it: no request starts it.
    pub is_held: bool,
    /// Requests that hold a lease.
    pub in_flight: u32,
    /// The most tokens of a conversation, as far as known.
    pub context_length: Option<u64>,
}

/// A runtime cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddRuntimeError {
    /// The description does not hold together.
    #[error(transparent)]
    Bad(#[from] BadRuntimeSpec),
    /// The id is taken.
    #[error("a runtime called `{0}` exists already: remove it first, or choose another id")]
    Exists(RuntimeId),
    /// The model is not in the store.
    #[error("no model is called `{model}`; known: {}", list(known))]
    UnknownModel {
        /// As given.
        model: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It was removed, and its program has not ended yet.
    #[error("runtime `{0}` was removed and is still ending: add it again in some seconds")]
    StillEnding(RuntimeId),
    /// The program is not there or cannot be executed, or a path must stay closed to it: what a start would
    /// say.
    #[error("{}", .0.detail)]
    NoProgram(Diagnosis),
    /// Too many.
    #[error("a node has at most {0} runtimes")]
    TooMany(usize),
    /// The list could not be saved; nothing was added.
    #[error("the list of runtimes cannot be saved: {0}")]
    NotSaved(String),
    /// The node is stopping or overloaded.
    #[error("the node does not answer: {0}")]
    Unavailable(String),
}

/// A runtime cannot be controlled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is none of that id.
    #[error("no runtime is called `{id}`")]
    Unknown {
        /// As given.
        id: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It comes from the configuration file.
    #[error("runtime `{0}` comes from the configuration file: take its [[runtimes]] section out there")]
    Configured(RuntimeId),
    /// It is off the list, and its program has not ended.
    #[error("runtime `{0}` is removed, but its program has not ended yet: its id stays taken until it has")]
    StillEnding(RuntimeId),
    /// The list could not be saved; nothing was removed.
    #[error("the list of runtimes cannot be saved: {0}")]
    NotSaved(String),
    /// The node is stopping or overloaded.
    #[error("the node does not answer: {0}")]
    Unavailable(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Adding and removing write a small file and start or stop an actor.
const PATIENCE: Duration = Duration::from_secs(30);
/// A runtime's actor answers in microseconds unless the node is overloaded.
const CONTROL_PATIENCE: Duration = Duration::from_secs(5);

impl Runtimes {
    pub(crate) fn new(directory: Handle<DirectoryMessage>, board: Arc<Board>) -> Self {
        Self { directory, board }
    }

    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Adds a runtime, and starts it when it is to start by itself.
    ///
    /// # Errors
    /// See [`AddRuntimeError`]; nothing was added then.
    pub async fn add(&self, spec: RuntimeSpec) -> Result<RuntimeRow, AddRuntimeError> {
        spec.check()?;
        let id = spec.id.clone();
        let answer = self.directory.ask(|reply| DirectoryMessage::Add(Box::new(spec), reply), PATIENCE).await;
        answer.unwrap_or_else(|error| Err(AddRuntimeError::Unavailable(error.to_string())))?;
        self.row(id.as_str()).map_err(|error| AddRuntimeError::Unavailable(error.to_string()))
    }

    /// Stops a runtime and forgets it. Returns when its program has ended and its id is free again; requests
    /// in flight are broken off.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn remove(&self, id: &str) -> Result<(), ControlError> {
        // Not by the board: one that could not be added stands in the file alone.
        let id: RuntimeId = match id.parse() {
            Ok(id) => id,
            Err(_) => self.entry(id)?.spec.id.clone(),
        };
        let answer = self.directory.ask(|reply| DirectoryMessage::Remove(id, reply), PATIENCE).await;
        answer.unwrap_or_else(|error| Err(ControlError::Unavailable(error.to_string())))
    }

    /// Begins to start a runtime.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn start(&self, id: &str) -> Result<RuntimeRow, ControlError> {
        self.control(id, RuntimeMessage::Start).await
    }

    /// Begins to stop a runtime: requests in flight may finish, and requests do not start it again.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn stop(&self, id: &str) -> Result<RuntimeRow, ControlError> {
        self.control(id, RuntimeMessage::Stop).await
    }

    /// Begins to stop a runtime and start it again.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn restart(&self, id: &str) -> Result<RuntimeRow, ControlError> {
        self.control(id, RuntimeMessage::Restart).await
    }

    /// Waits until a runtime is neither on its way up nor down, and returns its row; after `patience` the row
    /// as it is then.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn settled(&self, id: &str, patience: Duration) -> Result<RuntimeRow, ControlError> {
        let mut changes = self.board.changes.subscribe();
        let mut deadline = std::pin::pin!(tokio::time::sleep(patience));
        loop {
            let row = self.row(id)?;
            let is_moving = matches!(
                row.state,
                RuntimeState::Starting
                    | RuntimeState::Warming
                    | RuntimeState::Draining
                    | RuntimeState::Backoff
            );
            if !is_moving {
                return Ok(row);
            }
            tokio::select! {
                // An error means that the node is ending: the row is as good as it gets.
                changed = changes.changed() => if changed.is_err() { return Ok(row) },
                () = &mut deadline => return Ok(row),
            }
        }
    }

    /// A runtime's row.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn row(&self, id: &str) -> Result<RuntimeRow, ControlError> {
        let row = self.entry(id)?.row();
        row.ok_or_else(|| ControlError::Unavailable("it is just being added".to_owned()))
    }

    /// All rows, in the order in which they were added.
    #[must_use]
    pub fn rows(&self) -> Vec<RuntimeRow> {
        let entries = self.board.entries.load();
        entries.iter().filter_map(Entry::row).collect()
    }

    /// Why the list of runtimes in the state folder cannot be read; `None` while all is well.
    #[must_use]
    pub fn list_outage(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.board.list_outage.subscribe()
    }

    /// Counts changes of the list and of any row.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes.subscribe()
    }

    /// What a runtime's program printed.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn log(&self, id: &str) -> Result<Arc<EngineLog>, ControlError> {
        Ok(Arc::clone(&self.entry(id)?.log))
    }

    /// The ids of the runtimes whose model, as their definition has it (a name, or the beginning of a hash),
    /// is the one that is meant.
    pub fn users_of(&self, is_meant: impl Fn(&str) -> bool) -> Vec<RuntimeId> {
        let entries = self.board.entries.load();
        let uses =
            |entry: &&Entry| entry.spec.is_managed() && entry.spec.model.as_deref().is_some_and(&is_meant);
        entries.iter().filter(uses).map(|entry| entry.spec.id.clone()).collect()
    }

    /// What clients may ask for.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        let entries = self.board.entries.load();
        let serves = entries.iter().filter(|entry| entry.spec.serves_http());
        serves
            .map(|entry| {
                let row = entry.row.load();
                let row = row.as_ref().as_ref();
                Served {
                    name: entry.spec.model.clone().unwrap_or_else(|| entry.spec.id.to_string()),
                    runtime: entry.spec.id.clone(),
                    state: row.map_or(RuntimeState::Stopped, |row| row.state),
                    has_room: row.is_none_or(|row| row.queue.waiting < row.queue.max),
                    is_held: row.is_some_and(|row| row.is_held),
                    in_flight: entry.meter.in_flight(),
                    context_length: row.and_then(|row| row.context_length),
                }
            })
            .collect()
    }

    /// Gets the right to send a request to this runtime. Waits while it starts, restarts or drains, for
    /// `patience` at most; a stopped one is started. Which runtime serves a model is for the caller to
    /// decide, by [`Runtimes::served`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire(&self, runtime: &str, patience: Duration) -> Result<EngineLease, AcquireError> {
        let entry = self.entry(runtime).ok().filter(|entry| entry.spec.serves_http());
        let Some(entry) = entry else { return Err(AcquireError::Unknown(runtime.to_owned())) };
        let ask = entry.handle.ask(RuntimeMessage::Acquire, patience).await;
        match ask {
            Ok(answer) => answer,
            Err(AskError::Expired(_)) => Err(AcquireError::NotReady(self.not_ready(&entry))),
            Err(AskError::Refused(reason)) => Err(AcquireError::Unavailable(reason.to_string())),
            // The runtime's actor was restarted with the request in hand: nothing has happened yet.
            Err(error @ (AskError::Crashed | AskError::Stopped | AskError::NoReply)) => {
                Err(AcquireError::Unavailable(error.to_string()))
            }
        }
    }

    fn not_ready(&self, entry: &Entry) -> NotReady {
        let row = entry.row.load();
        let row = row.as_ref().as_ref();
        NotReady {
            runtime: entry.spec.id.clone(),
            state: row.map_or(RuntimeState::Stopped, |row| row.state),
            reason: row.and_then(|row| row.reason.clone()),
            hint: row.and_then(|row| row.hint.clone()),
            retry_after: Some(Duration::from_secs(5)),
        }
    }

    /// Everything that a request may name.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        for served in self.served() {
            for name in [served.name, served.runtime.to_string()] {
                if !known.contains(&name) {
                    known.push(name);
                }
            }
        }
        known
    }

    async fn control(
        &self,
        id: &str,
        message: impl FnOnce(Reply<RuntimeRow>) -> RuntimeMessage,
    ) -> Result<RuntimeRow, ControlError> {
        let entry = self.entry(id)?;
        let answer = entry.handle.ask(message, CONTROL_PATIENCE).await;
        let row = answer.map_err(|error| ControlError::Unavailable(error.to_string()))?;
        // Its actor has told the directory before it answered. A disk that is full or slow stops nobody from
        // stopping a runtime: the directory warns of it.
        drop(self.directory.ask(DirectoryMessage::Flush, CONTROL_PATIENCE).await);
        Ok(row)
    }

    fn entry(&self, id: &str) -> Result<Entry, ControlError> {
        let entries = self.board.entries.load();
        let found = entries.iter().find(|entry| entry.spec.id.as_str() == id).cloned();
        found.ok_or_else(|| ControlError::Unknown {
            id: id.chars().take(80).collect(),
            known: entries.iter().map(|entry| entry.spec.id.to_string()).collect(),
        })
    }
}
