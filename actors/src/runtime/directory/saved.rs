//! The runtimes that were added while the node ran, and those that an operator has stopped, in a file of the
//! state folder.
//!
//! Owns `runtimes.json`: read at the start, replaced as a whole at each change, so that a crash leaves the
//! old or the new list.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::ids::RuntimeId;
use crate::runtime::spec::RuntimeSpec;

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct SavedRuntimes {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    schema: u32,
    #[serde(flatten)]
    saved: Saved,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) runtimes: Vec<RuntimeSpec>,
    /// Of these and of the configured ones: no request starts them, nor does the node. Absent in files of
    /// older versions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) held: BTreeSet<RuntimeId>,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedError {
    /// It cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Another version wrote it.
    #[error(
        "{path} has the form {schema}, which this version cannot read: use the version that wrote it, or move it away to start with no runtimes"
    )]
    Schema {
        /// The file.
        path: String,
        /// What it says.
        schema: u32,
    },
    /// It is not what this program wrote.
    #[error("{path} is damaged or of a newer version: {source}; move it away to start with no runtimes")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        source: serde_json::Error,
    },
}

const SCHEMA: u32 = 1;

impl SavedRuntimes {
    pub(crate) fn at(state_dir: &Path) -> Self {
        Self { path: state_dir.join("runtimes.json") }
    }

    /// What was saved last; nothing when there is no file.
    pub(crate) fn read(&self) -> Result<Saved, SavedError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(source) => return Err(self.io("read", source)),
        };
        let contents: Contents = serde_json::from_slice(&text)
            .map_err(|source| SavedError::Damaged { path: self.path.display().to_string(), source })?;
        if contents.schema != SCHEMA {
            return Err(SavedError::Schema {
                path: self.path.display().to_string(),
                schema: contents.schema,
            });
        }
        Ok(contents.saved)
    }

    /// Replaces what was saved.
    pub(crate) fn write(&self, saved: Saved) -> Result<(), SavedError> {
        let contents = Contents { schema: SCHEMA, saved };
        let text = serde_json::to_vec_pretty(&contents).map_err(|error| self.io("write", error.into()))?;
        files::replace(&self.path, &text).map_err(|source| self.io("write", source))
    }

    fn io(&self, action: &'static str, source: io::Error) -> SavedError {
        SavedError::Io { action, path: self.path.display().to_string(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::IdleAfter;

    /// As a node wrote it that could only count seconds.
    #[test]
    fn an_older_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"schema":1,"runtimes":[{"id":"a","adapter":"process","profile":"default","auto_start":false,
            "program":"/bin/true","idle_after_s":5},{"id":"b","adapter":"process","program":"/bin/true"}]}"#;
        fs::write(folder.path().join("runtimes.json"), text).unwrap();
        let read = SavedRuntimes::at(folder.path()).read().unwrap();
        assert!(read.held.is_empty());
        assert_eq!(
            read.runtimes.iter().map(|spec| spec.idle_after_s).collect::<Vec<_>>(),
            [Some(IdleAfter::Seconds(5)), None]
        );
    }

    #[test]
    fn what_is_saved_is_read_again_and_a_damaged_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let saved = SavedRuntimes::at(folder.path());
        assert_eq!(saved.read().unwrap(), Saved::default());
        let spec: RuntimeSpec = serde_json::from_value(serde_json::json!({
            "id": "a", "adapter": "process", "program": "/bin/true", "args": ["x"], "env": {"A": "1"}, "idle_after_s": 5
        }))
        .unwrap();
        let never = RuntimeSpec { idle_after_s: Some(IdleAfter::Off), ..spec.clone() };
        for (runtimes, held) in [(vec![spec], ["a"].as_slice()), (vec![never], [].as_slice())] {
            let held = held.iter().map(|id| id.parse().unwrap()).collect();
            let contents = Saved { runtimes, held };
            saved.write(contents.clone()).unwrap();
            assert_eq!(saved.read().unwrap(), contents);
        }
        fs::write(folder.path().join("runtimes.json"), r#"{"schema":2,"runtimes":[]}"#).unwrap();
        assert!(saved.read().unwrap_err().to_string().contains("has the form 2"));
        fs::write(folder.path().join("runtimes.json"), "{\"schema\":1,").unwrap();
        assert!(saved.read().unwrap_err().to_string().contains("is damaged"));
    }
}
