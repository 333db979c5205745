//! Who this node is, and how many times it was started.
//!
//! Owns `identity.json`. The id is random until nodes have keys; the incarnation counts starts, so that versions and events of one start are
//! never taken for those of another.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

/// The identity for this start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) incarnation: u64,
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
    #[error("{path} is damaged ({source}): move it away to give this node a new identity")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

impl Identity {
    /// Reads the identity, counts this start, and writes it back.
    pub(super) fn next(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join("identity.json");
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let mut identity = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| IdentityError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut id = [0_u8; 16];
                getrandom::fill(&mut id).map_err(|error| io(std::io::Error::other(error)))?;
                Self { id: base16ct::lower::encode_string(&id), incarnation: 0 }
            }
            Err(error) => return Err(io(error)),
        };
        identity.incarnation += 1;
        let text = serde_json::to_vec(&identity).map_err(|error| io(error.into()))?;
        files::replace(&path, &text).map_err(io)?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_incarnation_counts_starts() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::next(folder.path()).unwrap();
        let second = Identity::next(folder.path()).unwrap();
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
        assert_eq!(first.id, second.id);
        assert_eq!(first.id.len(), 32);
    }
}
