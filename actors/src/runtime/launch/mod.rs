//! How a program is started, kept in its sandbox, watched and ended.
//!
//! ```text
//! node ── attendant (a thread per engine) ──lifeline── keeper ── shim ══exec══ program
//!           └── capture (a thread per engine) ◄── one pipe: stdout and stderr ──┘
//! ```
//!
//! The node's own program is started again as a *keeper*, which starts it once more as a *shim*; the shim
//! puts itself into the sandbox and becomes the program. The keeper's only link to the node is the
//! *lifeline*, a socket on its standard input: orders come in, reports go out, and when it closes, for
//! whatever reason, everything below is killed. So `kill -9` of the node leaves nothing running. A keeper is
//! needed because the kernel ties the parent-death signal to the parent's *thread*, and tells it to children
//! only, not to grandchildren. Where the kernel allows it the keeper makes a pid namespace of its own, and
//! then nothing below can outlive it, however it tries. One keeper and its shim wait in reserve
//! (`keepers.rs`), so that a program that crashed is followed sooner.
//!
//! Call [`run_hidden`] first thing in `main` of every program that is used as [`KeeperProgram`].
//!
//! Refuses to know when to start, restart or stop anything: that is `machine.rs` and its actor.

#[cfg(target_os = "linux")]
mod attendant;
#[cfg(target_os = "linux")]
mod capture;
#[cfg(target_os = "linux")]
mod elf;
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod family;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod keepers;
#[cfg(target_os = "linux")]
mod libraries;
#[cfg(target_os = "linux")]
mod os_launcher;
#[cfg(target_os = "linux")]
mod pid_namespace;
#[cfg(target_os = "linux")]
mod placeholders;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod prepare;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod scratch;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(target_os = "linux")]
mod sweep;
#[cfg(target_os = "linux")]
mod wire;

#[cfg(target_os = "linux")]
pub use os_launcher::{KeeperProgram, OsLauncher, OsLauncherOptions};

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub use unsupported::{KeeperProgram, OsLauncher, OsLauncherOptions};

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs this process as a keeper or a shim when its first argument says so; `None`: it is an ordinary start.
///
/// `args` are the process's arguments with the program's name, as [`std::env::args_os`] gives them.
///
/// ```
/// use arw_actors::runtime::launch::run_hidden;
/// if let Some(code) = run_hidden(std::env::args_os()) {
///     std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
/// }
/// // … an ordinary start
/// ```
pub fn run_hidden(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    let first = args.next()?;
    #[cfg(target_os = "linux")]
    match first.to_str()? {
        keeper::FIRST_ARGUMENT => return Some(keeper::main(args)),
        shim::FIRST_ARGUMENT => return Some(shim::main(args)),
        _ => {}
    }
    drop(first);
    None
}
