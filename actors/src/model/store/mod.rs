//! The models of a node: files named by their content, with a manifest beside each.
//!
//! Owns the folder `models/` and everything that changes it. A command line and a node may use it at the same
//! time: each change happens under a lock file and is a rename, so a reader sees the state before or after,
//! never between. Refuses to know which runtime uses a model: whoever calls [`ModelStore::remove`] has made
//! sure that none does.
//!
//! ```text
//! models/
//!   lock                            held for the moment of a change
//!   by-hash/<sha256>                the file, read-only
//!   by-hash/<sha256>.json           its manifest: names and what the header says
//!   by-hash/.import-<pid>-….part    an import that is running; its importer holds a lock on it
//! ```
//!
//! Invariants: a file is complete before it gets its name; a file without a manifest is what a crash left and
//! is swept; a name belongs to one content. One content may have several names: importing it again under
//! another name adds an alias (a rename would break the runtimes that use the first name), and removing a
//! name removes the file with its last name.

mod content;
mod import;
mod lock;
mod manifest;
mod source;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use content::{ImportPhase, ImportProgress};
pub use import::ImportError;

use lock::StoreLock;
use manifest::ManifestError;

use super::record::{ModelHash, ModelRecord};

/// The models of one node. Holds no state but its folder: cheap to clone, and two of them on one folder
/// agree.
#[derive(Clone, Debug)]
pub struct ModelStore {
    root: PathBuf,
}

/// A manifest or file in the store that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedModel {
    /// The manifest.
    pub path: PathBuf,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

/// What [`ModelStore::remove`] removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The file and its manifest are gone.
    Model(Box<ModelRecord>),
    /// One of several names is gone; the file stays. The record is the new one.
    Name(Box<ModelRecord>),
    /// A damaged model, found by its hash, is gone.
    Damaged(ModelHash),
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A folder or file of the store cannot be made, read or changed.
    #[error("model store: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `read`, `write`, `lock`, `delete`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process holds the lock for longer than any change takes.
    #[error(
        "model store: another arw process has held {} for {waited_s} s; is one suspended? End it and try again",
        path.display()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited_s: u64,
    },
}

/// A model could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none of that name.
    #[error("no model is called `{name}`; {}", known_in_words(known))]
    NotFound {
        /// As asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A stored file is not what its name says.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The content has changed.
    #[error(
        "model {name} is damaged: its SHA-256 is {found} instead of {expected}; remove it and import it again"
    )]
    Mismatch {
        /// The model.
        name: String,
        /// What its name says.
        expected: ModelHash,
        /// What the file says.
        found: ModelHash,
    },
    /// The file cannot be read.
    #[error("model {name}: cannot read {}: {source}", path.display())]
    Read {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ModelStore {
    /// Opens the store in the folder `root` (usually `<state>/models`), makes it when it is missing, and
    /// sweeps away what dead imports left.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be made or written, or another process holds its lock.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        let files = store.files();
        fs::create_dir_all(&files).map_err(io_error("create", &files))?;
        let _lock = store.lock()?;
        store.sweep()?;
        Ok(store)
    }

    /// All models that can be used, by name.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let mut records: Vec<ModelRecord> =
            self.manifests()?.into_iter().filter_map(|(_, found)| found.ok()).collect();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// All models that cannot be used, and why.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the folder cannot be read.
    pub fn list_damaged(&self) -> Result<Vec<DamagedModel>, StoreError> {
        let damaged = self.manifests()?.into_iter().filter_map(|(hash, found)| {
            let reason = found.err()?.to_string();
            Some(DamagedModel { path: self.manifest_path(&hash), reason })
        });
        Ok(damaged.collect())
    }

    /// Finds a model by one of its names or by the beginning of its hash (at least 8 digits, and only one
    /// fits).
    ///
    /// # Errors
    /// [`StoreError::Io`]: the folder cannot be read.
    pub fn find(&self, text: &str) -> Result<Option<ModelRecord>, StoreError> {
        let records = self.list()?;
        if let Some(named) = records.iter().find(|r| r.is_named(text)) {
            return Ok(Some(named.clone()));
        }
        if !is_hash_prefix(text) {
            return Ok(None);
        }
        let mut fitting = records.into_iter().filter(|r| r.sha256.as_str().starts_with(text));
        Ok(fitting.next().filter(|_| fitting.next().is_none()))
    }

    /// Where a model's file lies.
    #[must_use]
    pub fn path_of(&self, record: &ModelRecord) -> PathBuf {
        self.file_path(&record.sha256)
    }

    /// Hashes a model's file again and compares: reads the whole file.
    ///
    /// # Errors
    /// [`VerifyError`]: the file has changed or cannot be read.
    pub fn verify(&self, record: &ModelRecord) -> Result<(), VerifyError> {
        let path = self.path_of(record);
        let found = content::hash_file(&path).map_err(|source| VerifyError::Read {
            name: record.name.clone(),
            path,
            source,
        })?;
        if found == record.sha256 {
            return Ok(());
        }
        Err(VerifyError::Mismatch { name: record.name.clone(), expected: record.sha256.clone(), found })
    }

    /// Removes a model by name, or by the beginning of its hash. One of several names goes alone; with the
    /// last one, or by hash, the file goes too. A damaged model can be removed by its hash. A program that
    /// has the file open keeps it until it ends.
    ///
    /// # Errors
    /// [`RemoveError`]: there is no such model, or the store cannot be changed.
    pub fn remove(&self, text: &str) -> Result<Removed, RemoveError> {
        let _lock = self.lock()?;
        let Some(mut record) = self.find(text)? else {
            return self.remove_damaged(text);
        };
        let by_name = record.is_named(text);
        if by_name && !record.aliases.is_empty() {
            if record.name == text {
                record.name = record.aliases.remove(0);
            } else {
                record.aliases.retain(|alias| alias != text);
            }
            self.write_manifest(&record)?;
            return Ok(Removed::Name(Box::new(record)));
        }
        self.delete_both(&record.sha256)?;
        Ok(Removed::Model(Box::new(record)))
    }

    fn remove_damaged(&self, text: &str) -> Result<Removed, RemoveError> {
        let found = self.manifests()?;
        if is_hash_prefix(text) {
            let mut fitting = found.iter().filter(|(hash, _)| hash.as_str().starts_with(text));
            if let (Some((hash, Err(_))), None) = (fitting.next(), fitting.next()) {
                self.delete_both(hash)?;
                return Ok(Removed::Damaged(hash.clone()));
            }
        }
        let records = found.into_iter().filter_map(|(_, found)| found.ok());
        let mut known: Vec<String> =
            records.flat_map(|record| std::iter::once(record.name).chain(record.aliases)).collect();
        known.sort();
        Err(RemoveError::NotFound { name: text.chars().take(80).collect(), known })
    }

    /// The manifest goes first: a crash in between leaves a file that the next sweep removes.
    fn delete_both(&self, hash: &ModelHash) -> Result<(), StoreError> {
        for path in [self.manifest_path(hash), self.file_path(hash)] {
            delete(&path)?;
        }
        self.sync_folder()
    }

    fn write_manifest(&self, record: &ModelRecord) -> Result<(), StoreError> {
        let path = self.manifest_path(&record.sha256);
        manifest::write(&path, record).map_err(io_error("write", &path))?;
        self.sync_folder()
    }

    /// Every manifest with what it holds, in the order of the hashes.
    fn manifests(&self) -> Result<Vec<Manifest>, StoreError> {
        let mut found: Vec<_> = self
            .file_names()?
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .map(|hash: ModelHash| {
                let record = manifest::read(&self.manifest_path(&hash), &hash, &self.file_path(&hash));
                (hash, record)
            })
            // Removed by another process after the folder was read: neither there nor damaged.
            .filter(|(_, record)| !matches!(record, Err(ManifestError::Gone)))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Removes what dead imports and half-done changes left. The caller holds the lock.
    fn sweep(&self) -> Result<(), StoreError> {
        let names = self.file_names()?;
        for name in &names {
            let path = self.files().join(name);
            let left_over = if manifest::is_unfinished(name) {
                true
            } else if content::is_part(name) {
                content::is_abandoned(&path)
            } else {
                name.parse::<ModelHash>().is_ok() && !names.contains(&format!("{name}.json"))
            };
            if left_over {
                delete(&path)?;
                tracing::info!(path = %path.display(), "removed what an interrupted import left");
            }
        }
        Ok(())
    }

    fn file_names(&self) -> Result<std::collections::BTreeSet<String>, StoreError> {
        let folder = self.files();
        let entries = fs::read_dir(&folder).map_err(io_error("read", &folder))?;
        let mut names = std::collections::BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(io_error("read", &folder))?;
            // Names that are not UTF-8 are not ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn lock(&self) -> Result<StoreLock, StoreError> {
        StoreLock::take(&self.root.join("lock"))
    }

    fn files(&self) -> PathBuf {
        self.root.join("by-hash")
    }

    fn file_path(&self, hash: &ModelHash) -> PathBuf {
        self.files().join(hash.as_str())
    }

    fn manifest_path(&self, hash: &ModelHash) -> PathBuf {
        self.files().join(format!("{hash}.json"))
    }

    /// Makes renames and deletions in the folder last through a power cut.
    fn sync_folder(&self) -> Result<(), StoreError> {
        let folder = self.files();
        if cfg!(unix) {
            fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(io_error("write", &folder))?;
        }
        Ok(())
    }
}

/// A manifest's hash, and what it holds.
type Manifest = (ModelHash, Result<ModelRecord, ManifestError>);

/// The shortest beginning of a hash that counts: with 8 digits a wrong hit is a one in four billion chance.
const HASH_PREFIX_MIN: usize = 8;

fn is_hash_prefix(text: &str) -> bool {
    (HASH_PREFIX_MIN..=64).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn delete(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("delete", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

fn known_in_words(known: &[String]) -> String {
    if known.is_empty() {
        return "there are no models yet: `arw model import FILE.gguf`".to_owned();
    }
    format!("there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests;
