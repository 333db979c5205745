//! Keeps the list of runtimes and hands out memory.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arw_kit::clock::Clock;
use arw_kit::life::{ActorPath, RestartBudget, RestartLimits};
use arw_kit::mailbox::{Actor, Context, Fault, Handle, MonitorGuard, Reply};
use arw_kit::supervision::{ActorSpec, OnExhausted, Quarantine, RestartHistory, Shutdown, SupervisorHandle};
use parking_lot::Mutex;
use tracing::{error, warn};

use super::client::{AddRuntimeError, Board, DirectoryMessage, Entry};
use super::file::Unsaved;
use super::memory::{Loads, load_under_way};
use super::removal::Leaving;
use super::saved::{Saved, SavedRuntimes};
use crate::hardware::{Hardware, HardwareSources};
use crate::ids::RuntimeId;
use crate::journal::Journal;
use crate::model::ModelLibrary;
use crate::runtime::actor::{Gauge, RuntimeActor, RuntimeArgs, RuntimeMemory, RuntimeMessage, engine_path};
use crate::runtime::engine_client::EngineClient;
use crate::runtime::launcher::Launcher;
use crate::runtime::lease::Meter;
use crate::runtime::log::{EngineLog, EngineLogOptions};
use crate::runtime::machine::RuntimeRules;
use crate::runtime::settings::RuntimeSettings;
use crate::runtime::spec::RuntimeSpec;

/// What the directory starts from.
pub(crate) struct DirectoryArgs {
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) client: EngineClient,
    pub(crate) models: ModelLibrary,
    pub(crate) journal: Journal,
    pub(crate) board: Arc<Board>,
    pub(crate) settings: RuntimeSettings,
    /// Runtimes of the configuration file.
    pub(crate) configured: Vec<RuntimeSpec>,
    pub(crate) state_dir: PathBuf,
    pub(crate) hardware: Arc<Mutex<Hardware>>,
    pub(crate) sources: HardwareSources,
    /// Engine restarts of earlier processes.
    pub(crate) history: Mutex<RestartHistory>,
}

pub(crate) struct DirectoryActor {
    pub(super) args: Args,
    pub(super) saved: SavedRuntimes,
    /// Why the file could not be read: it is not written then.
    pub(super) unread: Option<String>,
    pub(super) is_writing: bool,
    /// What waits for the next writing of the file.
    pub(super) unsaved: Vec<Unsaved>,
    /// What stands in the file and could not be added: it stays there until it is mended or removed.
    pub(super) dormant: Vec<RuntimeSpec>,
    pub(super) members: HashMap<RuntimeId, Member>,
    /// Runtimes that were removed and whose actors have not ended yet.
    pub(super) leaving: HashMap<RuntimeId, Leaving>,
    /// What an operator has stopped, as it stands in the file.
    pub(super) held: BTreeSet<RuntimeId>,
    /// Counts removals, which tells the deadline of one from that of the next of the same id.
    pub(super) removals: u64,
    pub(super) loads: Loads,
}

pub(super) struct Member {
    pub(super) monitor: MonitorGuard,
    pub(super) is_configured: bool,
    /// It is being removed: it is not in the file any more.
    pub(super) is_going: bool,
}

/// The parts of [`DirectoryArgs`] that are used all the time.
pub(super) struct Args {
    pub(super) supervisor: SupervisorHandle,
    launcher: Arc<dyn Launcher>,
    client: EngineClient,
    models: ModelLibrary,
    pub(super) journal: Journal,
    pub(super) board: Arc<Board>,
    pub(super) settings: RuntimeSettings,
    configured: Vec<RuntimeSpec>,
    state_dir: PathBuf,
    pub(super) hardware: Arc<Mutex<Hardware>>,
    pub(super) sources: HardwareSources,
    history: RestartHistory,
}

/// More than a machine can load; keeps a runaway script from filling the tree.
const RUNTIMES_MAX: usize = 256;
/// A supervisor that is being started again is there by then.
const READD_AFTER: Duration = Duration::from_secs(5);
/// Starting an actor takes microseconds; a supervisor that is busy longer is in trouble.
pub(super) const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(20);

impl Actor for DirectoryActor {
    type Message = DirectoryMessage;
    type Args = DirectoryArgs;
    const KIND: &'static str = "directory";

    async fn start(args: &DirectoryArgs, context: &mut Context<DirectoryMessage>) -> Result<Self, Fault> {
        let mut actor = Self {
            saved: SavedRuntimes::at(&args.state_dir),
            unread: None,
            is_writing: false,
            unsaved: Vec::new(),
            dormant: Vec::new(),
            args: Args {
                supervisor: args.supervisor.clone(),
                launcher: Arc::clone(&args.launcher),
                client: args.client.clone(),
                models: args.models.clone(),
                journal: args.journal.clone(),
                board: Arc::clone(&args.board),
                settings: args.settings.clone(),
                configured: args.configured.clone(),
                state_dir: args.state_dir.clone(),
                hardware: Arc::clone(&args.hardware),
                sources: args.sources.clone(),
                history: args.history.lock().clone(),
            },
            members: HashMap::new(),
            leaving: HashMap::new(),
            held: BTreeSet::new(),
            removals: 0,
            loads: Loads::new(&args.settings),
        };
        // Here and not by a message: nothing is written before it has been read, and whoever asks for a
        // runtime of the file when the node has just come up finds it.
        actor.boot(context).await;
        Ok(actor)
    }

    async fn handle(
        &mut self,
        message: DirectoryMessage,
        context: &mut Context<DirectoryMessage>,
    ) -> Result<(), Fault> {
        match message {
            DirectoryMessage::Add(spec, reply) => self.seek_program(spec, reply, context),
            DirectoryMessage::ProgramSought(spec, sought, reply) => {
                let added = match sought {
                    Ok(()) => self.check_and_add(spec.as_ref().clone(), context).await,
                    Err(error) => Err(AddRuntimeError::NoProgram(error.0)),
                };
                match added {
                    Ok(()) => self.save(Unsaved::Added { spec, reply }, context),
                    // Whoever asked may have given up.
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            DirectoryMessage::Remove(id, reply) => self.remove(id, reply, context),
            DirectoryMessage::Written(batch, written) => self.written(batch, written, context).await,
            DirectoryMessage::MakeRoom(load, reply) => self.make_room(load, reply, context),
            DirectoryMessage::LookForRoom => self.look_for_room(context),
            DirectoryMessage::Measured(sight) => self.measured(*sight, context),
            DirectoryMessage::EvictionAnswered(id) => self.eviction_answered(&id, context),
            DirectoryMessage::Held(id, is_held) => self.note_held(id, is_held, context),
            DirectoryMessage::Flush(reply) => self.flush(reply, context),
            DirectoryMessage::Gone(id, number) => self.gone(&id, number, context.now()),
            DirectoryMessage::Overdue(id, number) => self.overdue(&id, number, context),
            DirectoryMessage::RuntimeDown(_, down) if !down.is_final => {}
            DirectoryMessage::RuntimeDown(id, down) => {
                if self.leaving.contains_key(&id) {
                    self.actor_ended(&id, context);
                } else if self.members.remove(&id).is_some() {
                    error!(runtime = %id, reason = %down.reason, "a runtime's actor ended; it is started anew");
                    self.readd(&id, context).await;
                }
            }
            DirectoryMessage::Readd(id) => self.readd(&id, context).await,
        }
        Ok(())
    }
}

impl DirectoryActor {
    async fn boot(&mut self, context: &mut Context<DirectoryMessage>) {
        let file = self.saved.clone();
        let read = tokio::task::spawn_blocking(move || file.read().map_err(|error| error.to_string())).await;
        let saved = read.unwrap_or_else(|error| Err(error.to_string())).unwrap_or_else(|error| {
            error!(%error, "runtimes added earlier are not known, and the list is not written until it can be read");
            self.unread = Some(error);
            Saved::default()
        });
        self.args.board.list_outage.send_replace(self.unread.as_deref().map(Into::into));
        self.held = saved.held;
        // After a crash of this actor the runtimes are still there: they are known from the board.
        let known: Vec<_> = self.args.board.entries.load().iter().cloned().collect();
        for entry in known {
            let is_configured = self.args.configured.iter().any(|spec| spec.id == entry.spec.id);
            let is_saved = saved.runtimes.iter().any(|spec| spec.id == entry.spec.id);
            self.watch(&entry, is_configured, context);
            if !is_configured && !is_saved && self.unread.is_none() {
                // It was being removed.
                self.take_away(&entry.spec.id, None, context).await;
            }
            if let Some(load) = load_under_way(&entry) {
                self.loads.room.restore(load);
            }
        }
        for spec in self.args.configured.clone() {
            self.add_at_boot(spec, true, context).await;
        }
        for spec in saved.runtimes {
            self.add_at_boot(spec, false, context).await;
        }
    }

    async fn add_at_boot(
        &mut self,
        spec: RuntimeSpec,
        is_configured: bool,
        context: &mut Context<DirectoryMessage>,
    ) {
        let id = spec.id.clone();
        if self.members.contains_key(&id) {
            return;
        }
        match self.add(spec.clone(), is_configured, context).await {
            Ok(()) if spec.auto_start => self.boot_runtime(&id),
            Ok(()) => {}
            Err(error) => {
                // What is wrong with it may be mended while the node runs; it stays in the file.
                warn!(runtime = %id, %error, "runtime not added");
                if !is_configured {
                    self.dormant.push(spec);
                }
                if matches!(error, AddRuntimeError::Unavailable(_)) {
                    context.after(READD_AFTER, DirectoryMessage::Readd(id));
                }
            }
        }
    }

    /// Refuses what can be refused at once, and has the program looked for beside this actor: a disk may take
    /// its time.
    fn seek_program(
        &self,
        spec: Box<RuntimeSpec>,
        reply: Reply<Result<(), AddRuntimeError>>,
        context: &mut Context<DirectoryMessage>,
    ) {
        if let Err(error) = self.check(&spec) {
            // Whoever asked may have given up.
            let _ = reply.send(Err(error));
            return;
        }
        let launcher = Arc::clone(&self.args.launcher);
        context.spawn(async move {
            let sought = launcher.check(&spec).await;
            DirectoryMessage::ProgramSought(spec, sought, reply)
        });
    }

    fn check(&self, spec: &RuntimeSpec) -> Result<(), AddRuntimeError> {
        spec.check()?;
        let is_going = self.members.get(&spec.id).is_some_and(|member| member.is_going);
        if is_going || self.leaving.contains_key(&spec.id) {
            return Err(AddRuntimeError::StillEnding(spec.id.clone()));
        }
        if self.members.contains_key(&spec.id) {
            return Err(AddRuntimeError::Exists(spec.id.clone()));
        }
        if self.members.len() >= RUNTIMES_MAX {
            return Err(AddRuntimeError::TooMany(RUNTIMES_MAX));
        }
        if spec.is_managed()
            && let Some(model) = &spec.model
            && self.args.models.find(model).is_none()
        {
            let known = self.args.models.list().iter().map(|model| model.name.clone()).collect();
            return Err(AddRuntimeError::UnknownModel { model: model.clone(), known });
        }
        Ok(())
    }

    async fn check_and_add(
        &mut self,
        spec: RuntimeSpec,
        context: &mut Context<DirectoryMessage>,
    ) -> Result<(), AddRuntimeError> {
        // Once more: while its program was looked for another may have taken its id, or its model may have
        // been removed.
        self.check(&spec)?;
        // Whoever adds it anew has mended it.
        self.dormant.retain(|dormant| dormant.id != spec.id);
        self.add(spec, false, context).await
    }

    pub(super) fn boot_runtime(&self, id: &RuntimeId) {
        let entries = self.args.board.entries.load();
        if let Some(entry) = entries.iter().find(|entry| entry.spec.id == *id) {
            // A fresh mailbox has room.
            let _ = entry.handle.try_tell(RuntimeMessage::Boot);
        }
    }

    async fn add(
        &mut self,
        spec: RuntimeSpec,
        is_configured: bool,
        context: &mut Context<DirectoryMessage>,
    ) -> Result<(), AddRuntimeError> {
        spec.check()?;
        let spec = Arc::new(spec);
        let parts = Parts::new(&self.args, &spec, context.clock(), self.held.contains(&spec.id));
        self.loads.room.forget(&spec.id);
        let handle = match self.start_actor(&spec, &parts, context).await {
            Ok(handle) => handle,
            Err(error) => {
                // A child that failed to start is kept by its supervisor, and nobody would know of it.
                self.args.supervisor.remove(spec.id.as_str(), SUPERVISOR_PATIENCE).await;
                return Err(error);
            }
        };
        let Parts { memory, log, meter, row, gauge } = parts;
        let entry = Entry { spec, handle, memory, log, meter, row, gauge };
        self.watch(&entry, is_configured, context);
        let mut entries = self.args.board.entries.load().as_ref().clone();
        entries.retain(|known| known.spec.id != entry.spec.id);
        entries.push(entry);
        self.args.board.entries.store(Arc::new(entries));
        self.args.board.changed();
        Ok(())
    }

    fn watch(&mut self, entry: &Entry, is_configured: bool, context: &Context<DirectoryMessage>) {
        let (id, own) = (entry.spec.id.clone(), context.handle());
        let member_id = id.clone();
        let monitor = entry.handle.monitor(move |down| {
            // A full mailbox is counted; the next exit will be told again.
            let _ = own.try_tell(DirectoryMessage::RuntimeDown(id.clone(), down.clone()));
        });
        self.members.insert(member_id, Member { monitor, is_configured, is_going: false });
    }

    async fn readd(&mut self, id: &RuntimeId, context: &mut Context<DirectoryMessage>) {
        if self.members.contains_key(id) || self.leaving.contains_key(id) {
            return;
        }
        let configured = self.args.configured.iter().find(|spec| spec.id == *id).cloned();
        let is_configured = configured.is_some();
        let dormant =
            self.dormant.iter().position(|spec| spec.id == *id).map(|at| self.dormant.swap_remove(at));
        let entries = self.args.board.entries.load_full();
        let known =
            || entries.iter().find(|entry| entry.spec.id == *id).map(|entry| entry.spec.as_ref().clone());
        if let Some(spec) = configured.or(dormant).or_else(known) {
            self.add_at_boot(spec, is_configured, context).await;
        }
    }

    async fn start_actor(
        &self,
        spec: &Arc<RuntimeSpec>,
        parts: &Parts,
        context: &Context<DirectoryMessage>,
    ) -> Result<Handle<RuntimeMessage>, AddRuntimeError> {
        let rules = rules_for(spec, &self.args.settings, &self.args.models);
        let args = RuntimeArgs {
            spec: Arc::clone(spec),
            rules,
            queue_max: usize::try_from(self.args.settings.queue_max).unwrap_or(usize::MAX),
            launcher: Arc::clone(&self.args.launcher),
            client: self.args.client.clone(),
            models: self.args.models.clone(),
            journal: self.args.journal.clone(),
            directory: context.handle(),
            log: Arc::clone(&parts.log),
            row: Arc::clone(&parts.row),
            meter: Arc::clone(&parts.meter),
            gauge: Arc::clone(&parts.gauge),
            board: Arc::clone(&self.args.board),
            scratch: self.args.state_dir.join("runtime").join("scratch").join(spec.id.as_str()),
            accelerator: if self.args.hardware.lock().gpus.is_empty() { "cpu" } else { "unknown" },
            memory: Arc::clone(&parts.memory),
        };
        let stop = rules.stop_grace + STOP_MARGIN;
        let actor = ActorSpec::<RuntimeActor>::new(spec.id.as_str(), args)
            .shutdown(Shutdown::Grace(stop))
            // A defect in one runtime's actor must not end the others.
            .on_exhausted(OnExhausted::Quarantine(ACTOR_QUARANTINE));
        let added = self.args.supervisor.add(actor, SUPERVISOR_PATIENCE).await;
        added.map_err(|error| AddRuntimeError::Unavailable(error.to_string()))
    }
}

/// What a runtime shares with those who read it; the same over restarts of its actor.
struct Parts {
    memory: Arc<Mutex<RuntimeMemory>>,
    log: Arc<EngineLog>,
    meter: Arc<Meter>,
    row: Arc<ArcSwap<Option<crate::runtime::row::RuntimeRow>>>,
    gauge: Arc<Gauge>,
}

impl Parts {
    fn new(args: &Args, spec: &RuntimeSpec, clock: Clock, is_held: bool) -> Self {
        let entries = args.board.entries.load();
        if let Some(known) = entries.iter().find(|entry| entry.spec.id == spec.id) {
            return Self {
                memory: Arc::clone(&known.memory),
                log: Arc::clone(&known.log),
                meter: Arc::clone(&known.meter),
                row: Arc::clone(&known.row),
                gauge: Arc::clone(&known.gauge),
            };
        }
        let file = args.state_dir.join("logs").join(format!("{}.log", spec.id));
        let path = args.supervisor.path().child(spec.id.as_str());
        let engine = ActorPath::root(&engine_path(path.as_str()));
        let mut budget = RestartBudget::new(rules_for(spec, &args.settings, &args.models).limits);
        budget.restore(args.history.get(&engine).into_iter().flatten().copied());
        Self {
            memory: Arc::new(Mutex::new(RuntimeMemory::new(budget, is_held))),
            log: Arc::new(EngineLog::new(EngineLogOptions {
                file: Some(file),
                ..EngineLogOptions::default()
            })),
            meter: Arc::new(Meter::new(clock)),
            row: Arc::new(ArcSwap::from_pointee(None)),
            gauge: Arc::default(),
        }
    }
}

fn rules_for(spec: &RuntimeSpec, settings: &RuntimeSettings, models: &ModelLibrary) -> RuntimeRules {
    let model = spec.model.as_deref().and_then(|model| models.find(model));
    let limits = spec
        .restart
        .map_or(RestartLimits { max: settings.restart.max, window: settings.restart.window }, |restart| {
            RestartLimits { max: restart.max, window: Duration::from_secs(restart.window_s) }
        });
    let defaults = RuntimeRules::default();
    RuntimeRules {
        is_managed: spec.is_managed(),
        has_http: spec.serves_http(),
        has_work: spec.has_work_probe(model.as_ref()),
        start_timeout: settings.start_timeout,
        stop_grace: settings.stop_grace,
        idle_after: spec.idle_after(settings.idle_after),
        limits,
        backoff: arw_kit::life::Backoff {
            second: settings.backoff.initial,
            max: settings.backoff.max,
            ..defaults.backoff
        },
        quarantine_first: settings.quarantine_retry_after,
        ..defaults
    }
}

/// A runtime's actor panics only through a defect of ours; its engine is restarted with it.
const ACTOR_QUARANTINE: Quarantine = Quarantine {
    first: Duration::from_secs(30),
    max: Duration::from_secs(600),
    probation: Duration::from_secs(60),
    limits: RestartLimits { max: 3, window: Duration::from_secs(60) },
};
/// Beyond the engine's own grace: killing and reaping.
pub(super) const STOP_MARGIN: Duration = Duration::from_secs(6);
