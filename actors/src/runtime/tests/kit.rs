//! A node's runtimes on a machine of a test: the real directory and the real actors, engines by script, time
//! that is paused.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::supervision::{ActorSpec, ActorSystem, RestartHistory, SupervisorHandle};
use parking_lot::Mutex;
use serde_json::json;

use crate::hardware::probe;
use crate::journal::{Journal, JournalOptions, Retention};
use crate::model::fit::memory_needed;
use crate::model::testkit::tiny_gguf;
use crate::model::{ModelLibrary, ModelStore};
use crate::runtime::directory::{Board, DirectoryActor, DirectoryArgs, Runtimes};
use crate::runtime::lease::{AcquireError, EngineLease};
use crate::runtime::machine::RuntimeState;
use crate::runtime::row::RuntimeRow;
use crate::runtime::settings::{BackoffSettings, RestartSettings, RuntimeSettings};
use crate::store::{Store, StoreOptions};
use crate::testkit::fake_launcher::{FakeMachine, Script};

pub(super) const MB: u64 = 1_000_000;
/// Of every request, unless a test says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
const MODEL: &str = "tiny";

/// What stays over many nodes: opening a data base takes longer than most tests.
pub(super) struct Ground {
    folder: tempfile::TempDir,
    journal: Journal,
    models: ModelLibrary,
}

pub(super) struct Stage {
    pub(super) machine: FakeMachine,
    pub(super) runtimes: Runtimes,
    pub(super) supervisor: SupervisorHandle,
    pub(super) root: SupervisorHandle,
    system: ActorSystem,
    settings: RuntimeSettings,
    tokens_per_mb: u64,
    fixed_bytes: u64,
    state: tempfile::TempDir,
    ground: Arc<Ground>,
}

impl Ground {
    pub(super) async fn lay() -> Arc<Self> {
        // Nothing of it outlives the test: where there is such a folder it is in memory, and nobody waits for
        // a disk.
        let in_memory = std::path::Path::new("/dev/shm");
        let folder =
            if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() }.unwrap();
        let clock = Clock::system();
        let store =
            Store::open(&folder.path().join("arw.db"), StoreOptions { clock, ..StoreOptions::default() });
        let retention = Retention { max_age: Duration::from_secs(3600), max_rows: 100_000 };
        let journal = Journal::open(store.unwrap(), JournalOptions { retention, clock }).unwrap();
        let models = ModelStore::open(folder.path().join("models")).unwrap();
        let models = ModelLibrary::new(models, journal.clone(), clock).unwrap();
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(MODEL)).unwrap();
        models.import(file, Some(MODEL.to_owned()), |_| ControlFlow::Continue(())).await.unwrap();
        Arc::new(Self { folder, journal, models })
    }
}

impl Stage {
    /// A machine with so much memory for models.
    pub(super) async fn with_memory(memory_bytes: u64) -> Self {
        Self::on(&Ground::lay().await, memory_bytes, |_| {}).await
    }

    pub(super) async fn on(
        ground: &Arc<Ground>,
        memory_bytes: u64,
        change: impl FnOnce(&mut RuntimeSettings),
    ) -> Self {
        let state = tempfile::tempdir_in(ground.folder.path()).unwrap();
        let machine = FakeMachine::in_folder(state.path(), memory_bytes).unwrap();
        let mut settings = settings();
        change(&mut settings);
        Self::up(Arc::clone(ground), machine, state, settings).await
    }

    /// Ends the node and brings it up again in the same state folder.
    pub(super) async fn restart(self) -> Self {
        self.system.shutdown(Duration::from_secs(60)).await;
        Self::up(self.ground, self.machine, self.state, self.settings).await
    }

    async fn up(
        ground: Arc<Ground>,
        machine: FakeMachine,
        state: tempfile::TempDir,
        settings: RuntimeSettings,
    ) -> Self {
        let system = ActorSystem::new("node");
        let board = Arc::new(Board::default());
        let mut root = system.root();
        let supervisor = root.nest(root.supervisor("runtimes"));
        let directory = root.actor(ActorSpec::<DirectoryActor>::new(
            "directory",
            DirectoryArgs {
                supervisor: supervisor.clone(),
                launcher: machine.launcher(),
                client: machine.client(),
                models: ground.models.clone(),
                journal: ground.journal.clone(),
                board: Arc::clone(&board),
                settings: settings.clone(),
                configured: Vec::new(),
                state_dir: state.path().to_owned(),
                hardware: Arc::new(Mutex::new(probe(&machine.sources()))),
                sources: machine.sources(),
                history: Mutex::new(RestartHistory::new()),
            },
        ));
        let root = system.start(root).await.unwrap();
        let model = ground.models.find(MODEL).unwrap();
        let (one, many) = (memory_needed(&model, 256, 1), memory_needed(&model, 1_000_192, 1));
        let runtimes = Runtimes::new(directory, board);
        let (tokens_per_mb, fixed_bytes) = (MB * 999_936 / (many - one), one);
        Self {
            machine,
            runtimes,
            supervisor,
            root,
            system,
            settings,
            tokens_per_mb,
            fixed_bytes,
            state,
            ground,
        }
    }

    /// Adds a runtime that needs about so much memory and takes nearly all of it. The script says the rest.
    pub(super) async fn add(&self, id: &str, needed_bytes: u64, script: Script) {
        let tokens = (needed_bytes.saturating_sub(self.fixed_bytes) / MB * self.tokens_per_mb).max(256);
        let memory_bytes = if script.memory_bytes == 0 { needed_bytes / 10 * 9 } else { script.memory_bytes };
        self.machine.script(id, Script { memory_bytes, ..script });
        let spec = json!({
            "id": id, "adapter": "llama_cpp", "model": MODEL, "program": "/bin/fake",
            "args": ["{socket}", "--ctx-size", tokens.to_string()],
        });
        self.runtimes.add(serde_json::from_value(spec).unwrap()).await.unwrap();
    }

    pub(super) async fn ask(&self, id: &str) -> Result<EngineLease, AcquireError> {
        self.runtimes.acquire(id, PATIENCE).await
    }

    /// As [`Stage::ask`], in a task of its own: dropping the handle's task is a client that goes away.
    pub(super) fn begin_to_ask(
        &self,
        id: &'static str,
    ) -> tokio::task::JoinHandle<Result<EngineLease, AcquireError>> {
        let runtimes = self.runtimes.clone();
        tokio::spawn(async move { runtimes.acquire(id, PATIENCE).await })
    }

    /// The file with the list of runtimes.
    pub(super) fn file(&self) -> std::path::PathBuf {
        self.state.path().join("runtimes.json")
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        crate::hardware::read_memory(&self.machine.sources()).total_bytes
    }

    pub(super) fn row(&self, id: &str) -> RuntimeRow {
        self.runtimes.row(id).unwrap()
    }

    pub(super) fn state(&self, id: &str) -> RuntimeState {
        self.row(id).state
    }

    /// Waits until a runtime is in this state; it must come to it within a simulated minute.
    pub(super) async fn reach(&self, id: &str, state: RuntimeState) {
        let mut changes = self.runtimes.changes();
        let reached = async {
            while self.state(id) != state {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), reached).await.is_err() {
            panic!("{id} is {:?}, not {state:?}", self.row(id));
        }
    }

    pub(super) async fn end(self) {
        self.system.shutdown(Duration::from_secs(60)).await;
        // What an actor that fell has left behind takes as long to die as the script says.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(self.machine.doubled(), [], "two programs of one runtime");
        assert!(self.machine.alive().is_empty(), "left behind: {:?}", self.machine.alive());
    }
}

/// As they are by default, but for the memory that must stay free.
fn settings() -> RuntimeSettings {
    RuntimeSettings {
        idle_after: None,
        restart: RestartSettings { max: 5, window: Duration::from_secs(300) },
        backoff: BackoffSettings { initial: Duration::from_millis(500), max: Duration::from_secs(30) },
        quarantine_retry_after: Duration::from_secs(60),
        start_timeout: Duration::from_secs(120),
        stop_grace: Duration::from_secs(10),
        queue_max: 64,
        memory_headroom_bytes: 0,
    }
}
