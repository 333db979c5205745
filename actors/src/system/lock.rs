//! One node per state folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held for as long as the node runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: File,
}

/// The state folder is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another node has it.
    #[error("another node (pid {pid}) uses {path} already: stop it, or give this one another --state-dir")]
    Held {
        /// Of which process, as far as it could be read.
        pid: String,
        /// The state folder.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {path}: {source}; is the folder writable for you?")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// No node runs on the folder, and none starts, for as long as this lives.
#[derive(Debug)]
pub struct FolderClaim {
    _lock: StateLock,
}

/// Claims a state folder for something that no running node may see half-done.
///
/// # Errors
/// [`LockError`]: a node has it.
pub fn claim_folder(state_dir: &Path) -> Result<FolderClaim, LockError> {
    StateLock::take(state_dir).map(|lock| FolderClaim { _lock: lock })
}

impl StateLock {
    pub(super) fn take(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join("node.lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // For the message only: a file that cannot be read leaves it unknown.
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(LockError::Held { pid, path: state_dir.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            file.flush()
        };
        write(&mut file).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_on_the_same_folder_is_refused_and_told_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        let error = StateLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        StateLock::take(folder.path()).unwrap();
    }
}
