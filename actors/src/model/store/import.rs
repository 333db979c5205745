//! Importing a model file: check, copy, check again, give it its name.
//!
//! Owns the order of steps and the rules for names. Refuses to know how bytes are moved (`content.rs`).
//!
//! ```text
//! source ─ header valid? ─ name free? ─ known content? ── yes ─► add the name, done
//!                                             └── no ─► part file ─ copied and hashed ─ header valid? ─ on disk
//!                                                        ─ [lock] name still free? ─ rename ─ manifest [unlock]
//! ```
//! Whatever fails or is cancelled on the way, the part file goes with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arw_kit::ids::{BadName, check_name};
use arw_kit::moment::WallTime;

use super::content::{ImportPhase, ImportProgress, PartFile, report, write_error};
use super::source::Source;
use super::{ModelStore, StoreError, io_error};
use crate::model::gguf::{GgufError, GgufHeader};
use crate::model::parts;
use crate::model::record::{ModelHash, ModelRecord};

/// More names than that for one content are a script gone wrong.
const ALIASES_MAX: usize = 32;

/// A model was not imported; nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No such file.
    #[error("there is no file {}", path.display())]
    SourceMissing {
        /// As given.
        path: PathBuf,
    },
    /// A symbolic link to nothing.
    #[error("{} is a symbolic link to {}, which does not exist", path.display(), target.display())]
    DanglingLink {
        /// As given.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A folder.
    #[error("{} is a folder: name the .gguf file in it", path.display())]
    SourceIsFolder {
        /// As given.
        path: PathBuf,
    },
    /// A pipe, socket or device.
    #[error("{} is not a regular file: save the model to a file first", path.display())]
    SourceIsSpecial {
        /// As given.
        path: PathBuf,
    },
    /// No bytes in it.
    #[error("{} is empty: download it again", path.display())]
    SourceEmpty {
        /// As given.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    SourceUnreadable {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It was written to while it was read.
    #[error(
        "{} changed while it was read ({before} bytes, then {after}): wait until its download has finished and import it again",
        path.display()
    )]
    SourceChanged {
        /// As given.
        path: PathBuf,
        /// Its length at first.
        before: u64,
        /// Its length later.
        after: u64,
    },
    /// It is not a model, or not a whole one.
    #[error("{}: {source}", path.display())]
    NotAModel {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// It is one part of a split model.
    #[error("{} is one of {count} parts of a split model{}", path.display(), missing_parts(missing))]
    SplitPart {
        /// As given.
        path: PathBuf,
        /// How many parts there are.
        count: u64,
        /// The parts that do not lie beside it, as far as its name tells.
        missing: Vec<PathBuf>,
    },
    /// The wanted name breaks the rule for names.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The name belongs to another model.
    #[error(
        "the name `{name}` belongs to another model ({} …): choose another name, or remove that model first",
        short(sha256)
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The content that has it.
        sha256: ModelHash,
    },
    /// This content has too many names.
    #[error("`{name}` has {ALIASES_MAX} other names already: remove some first")]
    TooManyNames {
        /// Its first name.
        name: String,
    },
    /// The disk cannot hold it.
    #[error(
        "not enough space in {}: the model takes {needed} bytes, {free} are free; remove something (`arw model rm`) or move the state folder",
        path.display()
    )]
    NoSpace {
        /// The store's folder.
        path: PathBuf,
        /// The file's length.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The disk became full.
    #[error("the disk of {} became full: {source}; remove something and import it again", path.display())]
    DiskFull {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The copy cannot be written.
    #[error("cannot write to {}: {source}", path.display())]
    Write {
        /// The store's folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The caller wanted it to end.
    #[error("the import was cancelled")]
    Cancelled,
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ModelStore {
    /// Imports a model file. `name` is the name to give it; without one, the file's name without its ending,
    /// made valid. `imported_at` is what the manifest says if the content is new. `on_progress` is asked
    /// about once per MiB and cancels the import by `Break`. The source is left as it is; symbolic links are
    /// followed.
    ///
    /// Content that is in the store already is not copied again. With a `name` that it does not have yet, it
    /// gets it as a further name; otherwise nothing changes.
    ///
    /// # Errors
    /// [`ImportError`] says what is wrong and what to do. Nothing of the file is left in the store.
    pub fn import(
        &self,
        source: &Path,
        name: Option<&str>,
        imported_at: WallTime,
        on_progress: &mut dyn FnMut(ImportProgress) -> std::ops::ControlFlow<()>,
    ) -> Result<ModelRecord, ImportError> {
        if let Some(name) = name {
            check_name(name)?;
        }
        let mut source = Source::open(source)?;
        // Checked before the copy, so that a wrong file costs milliseconds.
        let len = source.len();
        GgufHeader::read(&mut source.file(), len).map_err(|e| not_a_model(source.path(), e))?;

        let records = self.list()?;
        if records.iter().any(|r| r.size_bytes == len) {
            let hash = source.hash(on_progress)?;
            if records.iter().any(|r| r.sha256 == hash) {
                let _lock = self.lock()?;
                if let Some(known) = self.add_name(&hash, name)? {
                    return Ok(known);
                }
                // Removed meanwhile: it is new again.
            }
        }
        let final_name = name.map_or_else(|| default_name(source.path()), str::to_owned);
        // Asked before the copy for the sake of time, and again when it counts.
        check_free(&records, &final_name)?;

        let mut part = self.create_part()?;
        let hash = part.fill(&mut source, on_progress)?;
        // What was copied is what counts: the source may have been changed after the first look.
        let reader = part.reader().map_err(|e| write_error(source.path(), e))?;
        let header = GgufHeader::read(reader, len).map_err(|e| not_a_model(source.path(), e))?;
        let flushing = ImportProgress { phase: ImportPhase::Flushing, done_bytes: len, total_bytes: len };
        report(on_progress, flushing)?;
        part.finish().map_err(|e| write_error(part.path(), e))?;
        // The last chance to cancel. Not asked under the lock: what the caller does meanwhile is not ours to
        // bound.
        report(on_progress, flushing)?;
        self.commit(part, ModelRecord::new(header, final_name, hash, len, imported_at), name)
    }

    fn create_part(&self) -> Result<PartFile, ImportError> {
        let _lock = self.lock()?;
        let folder = self.files();
        PartFile::create(&folder).map_err(|e| write_error(&folder.join("part"), e))
    }

    /// The one step in which a model comes to be.
    fn commit(
        &self,
        part: PartFile,
        record: ModelRecord,
        name: Option<&str>,
    ) -> Result<ModelRecord, ImportError> {
        let _lock = self.lock()?;
        if let Some(known) = self.add_name(&record.sha256, name)? {
            return Ok(known);
        }
        check_free(&self.list()?, &record.name)?;
        // A damaged model of the same hash is replaced by these two steps.
        let path = self.file_path(&record.sha256);
        part.rename(&path).map_err(io_error("write", &path))?;
        if let Err(e) = self.write_manifest(&record) {
            // Best effort: a file without a manifest is swept when the store is opened next.
            let _ = fs::remove_file(&path);
            return Err(e.into());
        }
        Ok(record)
    }

    /// When the content is in the store: gives it `name` besides those it has. The caller holds the lock.
    fn add_name(&self, hash: &ModelHash, name: Option<&str>) -> Result<Option<ModelRecord>, ImportError> {
        let records = self.list()?;
        let Some(mut known) = records.iter().find(|r| r.sha256 == *hash).cloned() else { return Ok(None) };
        let Some(name) = name.filter(|name| !known.is_named(name)) else { return Ok(Some(known)) };
        check_free(&records, name)?;
        if known.aliases.len() >= ALIASES_MAX {
            return Err(ImportError::TooManyNames { name: known.name });
        }
        known.aliases.push(name.to_owned());
        self.write_manifest(&known)?;
        Ok(Some(known))
    }
}

fn not_a_model(path: &Path, source: GgufError) -> ImportError {
    let path = path.to_owned();
    match source {
        GgufError::Split { count } => {
            let mut missing = parts::all_of(&path).unwrap_or_default();
            missing.retain(|part| !part.exists());
            ImportError::SplitPart { path, count, missing }
        }
        source => ImportError::NotAModel { path, source },
    }
}

fn missing_parts(missing: &[PathBuf]) -> String {
    // Of a hundred the first few say enough.
    const SHOWN: usize = 5;
    let names: Vec<String> = missing.iter().take(SHOWN).map(|part| part.display().to_string()).collect();
    match missing.len() {
        0 => String::new(),
        count if count > SHOWN => format!("; {count} are missing: {}, …", names.join(", ")),
        _ => format!("; missing: {}", names.join(", ")),
    }
}

impl ImportError {
    /// What to do about it, where the message does not say so itself.
    #[must_use]
    pub fn help(&self) -> String {
        let help = match self {
            Self::SourceMissing { .. } => "check the path",
            Self::DanglingLink { .. } => "download the file that the link leads to, or name another one",
            Self::SourceIsFolder { .. } | Self::SourceIsSpecial { .. } | Self::SourceEmpty { .. } => {
                "name a whole .gguf file"
            }
            Self::SourceUnreadable { .. } | Self::SourceChanged { .. } => {
                "make sure that it is a whole file that the node's user can read"
            }
            Self::SplitPart { path, missing, .. } => return join_the_parts(path, missing),
            Self::NotAModel { .. } => "only GGUF files with a model can be imported",
            Self::BadName(_) => "choose another name",
            Self::NameTaken { .. } | Self::TooManyNames { .. } => {
                "choose another name, or remove the model that has it"
            }
            Self::NoSpace { .. } | Self::DiskFull { .. } | Self::Write { .. } => {
                "make room on the disk of the state folder, then try again"
            }
            Self::Cancelled => "nothing of it was kept; import it again",
            Self::Store(_) => "see the node's log and `arw doctor`, then try again",
        };
        help.to_owned()
    }
}

fn join_the_parts(part: &Path, missing: &[PathBuf]) -> String {
    let (first, whole) = match (parts::all_of(part), parts::joined(part)) {
        (Some(all), Some(whole)) => (all.first().cloned().unwrap_or_default(), whole),
        _ => ("FIRST-PART".into(), "OUTPUT".into()),
    };
    let fetch = if missing.is_empty() { "" } else { "download the missing parts beside it, then " };
    let (first, whole) = (first.display(), whole.display());
    format!("{fetch}join them, and import the result: llama-gguf-split --merge {first} {whole}")
}

fn check_free(records: &[ModelRecord], name: &str) -> Result<(), ImportError> {
    match records.iter().find(|r| r.is_named(name)) {
        Some(other) => Err(ImportError::NameTaken { name: name.to_owned(), sha256: other.sha256.clone() }),
        None => Ok(()),
    }
}

/// The file's name without its ending, with what names may not hold replaced by `-`: `My Model (v2).gguf` →
/// `My-Model-v2`.
pub(super) fn default_name(source: &Path) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = String::new();
    for c in stem.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        if name.len() < 64 && !(c == '-' && name.ends_with('-')) {
            name.push(c);
        }
    }
    let name = name.trim_start_matches(['.', '_', '-']).trim_end_matches(['.', '-']);
    if check_name(name).is_ok() { name.to_owned() } else { "model".to_owned() }
}

fn short(hash: &ModelHash) -> &str {
    hash.as_str().get(..12).unwrap_or_else(|| hash.as_str())
}
