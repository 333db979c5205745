//! Why a program ended, in words for people and a cause for programs.
//!
//! Owns the table of what engines print when they fail, and how it is weighed against the exit code or
//! signal. Refuses to look anything up: every fact comes in as a value, so that each row of the table is a
//! test.
//!
//! The *first* matching line wins: llama.cpp tries twice, and what follows the first failure is its
//! consequence.

mod cpu;
mod lines;
mod signals;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::launcher::{Cause, Diagnosis, ExitStatus};
pub use cpu::missing_features;
pub use lines::denied_paths;
pub use signals::signal_name;

/// What is known when a program has ended.
#[derive(Clone, Debug)]
pub struct ExitFacts<'a> {
    /// Code or signal.
    pub status: ExitStatus,
    /// Whether and how ARW asked for it.
    pub asked: Asked,
    /// What this launch printed, oldest first.
    pub log_lines: &'a [String],
    /// The kernel's count of out-of-memory kills rose while it ran.
    pub oom_kill_rose: bool,
    /// Its model, looked at after the exit.
    pub model: Option<ModelFacts>,
    /// Its port, tried after the exit.
    pub port: Option<PortFacts>,
    /// What the sandbox let it read; `None` when no file rule was in force.
    pub readable: Option<&'a [PathBuf]>,
    /// What of that the sandbox let it execute.
    pub executable: &'a [PathBuf],
    /// Where paths that its lines name lead, for those that lead elsewhere ([`denied_paths`] tells which to
    /// look up).
    pub links: &'a [(PathBuf, PathBuf)],
    /// This machine's CPU features as `/proc/cpuinfo` names them; empty when not known.
    pub cpu_flags: &'a BTreeSet<String>,
}

/// Whether ARW asked a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// No.
    Not,
    /// It was sent SIGTERM.
    Terminate,
    /// It was sent SIGTERM and then, still alive after this long, SIGKILL.
    KillAfter(Duration),
    /// It was sent SIGKILL at once.
    Kill,
}

/// The model file as it is after the exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// Where it is.
    pub path: PathBuf,
    /// It is a folder.
    pub is_folder: bool,
    /// Bytes when the program was started; `None` when it was not there.
    pub bytes_then: Option<u64>,
    /// Bytes now; `None` when it is gone.
    pub bytes_now: Option<u64>,
}

/// The port that was given to the program, tried after the exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// The address.
    pub address: SocketAddr,
    /// Someone else listens there.
    pub in_use: bool,
}

/// Says why a program ended.
///
/// ```
/// use arw_actors::runtime::diagnosis::{Asked, ExitFacts, diagnose};
/// use arw_actors::runtime::launcher::{Cause, ExitStatus};
/// let lines = ["llama-server: error while loading shared libraries: libgomp.so.1: cannot open".to_owned()];
/// let facts = ExitFacts {
///     status: ExitStatus::Code(127),
///     asked: Asked::Not,
///     log_lines: &lines,
///     oom_kill_rose: false,
///     model: None,
///     port: None,
///     readable: None,
///     executable: &[],
///     links: &[],
///     cpu_flags: &Default::default(),
/// };
/// assert_eq!(diagnose(&facts).cause, Cause::LibraryMissing);
/// ```
#[must_use]
pub fn diagnose(facts: &ExitFacts<'_>) -> Diagnosis {
    match facts.asked {
        Asked::Not => diagnose_unasked(facts),
        Asked::Terminate => stopped("stopped by ARW"),
        Asked::Kill => stopped("killed by ARW"),
        Asked::KillAfter(grace) => {
            stopped(&format!("killed by ARW: still running {:.1} s after SIGTERM", grace.as_secs_f64()))
        }
    }
}

fn diagnose_unasked(facts: &ExitFacts<'_>) -> Diagnosis {
    match facts.status {
        ExitStatus::KeeperLost => Diagnosis {
            cause: Cause::KeeperLost,
            detail: "the keeper process that watched it was killed, and the program with it".into(),
            hint: Some(
                "look for who kills processes on this machine (an administrator, a clean-up job)".into(),
            ),
            permanent: false,
        },
        ExitStatus::Code(0) => Diagnosis {
            cause: Cause::Finished,
            detail: with_last_line("ended by itself with exit code 0", facts),
            hint: Some("a model server should run until it is stopped: check its arguments; a start script that leaves its server in the background ends with it: begin the last line with `exec`".into()),
            permanent: false,
        },
        ExitStatus::Code(code) => match lines::first_match(facts) {
            Some(found) => said_with(found, &format!("exit code {code}")),
            None => plain_code(code, facts),
        },
        ExitStatus::Signal(signal) => from_signal(signal, facts),
    }
}

fn from_signal(signal: i32, facts: &ExitFacts<'_>) -> Diagnosis {
    let name = signal_name(signal);
    match signal {
        signals::SIGKILL if facts.oom_kill_rose => Diagnosis {
            cause: Cause::OutOfMemory,
            detail: "killed by SIGKILL (by the kernel: the machine ran out of memory)".into(),
            hint: Some(lines::MEMORY_HINT.into()),
            permanent: false,
        },
        // Whoever sends these decides from outside: what the log said before is not why.
        signals::SIGKILL | signals::SIGTERM | signals::SIGINT | signals::SIGHUP | signals::SIGQUIT => {
            Diagnosis {
                cause: Cause::Killed,
                detail: format!("killed by {name} (by another process, not by ARW)"),
                hint: None,
                permanent: false,
            }
        }
        signals::SIGILL => cpu::illegal_instruction(facts),
        signals::SIGBUS if shrank(facts.model.as_ref()) => Diagnosis {
            cause: Cause::ModelTruncated,
            detail: format!(
                "killed by {name}: its model file became shorter while it was in use{}",
                path_of(facts)
            ),
            hint: Some(
                "import the model again, and replace files by renaming, never by writing into them".into(),
            ),
            permanent: true,
        },
        _ => match lines::first_match(facts) {
            Some(found) => said_with(found, &format!("killed by {name}")),
            None => crashed(signal, facts),
        },
    }
}

fn crashed(signal: i32, facts: &ExitFacts<'_>) -> Diagnosis {
    let name = signal_name(signal);
    let hint = match signal {
        signals::SIGBUS => {
            "a file it had mapped could not be read: check the disk, and the model file's hash"
        }
        signals::SIGSYS => {
            "the sandbox ended it for a forbidden system call: report this with the last log lines"
        }
        _ => "a fault inside the program: look at the last log lines, try another version of it",
    };
    Diagnosis {
        cause: Cause::Crashed,
        detail: with_last_line(&format!("crashed with {name}"), facts),
        hint: Some(hint.into()),
        permanent: false,
    }
}

fn plain_code(code: i32, facts: &ExitFacts<'_>) -> Diagnosis {
    Diagnosis {
        cause: Cause::ExitCode,
        detail: with_last_line(&format!("ended with exit code {code}"), facts),
        hint: Some("see its log for what it said".into()),
        permanent: false,
    }
}

fn stopped(detail: &str) -> Diagnosis {
    Diagnosis { cause: Cause::Stopped, detail: detail.into(), hint: None, permanent: false }
}

/// A line explains more than a code, and the two may contradict each other: say both.
fn said_with(mut found: Diagnosis, how: &str) -> Diagnosis {
    found.detail = format!("{} ({how})", found.detail);
    found
}

fn with_last_line(text: &str, facts: &ExitFacts<'_>) -> String {
    let last = facts.log_lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
    match last {
        Some(line) => format!("{text}; its last line: {}", shorten(line)),
        None => format!("{text} and printed nothing"),
    }
}

/// Lines may be 4 KB; a reason should fit on a screen.
fn shorten(line: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut short: String = line.chars().take(CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

fn shrank(model: Option<&ModelFacts>) -> bool {
    model.is_some_and(|m| m.bytes_then.unwrap_or(0) > m.bytes_now.unwrap_or(0))
}

fn path_of(facts: &ExitFacts<'_>) -> String {
    facts.model.as_ref().map(|m| format!(": {}", m.path.display())).unwrap_or_default()
}

fn is_within(path: &Path, folders: &[PathBuf]) -> bool {
    folders.iter().any(|allowed| path.starts_with(allowed))
}

#[cfg(test)]
mod tests;
