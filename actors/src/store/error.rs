//! What can go wrong with the store, in words for people.
//!
//! Owns the errors and the rule which failures are the *database's* (full, read-only, broken disk) rather
//! than one write's own. Refuses to know what is done about them.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::ErrorCode;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the database is missing, is no folder, or may not be entered.
    #[error(
        "cannot use the folder {}: {reason}; make it and give this user read and write access, or choose another state folder",
        .folder.display()
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The file is there but may not be read or written.
    #[error("cannot write {}: {reason}; give this user read and write access to it and its folder", .path.display())]
    NotWritable {
        /// The database file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        reason: String,
    },
    /// The file is not a SQLite database, or is damaged.
    #[error(
        "{} is not an ARW database, or is damaged: {reason}; move it away to start with an empty one",
        .path.display()
    )]
    NotADatabase {
        /// The database file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer program has already changed the tables.
    #[error(
        "{} has schema {found} and this program knows up to {known}: use the newer arw that made it, or another state folder",
        .path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The schema in the file.
        found: u32,
        /// The newest schema that this program knows.
        known: u32,
    },
    /// Another process (or another store in this one) has it open.
    #[error("{} is in use by another process: stop the other arw, or choose another state folder", .path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("cannot open {}: the disk is full; free some space on it", .path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
    },
    /// Anything else that SQLite or the operating system refuses.
    #[error("cannot open {}: {reason}", .path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// What was said.
        reason: String,
    },
}

/// A write was not made. Nothing of it is in the database.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database takes no writes at the moment; the store tries again by itself.
    #[error("the store cannot write: {reason}; it goes on by itself once that is repaired, then try again")]
    Unavailable {
        /// Why, and what to do about it.
        reason: String,
    },
    /// Too many writes wait.
    #[error("the store is busy: {waiting} writes wait already; try again in a moment")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The store has been closed.
    #[error("the store is closed: the node is stopping")]
    Closed,
    /// SQLite refused this write (a constraint, a trigger, wrong SQL).
    #[error("the store refused the write: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The write itself decided against it; the text says why.
    #[error("{0}")]
    Refused(String),
    /// The write's own code panicked: a defect in this program.
    #[error("a write to the store crashed (a defect in arw): {0}")]
    Panicked(String),
    /// No answer within the time that the caller allowed; the write may still be made.
    #[error("the store did not answer within {} ms; the write may still be made", .0.as_millis())]
    TimedOut(Duration),
}

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite refused it.
    #[error("the store cannot be read: {0}")]
    Sql(#[from] rusqlite::Error),
    /// All reading connections stayed in use.
    #[error("the store cannot be read: all {readers} readers stayed busy for {} ms; try again", .waited.as_millis())]
    Busy {
        /// How many readers there are.
        readers: usize,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The store has been closed.
    #[error("the store is closed: the node is stopping")]
    Closed,
    /// The read's own code panicked: a defect in this program.
    #[error("a read from the store crashed (a defect in arw): {0}")]
    Panicked(String),
}

/// The store did not finish its writes in time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store did not finish within {} ms: {waiting} writes were still waiting", .deadline.as_millis())]
pub struct CloseError {
    /// How long it was given.
    pub deadline: Duration,
    /// How many writes were left.
    pub waiting: usize,
}

/// The reason when `error` is the database's own trouble (every write would fail); `None` when only this
/// write is wrong.
pub(super) fn fault_of(error: &rusqlite::Error) -> Option<String> {
    let code = error.sqlite_error_code()?;
    let way_out = match code {
        ErrorCode::DiskFull => "the disk is full: free some space on it",
        ErrorCode::ReadOnly => "the database is read-only: make its file and file system writable again",
        ErrorCode::SystemIoFailure => "the disk fails: check the system log and the file system",
        ErrorCode::CannotOpen => "a database file cannot be opened: check its folder and permissions",
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            "the database is damaged: stop arw, move the file away, start again"
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            "another process holds the database: end it"
        }
        ErrorCode::PermissionDenied => "access to the database is denied: check its permissions",
        ErrorCode::OutOfMemory => "the machine is out of memory: free some",
        ErrorCode::NoLargeFileSupport => "the file system has no large files: move the state folder",
        // Everything else is about the one statement: constraints, triggers, types, wrong SQL, limits.
        _ => return None,
    };
    Some(format!("{way_out} ({error})"))
}
