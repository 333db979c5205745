//! What the node, a keeper and a shim tell each other.
//!
//! Owns the messages, as they travel: one JSON object per line. Refuses to know sockets (`wire.rs`) and what
//! to do with a message. All three are the same program, so the format may change freely.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sandbox::Sandbox;
use crate::runtime::launcher::ExitStatus;

/// Everything a shim needs to become the program. It holds the key: it has no `Debug` and is only ever
/// written to a socket.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    /// The file to execute; also what the program sees as its own name.
    pub(super) program: PathBuf,
    /// Its arguments, filled in.
    pub(super) args: Vec<String>,
    /// Its whole environment.
    pub(super) env: BTreeMap<String, String>,
    /// Its working folder: the scratch folder.
    pub(super) folder: PathBuf,
    /// The first line of its standard input.
    pub(super) secret: String,
    pub(super) sandbox: Sandbox,
}

/// Node to keeper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Start(Box<Plan>),
    /// SIGTERM to the program's group, SIGCONT, and SIGKILL to all that is left after so long.
    Terminate {
        grace_ms: u64,
    },
    Kill,
}

/// Keeper to node, and shim to keeper.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// A shim is in its sandbox and is about to execute the program.
    Confined { pid: u32, enforced: Enforced },
    /// The program runs.
    Started { pid: u32, enforced: Enforced },
    /// The program does not run.
    Failed(Failure),
    /// The program has ended and was reaped; what it left behind is being killed.
    Exited(Ended),
}

/// What the shim could enforce.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Enforced {
    pub(super) landlock_abi: Option<u32>,
    pub(super) seccomp: bool,
    pub(super) capabilities_dropped: bool,
    /// What could not be enforced, and what seems otherwise from inside, in words.
    pub(super) notes: Vec<String>,
}

/// Why a program could not be started.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    /// The error number, where a system call failed.
    pub(super) errno: Option<i32>,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// The pid namespace was made but cannot be used: the node tries again without.
    Namespace,
    Keeper,
    Shim,
    Sandbox,
    Exec,
}

/// Code or signal, as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => ExitStatus::Code(code),
            Ended::Signal(signal) => ExitStatus::Signal(signal),
        }
    }
}

impl Failure {
    pub(super) fn new(stage: Stage, text: impl Into<String>) -> Self {
        Self { stage, errno: None, text: text.into() }
    }

    pub(super) fn of(stage: Stage, what: &str, error: &std::io::Error) -> Self {
        Self { stage, errno: error.raw_os_error(), text: format!("{what}: {error}") }
    }
}
