//! The node's models, for everyone on the node.
//!
//! Owns the list in memory, so that reading it never touches the disk, and runs the store's blocking work
//! beside the actors. Refuses to know who asks.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arw_kit::clock::Clock;
use tokio::sync::watch;

use super::{ImportError, ImportProgress, ModelRecord, ModelStore, RemoveError, Removed, StoreError};
use crate::journal::{Journal, event};

/// The models of a node. Cheap to clone; every clone is the same library.
#[derive(Clone)]
pub struct ModelLibrary {
    shared: Arc<Shared>,
}

struct Shared {
    store: ModelStore,
    list: ArcSwap<Vec<ModelRecord>>,
    changes: watch::Sender<u64>,
    journal: Journal,
    clock: Clock,
}

impl fmt::Debug for ModelLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelLibrary({} models)", self.list().len())
    }
}

impl ModelLibrary {
    /// Reads the list of `store`. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(store: ModelStore, journal: Journal, clock: Clock) -> Result<Self, StoreError> {
        let list = ArcSwap::from_pointee(store.list()?);
        let shared = Shared { store, list, changes: watch::Sender::new(0), journal, clock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// All models, as of the last change made through this node.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<ModelRecord>> {
        self.shared.list.load_full()
    }

    /// The model with this name (or one of its other names), or with the hash that begins so (8 digits at
    /// least).
    #[must_use]
    pub fn find(&self, text: &str) -> Option<ModelRecord> {
        let list = self.shared.list.load();
        let mut by_hash = list
            .iter()
            .filter(|model| text.len() >= HASH_PREFIX_MIN && model.sha256.as_str().starts_with(text));
        match list.iter().find(|model| model.is_named(text)) {
            Some(model) => Some(model.clone()),
            None => by_hash.next().filter(|_| by_hash.next().is_none()).cloned(),
        }
    }

    /// Whether `text` leads to this content, by whichever of its names, or by the beginning of its hash.
    #[must_use]
    pub fn leads_to(&self, text: &str, model: &ModelRecord) -> bool {
        self.find(text).is_some_and(|found| found.sha256 == model.sha256)
    }

    /// Where a model's file is.
    #[must_use]
    pub fn path_of(&self, model: &ModelRecord) -> PathBuf {
        self.shared.store.path_of(model)
    }

    /// Counts changes of the list.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Imports a file that lies on this machine. `on_progress` runs on another thread; `Break` cancels.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        source: PathBuf,
        name: Option<String>,
        mut on_progress: impl FnMut(ImportProgress) -> ControlFlow<()> + Send + 'static,
    ) -> Result<ModelRecord, ImportError> {
        let this = self.clone();
        let import = move || {
            let at = this.shared.clock.wall();
            let model = this.shared.store.import(&source, name.as_deref(), at, &mut on_progress)?;
            this.reload()?;
            let (name, sha256) = (model.name.clone(), model.sha256.as_str().to_owned());
            this.shared.journal.append(event::Model::Imported { name, sha256, size_bytes: model.size_bytes });
            Ok(model)
        };
        // A panic in there is a defect; it must not pass for a cancelled import, so it goes on here.
        tokio::task::spawn_blocking(import).await.unwrap_or_else(resume)
    }

    /// Removes a name, and with its last name the file.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove(&self, text: String) -> Result<Removed, RemoveError> {
        let this = self.clone();
        let remove = move || {
            let removed = this.shared.store.remove(&text)?;
            this.reload()?;
            if let Removed::Model(model) = &removed {
                let (name, sha256) = (model.name.clone(), model.sha256.as_str().to_owned());
                this.shared.journal.append(event::Model::Removed { name, sha256 });
            }
            Ok(removed)
        };
        tokio::task::spawn_blocking(remove).await.unwrap_or_else(resume)
    }

    fn reload(&self) -> Result<(), StoreError> {
        self.shared.list.store(Arc::new(self.shared.store.list()?));
        self.shared.changes.send_modify(|version| *version += 1);
        Ok(())
    }
}

fn resume<T>(error: tokio::task::JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Blocking tasks are only cancelled before they began, when the runtime ends and nobody polls this.
        Err(_) => std::panic::resume_unwind(Box::new("the node is ending")),
    }
}

/// As long as git's short hashes: shorter ones collide.
const HASH_PREFIX_MIN: usize = 8;
