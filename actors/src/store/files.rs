//! The database's file and folder, before SQLite sees them.
//!
//! Owns the checks that give clearer words than SQLite would, the lock and the permissions. Refuses to know
//! SQL.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::error::OpenError;

pub(super) fn check_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refuse = |reason: String| OpenError::Folder { folder: folder.to_owned(), reason };
    let about = std::fs::metadata(folder).map_err(|e| refuse(e.to_string()))?;
    if !about.is_dir() {
        return Err(refuse("it is not a folder".to_owned()));
    }
    std::fs::read_dir(folder).map(|_| ()).map_err(|e| refuse(e.to_string()))
}

pub(super) fn lock_beside(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let refuse =
        |e: std::io::Error| OpenError::NotWritable { path: PathBuf::from(&name), reason: e.to_string() };
    let file = private().open(&name).map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(e)) => Err(refuse(e)),
    }
}

/// SQLite gives its log files the permissions of the database, so this decides for all of them.
pub(super) fn make_private(path: &Path) -> Result<(), OpenError> {
    match private().open(path) {
        Ok(_) => Ok(()),
        Err(_) if path.is_dir() => {
            Err(OpenError::NotADatabase { path: path.to_owned(), reason: "it is a folder".to_owned() })
        }
        Err(e) => Err(OpenError::NotWritable { path: path.to_owned(), reason: e.to_string() }),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}
