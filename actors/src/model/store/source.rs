//! The file that somebody wants to import, which may be anything and may change at any time.
//!
//! Owns its checks. Refuses to know where its bytes go.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::content::{ImportPhase, ImportProgress, OnProgress, hash_reader};
use super::import::ImportError;
use crate::model::record::ModelHash;

/// A file that somebody wants to import.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    len: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens `path`, following symbolic links, and refuses everything but a regular file that is not empty.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let at = || path.to_owned();
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => match fs::read_link(path) {
                Ok(target) => ImportError::DanglingLink { path: at(), target },
                Err(_) => ImportError::SourceMissing { path: at() },
            },
            _ => ImportError::SourceUnreadable { path: at(), source },
        };
        // Looked at before it is opened: opening a named pipe would wait for its writer.
        check_kind(path, &fs::metadata(path).map_err(unreadable)?)?;
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        check_kind(path, &metadata)?;
        if metadata.len() == 0 {
            return Err(ImportError::SourceEmpty { path: at() });
        }
        Ok(Self { path: at(), file, len: metadata.len(), modified: metadata.modified().ok() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn rewind(&mut self) -> Result<(), ImportError> {
        self.file.seek(SeekFrom::Start(0)).map(drop).map_err(|e| self.unreadable(e))
    }

    pub(super) fn unreadable(&self, source: io::Error) -> ImportError {
        ImportError::SourceUnreadable { path: self.path.clone(), source }
    }

    /// Fails when somebody wrote to the source since it was opened: what was read is then a mixture.
    pub(super) fn check_unchanged(&self) -> Result<(), ImportError> {
        let metadata = self.file.metadata().map_err(|e| self.unreadable(e))?;
        if metadata.len() == self.len && metadata.modified().ok() == self.modified {
            return Ok(());
        }
        Err(self.changed(metadata.len()))
    }

    /// It has another length, or the same and another content.
    pub(super) fn changed(&self, after: u64) -> ImportError {
        ImportError::SourceChanged { path: self.path.clone(), before: self.len, after }
    }

    /// Hashes it without copying.
    pub(super) fn hash(&mut self, on_progress: OnProgress<'_>) -> Result<ModelHash, ImportError> {
        self.rewind()?;
        let (path, total_bytes) = (self.path.clone(), self.len);
        let unreadable = |source| ImportError::SourceUnreadable { path: path.clone(), source };
        let progress = ImportProgress { phase: ImportPhase::Comparing, done_bytes: 0, total_bytes };
        let hash = hash_reader(&mut self.file, progress, on_progress, unreadable)?;
        self.check_unchanged()?;
        Ok(hash)
    }
}

fn check_kind(path: &Path, metadata: &fs::Metadata) -> Result<(), ImportError> {
    if metadata.is_dir() {
        return Err(ImportError::SourceIsFolder { path: path.to_owned() });
    }
    if metadata.is_file() { Ok(()) } else { Err(ImportError::SourceIsSpecial { path: path.to_owned() }) }
}
