//! What a program may touch, and making it so.
//!
//! Owns the rules as values (`rules.rs` computes them, in the node) and their enforcement (the rest, in the
//! shim). Refuses to know what a program is for. A kernel that lacks something is worked around and said,
//! never silently.

pub(super) mod capabilities;
pub(super) mod guard;
mod landlock_rules;
pub(super) mod rules;
mod seccomp;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::plan::{Enforced, Failure, Stage};

/// Everything that a program may touch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sandbox {
    pub(super) rules: Vec<PathRule>,
    pub(super) network: Network,
    pub(super) unix_connect: UnixConnect,
}

/// What a program may do with a file, or with a folder and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PathRule {
    pub(super) path: PathBuf,
    pub(super) access: Access,
    /// For people: why this path is in the list.
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    Read,
    ReadExecute,
    /// Read, write, make and remove; never execute.
    Write,
    /// Read, write and control a device.
    Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Network {
    /// Unix sockets in the writable folders only.
    UnixOnly,
    /// Besides, listening on this TCP port.
    BindOnePort(u16),
}

impl Network {
    /// The word for it in a [`crate::runtime::launcher::SandboxReport`], given the Landlock ABI in force: TCP
    /// rules came with 4.
    pub(super) fn word(self, enforced: &Enforced) -> &'static str {
        let tcp_rules = enforced.landlock_abi.is_some_and(|abi| abi >= LANDLOCK_ABI_TCP);
        match self {
            Network::UnixOnly if enforced.seccomp || tcp_rules => "unix_socket_only",
            Network::BindOnePort(_) if tcp_rules => "bind_one_port",
            Network::UnixOnly | Network::BindOnePort(_) => "unrestricted",
        }
    }
}

/// Whether a program may connect to Unix sockets, which every program of the machine may offer: D-Bus,
/// container engines, SSH agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UnixConnect {
    Denied,
    /// The operator asked for it: some engines talk to processes of their own this way.
    Allowed,
}

impl UnixConnect {
    /// The word for it in a [`crate::runtime::launcher::SandboxReport`].
    pub(super) fn word(self, enforced: &Enforced) -> &'static str {
        match self {
            UnixConnect::Denied if enforced.seccomp => "denied",
            _ if enforced.landlock_abi.is_some_and(|abi| abi >= LANDLOCK_ABI_UNIX) => "own_folder",
            UnixConnect::Denied | UnixConnect::Allowed => "unrestricted",
        }
    }
}

/// Whoever looks for a mode that did not change should find the reason.
const ATTRIBUTES_STAY: &str =
    "chmod, touch and chown report success and change nothing: mode, times and owner of files stay";

/// Which processes a program can name by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processes {
    /// Those of its own pid namespace.
    Own,
    /// All of the machine.
    All,
}

const LANDLOCK_ABI_TCP: u32 = 4;
/// From this one on the kernel asks whose folder a socket lies in.
const LANDLOCK_ABI_UNIX: u32 = 9;

/// Puts this process, and all it will start, into the sandbox. There is no way back.
pub(super) fn enter(sandbox: &Sandbox, processes: Processes, enforced: &mut Enforced) -> Result<(), Failure> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| Failure::of(Stage::Sandbox, "cannot set no_new_privs", &errno.into()))?;
    match capabilities::drop_all() {
        Ok(()) => enforced.capabilities_dropped = true,
        Err(error) => enforced.notes.push(format!("capabilities could not be dropped: {error}")),
    }
    match seccomp::apply(sandbox.network, sandbox.unix_connect, processes) {
        Ok(()) => {
            enforced.seccomp = true;
            enforced.notes.push(ATTRIBUTES_STAY.into());
        }
        Err(problem) => enforced.notes.push(format!("no system call filter: {problem}")),
    }
    landlock_rules::apply(sandbox, enforced)?;
    if sandbox.unix_connect.word(enforced) == "unrestricted" {
        enforced.notes.push(
            "it may connect to every Unix socket that the node's user may (D-Bus, container engines, SSH agents)".into(),
        );
    }
    Ok(())
}
