//! Builds a node: who supervises whom, on one screen.
//!
//! Owns the order in which a node comes up and goes down. Refuses to know HTTP, and how an operating system
//! starts programs: the launcher is given to it.
//!
//! ```text
//! node                      one_for_one
//! ├── runtimes              one_for_one, an engine budget per runtime; stopped together
//! │   └── <id> ── engine    the runtime's actor, and its program as a row
//! ├── directory             which runtimes there are, who gets memory
//! ├── cluster               the picture of all nodes, and this node's own card
//! ├── views                 /state/*
//! └── caretaker             the health of journal and log, retention, dead letters
//! ```

mod caretaker;
mod condition;
mod identity;
mod lock;
mod observer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::life::{ActorPath, ExitReason, RestartLimits};
use arw_kit::mailbox::{Actor, Handle};
use arw_kit::supervision::{ActorSpec, ActorSystem, OnExhausted, Quarantine, RestartHistory, StopOrder};
use parking_lot::Mutex;
use tracing::warn;

use self::caretaker::{CaretakerActor, CaretakerArgs, CaretakerMessage};
use self::condition::Condition;
use self::identity::Identity;
use self::lock::StateLock;
use self::observer::JournalObserver;
use crate::cluster::{Cluster, ClusterActor, ClusterArgs, ClusterView, OwnNode};
use crate::config::NodeConfig;
use crate::hardware::{HardwareSources, probe};
use crate::ids::NodeId;
use crate::journal::{Journal, JournalOptions, Retention, event};
use crate::log_health::LogHealth;
use crate::model::{ModelLibrary, ModelStore};
use crate::node::Node;
use crate::node_info::NodeInfo;
use crate::policy::Tokens;
use crate::runtime::directory::{Board, DirectoryActor, DirectoryArgs, Runtimes};
use crate::runtime::engine_client::EngineClient;
use crate::runtime::launcher::{Launcher, SweepReport};
use crate::runtime::spec::{RESTART_WINDOW_MAX, RuntimeSpec};
use crate::store::{Store, StoreOptions};
use crate::views::{Sources, View, Views, ViewsActor, ViewsArgs};

pub use self::identity::IdentityError;
pub use self::lock::{FolderClaim, LockError, claim_folder};

/// A node could not come up. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The state folder cannot be made.
    #[error("state folder {path} cannot be made or entered: {source}")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another node uses the state folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The node's identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] crate::store::OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Read(#[from] crate::store::ReadError),
    /// The model store cannot be opened.
    #[error(transparent)]
    Models(#[from] crate::model::StoreError),
    /// The administrator's token cannot be made.
    #[error(transparent)]
    AdminToken(#[from] crate::policy::AdminFileError),
    /// A runtime of the configuration does not hold together.
    #[error("runtime `{id}` of the configuration: {why}")]
    BadRuntime {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// An actor could not start.
    #[error("the node's actors do not start: {0}")]
    Actors(#[from] arw_kit::supervision::StartSystemError),
}

/// A node that runs, and how to end it.
#[derive(Debug)]
pub struct RunningNode {
    /// For the gateway.
    pub node: Node,
    store: Store,
    condition: Arc<Condition>,
    http: Arc<Mutex<String>>,
    caretaker: Handle<CaretakerMessage>,
    log: Arc<OnceLock<LogHealth>>,
    _lock: StateLock,
}

/// Budgets are rebuilt from so far back: no restart window is longer.
const HISTORY: Duration = RESTART_WINDOW_MAX;
/// Engines, which are stopped together, get their grace within this time.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(60);
/// The last events are on the disk well before.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

impl RunningNode {
    /// Brings a node up on `config.node.state_dir`. `list` holds its read models. `identify` tells the node's
    /// id, from a key in that folder, which is locked by then. Blocks for the file system's part of it (tens
    /// of milliseconds).
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(
        config: &NodeConfig,
        launcher: Arc<dyn Launcher>,
        list: Vec<View>,
        identify: impl FnOnce(&Path) -> Result<NodeId, String> + Send,
    ) -> Result<Self, BuildError> {
        let Ground { clock, lock, info, store, journal, tokens, models } =
            Ground::lay(config, identify).await?;
        report_sweep(&launcher.sweep().await, &journal);

        let history = read_history(&journal, clock)?;
        let condition = Arc::new(Condition::new());
        let status = condition.status();
        let observer = Arc::new(JournalObserver::new(journal.clone(), Arc::clone(&condition), clock));
        let seed = info.started_at.as_millis().unsigned_abs();
        let system = ActorSystem::with("node", clock, Some(observer), history.clone(), seed);
        let http = Arc::new(Mutex::new(String::new()));
        let machine = HardwareSources::system();
        let hardware = Arc::new(Mutex::new(probe(&machine)));
        let engines = EngineClient::new();
        let board = Arc::new(Board::default());

        let mut root = system.root();
        let supervisor = root.nest(root.supervisor("runtimes").stop_order(StopOrder::Together));
        let directory = root.actor(ActorSpec::<DirectoryActor>::new(
            "directory",
            DirectoryArgs {
                supervisor,
                launcher,
                client: engines.clone(),
                models: models.clone(),
                journal: journal.clone(),
                board: Arc::clone(&board),
                settings: config.runtime.clone(),
                configured: configured(config)?,
                state_dir: info.state_dir.clone(),
                hardware: Arc::clone(&hardware),
                sources: machine.clone(),
                history: Mutex::new(history),
            },
        ));
        let runtimes = Runtimes::new(directory, board);
        let sources = Arc::new(Sources {
            info: Arc::clone(&info),
            system: system.clone(),
            journal: journal.clone(),
            models: models.clone(),
            runtimes: runtimes.clone(),
            cluster: Cluster::default(),
            hardware,
            status: status.clone(),
            http: Arc::clone(&http),
            clock,
        });
        let cluster = sources.cluster.clone();
        root.actor(leaf(ActorSpec::<ClusterActor>::new("cluster", cluster_args(&sources, machine))));
        let views = Views::new(info.incarnation, &list, &sources);
        let args = ViewsArgs { views: views.clone(), list, sources };
        root.actor(leaf(ActorSpec::<ViewsActor>::new("views", args)));
        let log = Arc::default();
        let caretaker = root.actor(leaf(caretaker(&journal, &store, &condition, &log, &cluster, &runtimes)));
        system.start(root).await?;

        let node = Node { info, system, journal, tokens, models, runtimes, engines, cluster, views, status };
        Ok(Self { node, store, condition, http, caretaker, log, _lock: lock })
    }

    /// The gateway listens there: from now on the node counts as ready.
    pub fn serves_at(&self, http: String) {
        *self.http.lock() = http;
        self.condition.serves();
    }

    /// From now on the node says of this log, in its status, when it cannot be written. Only the first one
    /// counts.
    pub fn watch_log(&self, log: LogHealth) {
        // A caretaker whose mailbox is full looks by itself soon.
        if self.log.set(log).is_ok() {
            let _ = self.caretaker.try_tell(CaretakerMessage::LogChanged);
        }
    }

    /// Ends everything in order: engines, actors, journal, database.
    pub async fn shutdown(self, reason: &str) -> Option<ExitReason> {
        self.condition.stops();
        self.node.journal.append(event::Node::Stopping { reason: reason.to_owned() });
        let ended = self.node.system.shutdown(SHUTDOWN_PATIENCE).await;
        if !self.node.journal.flush(FLUSH_PATIENCE).await {
            warn!("the last events are not on the disk");
        }
        if let Err(error) = self.store.close(FLUSH_PATIENCE).await {
            warn!(%error, "the database was not closed in order");
        }
        ended
    }
}

/// An actor that only shows or tends what others do. A defect in it must not end the node and its engines:
/// past its budget it is set aside, which the node's status says, and tried again.
fn leaf<A: Actor>(spec: ActorSpec<A>) -> ActorSpec<A> {
    spec.on_exhausted(OnExhausted::Quarantine(Quarantine {
        first: Duration::from_secs(30),
        max: Duration::from_secs(1800),
        probation: Duration::from_secs(60),
        limits: RestartLimits { max: 3, window: Duration::from_secs(60) },
    }))
}

/// What lies in the state folder, opened: everything that must be there before the first actor.
struct Ground {
    clock: Clock,
    lock: StateLock,
    info: Arc<NodeInfo>,
    store: Store,
    journal: Journal,
    tokens: Tokens,
    models: ModelLibrary,
}

impl Ground {
    async fn lay(
        config: &NodeConfig,
        identify: impl FnOnce(&Path) -> Result<NodeId, String> + Send,
    ) -> Result<Self, BuildError> {
        let clock = Clock::system();
        let state_dir = make_state_dir(&config.node.state_dir)?;
        let lock = StateLock::take(&state_dir)?;
        let id = identify(&state_dir).map_err(IdentityError::Key)?;
        let identity = Identity::next(&state_dir, id, clock.wall())?;
        let store =
            Store::open(&state_dir.join("arw.db"), StoreOptions { clock, ..StoreOptions::default() })?;
        let retention =
            Retention { max_age: config.store.journal_max_age, max_rows: config.store.journal_max_rows };
        let journal = Journal::open(store.clone(), JournalOptions { retention, clock })?;
        let tokens = Tokens::open(store.clone(), journal.clone())?;
        tokens.ensure_admin_file(&state_dir.join("admin.token"), clock.wall()).await?;
        let models = ModelLibrary::new(ModelStore::open(state_dir.join("models"))?, journal.clone(), clock)?;
        let info = Arc::new(NodeInfo {
            id: identity.id,
            name: config.node.name.clone(),
            incarnation: identity.incarnation,
            version: env!("CARGO_PKG_VERSION"),
            started_at: clock.wall(),
            state_dir,
        });
        journal.append(event::Node::Started {
            id: info.id.to_string(),
            name: info.name.clone(),
            incarnation: info.incarnation,
            version: info.version.to_owned(),
            pid: std::process::id(),
            clean: journal.last_stop_was_clean(),
        });
        Ok(Self { clock, lock, info, store, journal, tokens, models })
    }
}

fn caretaker(
    journal: &Journal,
    store: &Store,
    condition: &Arc<Condition>,
    log: &Arc<OnceLock<LogHealth>>,
    cluster: &Cluster,
    runtimes: &Runtimes,
) -> ActorSpec<CaretakerActor> {
    let (journal, store) = (journal.clone(), store.clone());
    let (condition, log, cluster) = (Arc::clone(condition), Arc::clone(log), cluster.clone());
    let args = CaretakerArgs { journal, store, condition, log, cluster, list: runtimes.list_outage() };
    ActorSpec::new("caretaker", args)
}

fn cluster_args(sources: &Sources, machine: HardwareSources) -> ClusterArgs {
    let info = &sources.info;
    let own = OwnNode {
        id: info.id,
        name: info.name.clone(),
        incarnation: info.incarnation,
        started_at: info.started_at,
    };
    ClusterArgs {
        cluster: sources.cluster.clone(),
        view: Arc::new(Mutex::new(ClusterView::new(own))),
        version: info.version,
        runtimes: sources.runtimes.clone(),
        hardware: Arc::clone(&sources.hardware),
        sources: machine,
        status: sources.status.clone(),
        journal: sources.journal.clone(),
    }
}

fn make_state_dir(path: &Path) -> Result<PathBuf, BuildError> {
    let make = || {
        std::fs::create_dir_all(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Keys, tokens and logs are nobody else's.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        }
        path.canonicalize()
    };
    make().map_err(|source| BuildError::StateDir { path: path.to_owned(), source })
}

fn report_sweep(report: &SweepReport, journal: &Journal) {
    for (id, pid) in &report.ended {
        warn!(runtime = %id, pid, "ended an engine that an earlier node had left running");
        journal.append(event::Runtime::OrphanEnded { id: id.to_string(), pid: *pid });
    }
    for detail in &report.failed {
        warn!(detail, "an engine of an earlier node could not be ended");
        journal.append(event::Runtime::OrphanLeft { detail: detail.clone() });
    }
}

fn read_history(journal: &Journal, clock: Clock) -> Result<RestartHistory, BuildError> {
    let since = clock.wall() - HISTORY;
    let mut history = RestartHistory::new();
    for restart in journal.restarts_since_blocking(since)? {
        let at = clock.moment_of(restart.at);
        history.entry(ActorPath::root(&restart.path)).or_default().push(at);
    }
    Ok(history)
}

fn configured(config: &NodeConfig) -> Result<Vec<RuntimeSpec>, BuildError> {
    let specs = config.runtimes.iter().map(|runtime| {
        let spec = runtime.clone();
        let check = spec.check();
        check.map_err(|why| BuildError::BadRuntime { id: spec.id.to_string(), why: why.to_string() })?;
        Ok(spec)
    });
    specs.collect()
}
