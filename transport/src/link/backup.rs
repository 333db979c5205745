//! A copy of what makes a node the one that made its cluster, for the day on which its disk is gone.
//!
//! Owns the form of the file, what must be in it, and what a restore changes: nothing that was given out
//! before may be given out again. Refuses to know who asks, and whether a node runs on the folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use arw_actors::files;
use arw_kit::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored::{Stored, StoredError};
use crate::certificate::ClusterKey;
use crate::identity::{KeyFileError, NodeId, NodeKey};

/// The form that this program writes, and the newest that it reads.
const FORM: u32 = 1;

/// Serials that a restore skips where the clock says that the backup is not made yet. Nobody signs so many
/// after a backup, so that none is given out twice: a removal of one node would cover another's certificate.
const SERIALS_SKIPPED: u64 = 1 << 32;

/// Everything that is needed is smaller by far.
const BYTES_MAX: u64 = 64 << 20;

/// A backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// This node is in no cluster.
    #[error("the node of {state_dir} is in no cluster: there is nothing to back up")]
    Alone {
        /// Its state folder.
        state_dir: PathBuf,
    },
    /// Another node made the cluster.
    #[error("node {} made the cluster, not this one: make the backup there", .issuer.short())]
    NotIssuer {
        /// Which.
        issuer: NodeId,
    },
    /// A file is in the way.
    #[error("{path} exists already, and is not replaced")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A file that is needed is not there.
    #[error("{path} is missing")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The folder belongs to another node.
    #[error("{state_dir} is the folder of another node: restore into an empty one")]
    OtherNode {
        /// Which.
        state_dir: PathBuf,
    },
    /// It is no backup, or a damaged one.
    #[error("{path} is no backup of a cluster: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What the node keeps of its membership cannot be used.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Whose backup was made or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The cluster, as text.
    pub cluster: String,
    /// The node that made it.
    pub node: NodeId,
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    what: String,
    cluster: String,
    node: NodeId,
    node_key: String,
    cluster_key: String,
    membership: Value,
}

const WHAT: &str = "arw cluster backup";

/// Writes the keys and the membership of the node of `state_dir` into a new file, which only its owner may
/// read. The node may run: each of the three is replaced as a whole, and two of them never change.
///
/// # Errors
/// [`BackupError`]; nothing is written then.
pub fn back_up(state_dir: &Path, file: &Path, clock: Clock) -> Result<BackedUp, BackupError> {
    let stored = Stored::load(state_dir, clock)?;
    let stored = stored.ok_or_else(|| BackupError::Alone { state_dir: state_dir.to_owned() })?;
    let contents = stored.contents();
    let node = existing(state_dir, "node.key").and_then(|path| Ok(NodeKey::load_or_create(&path)?))?.id();
    if contents.issuer != node {
        return Err(BackupError::NotIssuer { issuer: contents.issuer });
    }
    let key = existing(state_dir, "cluster.key")?;
    let cluster = ClusterKey::load_or_create(&key)?;
    if cluster.public() != contents.cluster_key {
        return Err(BackupError::Damaged { path: key, why: "it is the key of another cluster".to_owned() });
    }
    let text = |name: &str| read(&state_dir.join(name));
    let membership = text("cluster.json")?;
    let made = BackedUp { cluster: cluster.id().to_string(), node };
    let contents = File {
        form: FORM,
        what: WHAT.to_owned(),
        cluster: made.cluster.clone(),
        node,
        node_key: text("node.key")?,
        cluster_key: text("cluster.key")?,
        membership: serde_json::from_str(&membership)
            .map_err(|error| damaged(&state_dir.join("cluster.json"), &error))?,
    };
    let bytes = serde_json::to_vec_pretty(&contents).map_err(|error| damaged(file, &error))?;
    write_new(file, &bytes)?;
    Ok(made)
}

/// Makes `state_dir` the folder of the node of a backup again. No node may run on it. Tokens from before let
/// nobody in any more, and serials go on far above those that may have been given out since the backup was
/// made, by the clock.
///
/// # Errors
/// [`BackupError`]. What is in the folder is not replaced.
pub fn restore(state_dir: &Path, file: &Path, clock: Clock) -> Result<BackedUp, BackupError> {
    let backup: File = serde_json::from_str(&read(file)?).map_err(|error| damaged(file, &error))?;
    let wrong = |why: &str| BackupError::Damaged { path: file.to_owned(), why: why.to_owned() };
    if backup.what != WHAT {
        return Err(wrong("it does not say that it is one"));
    }
    if backup.form > FORM {
        return Err(wrong("a newer version of this program wrote it: upgrade"));
    }
    for name in ["cluster.json", "cluster.key"] {
        let path = state_dir.join(name);
        if path.exists() {
            return Err(BackupError::Exists { path });
        }
    }
    let key_path = state_dir.join("node.key");
    let has_key = key_path.exists();
    if has_key && read(&key_path)?.trim() != backup.node_key.trim() {
        return Err(BackupError::OtherNode { state_dir: state_dir.to_owned() });
    }
    // Everything is judged in a folder beside, before the first file is where a node would find it.
    let beside = state_dir.join("cluster.restore");
    let judged = judge(&beside, &backup, clock).map_err(|error| match error {
        BackupError::Stored(error) => wrong(&error.to_string()),
        BackupError::Key(error) => wrong(&error.to_string()),
        other => other,
    });
    let swept = fs::remove_dir_all(&beside);
    let membership = judged?;
    swept.map_err(|source| BackupError::Io { path: beside, source })?;
    if !has_key {
        put(&key_path, backup.node_key.as_bytes())?;
    }
    put(&state_dir.join("cluster.key"), backup.cluster_key.as_bytes())?;
    // The last one makes it a member again.
    put(&state_dir.join("cluster.json"), &membership)?;
    Ok(BackedUp { cluster: backup.cluster, node: backup.node })
}

/// The membership to restore, if the parts of the backup belong together.
fn judge(beside: &Path, backup: &File, clock: Clock) -> Result<Vec<u8>, BackupError> {
    let io = |source| BackupError::Io { path: beside.to_owned(), source };
    // Left by one that was killed in between.
    match fs::remove_dir_all(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(beside).map_err(io)?;
    let membership = serde_json::to_vec(&backup.membership).map_err(|error| damaged(beside, &error))?;
    put(&beside.join("node.key"), backup.node_key.as_bytes())?;
    put(&beside.join("cluster.key"), backup.cluster_key.as_bytes())?;
    put(&beside.join("cluster.json"), &membership)?;
    let node = NodeKey::load_or_create(&beside.join("node.key"))?.id();
    let cluster = ClusterKey::load_or_create(&beside.join("cluster.key"))?;
    let stored = Stored::load(beside, clock)?
        .ok_or_else(|| BackupError::Missing { path: beside.join("cluster.json") })?;
    let contents = stored.contents();
    let belongs = contents.issuer == node && contents.cluster_key == cluster.public() && node == backup.node;
    if !belongs {
        let why = "its keys and its membership do not belong together".to_owned();
        return Err(BackupError::Damaged { path: beside.join("cluster.json"), why });
    }
    stored.restart(SERIALS_SKIPPED)?;
    fs::read(beside.join("cluster.json")).map_err(io)
}

fn existing(state_dir: &Path, name: &str) -> Result<PathBuf, BackupError> {
    let path = state_dir.join(name);
    if path.exists() { Ok(path) } else { Err(BackupError::Missing { path }) }
}

fn read(path: &Path) -> Result<String, BackupError> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(io)?.len();
    if length > BYTES_MAX {
        let why = format!("it has {length} bytes");
        return Err(BackupError::Damaged { path: path.to_owned(), why });
    }
    fs::read_to_string(path).map_err(io)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    files::replace(path, bytes).map_err(|source| BackupError::Io { path: path.to_owned(), source })
}

/// An older backup is never replaced: it may be the only good one.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists { path: path.to_owned() },
        _ => BackupError::Io { path: path.to_owned(), source },
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Half a backup is none.
        let _ = fs::remove_file(path);
        BackupError::Io { path: path.to_owned(), source }
    })
}

fn damaged(path: &Path, error: &serde_json::Error) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
