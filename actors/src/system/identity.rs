//! How many times this node was started.
//!
//! Owns `identity.json`: the incarnation, so that versions, events and messages of one start are never taken
//! for those of another. Refuses to know the node's key: its id is told.

use std::fs;
use std::path::{Path, PathBuf};

use arw_kit::moment::WallTime;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::ids::NodeId;

/// The identity for this start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
}

/// What the file holds. The id is there for people who look for a node's folder.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    incarnation: u64,
}

/// The identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be used.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what this program wrote.
    #[error("{path} is damaged ({source}): move it away to make a new one")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// The node's key cannot be used.
    #[error("{0}")]
    Key(String),
}

impl Identity {
    /// Counts this start of the node `id`, and writes it down.
    ///
    /// An incarnation is at least the seconds since 1970: a node whose file was lost or restored from a
    /// backup is not taken for an earlier start of itself by nodes that knew it before.
    pub(super) fn next(state_dir: &Path, id: NodeId, now: WallTime) -> Result<Self, IdentityError> {
        let path = state_dir.join("identity.json");
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let before = match fs::read(&path) {
            Ok(text) => {
                let stored: Stored = serde_json::from_slice(&text)
                    .map_err(|source| IdentityError::Damaged { path: path.clone(), source })?;
                stored.incarnation
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(error)),
        };
        let seconds = u64::try_from(now.as_millis() / 1000).unwrap_or(0);
        let incarnation = before.saturating_add(1).max(seconds);
        let text = serde_json::to_vec(&Stored { id: id.to_string(), incarnation })
            .map_err(|error| io(error.into()))?;
        files::replace(&path, &text).map_err(io)?;
        Ok(Self { id, incarnation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NodeId = NodeId::from_bytes([7; 32]);

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(seconds * 1000)
    }

    #[test]
    fn the_incarnation_grows_with_every_start_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let next = |seconds| Identity::next(folder.path(), ID, at(seconds)).unwrap().incarnation;
        assert_eq!([next(1000), next(1000), next(5000), next(10)], [1000, 1001, 5000, 5001]);
    }

    #[test]
    fn a_node_whose_file_was_lost_is_later_than_before() {
        let folder = tempfile::tempdir().unwrap();
        let before = Identity::next(folder.path(), ID, at(1000)).unwrap();
        fs::remove_file(folder.path().join("identity.json")).unwrap();
        let after = Identity::next(folder.path(), ID, at(1001)).unwrap();
        assert!(after.incarnation > before.incarnation);
    }
}
