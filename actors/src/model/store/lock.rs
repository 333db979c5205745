//! The lock under which the store changes.
//!
//! Owns the lock file. Refuses to know what is changed. The kernel drops the lock with the process, so a
//! crash blocks nobody.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::{StoreError, io_error};

/// Held while it lives. Works between processes, and between stores within one process.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits for the lock, at most ten seconds.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        Self::take_within(path, TRIES)
    }

    /// Tries so many times, [`PAUSE`] apart.
    pub(super) fn take_within(path: &Path, tries: u32) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io_error("create", path))?;
        for _ in 0..tries {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                // Waiting without bound would hang a node behind a suspended command.
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(e)) => return Err(io_error("lock", path)(e)),
            }
        }
        Err(StoreError::Busy { path: path.to_owned(), waited_s: (PAUSE * tries).as_secs() })
    }
}

/// Changes take milliseconds; a slow disk may take a second to sync a folder.
const PAUSE: Duration = Duration::from_millis(10);
const TRIES: u32 = 1_000;
