//! What a launch that failed is told as.
//!
//! Owns the words for failures between the keeper's start and the program's. Refuses to know how they were
//! noticed.

use std::io;

use super::super::os_launcher::KeeperProgram;
use super::super::plan::{Failure, Stage};
use super::super::prepare::{Prepared, unexpected};
use super::super::program::refuse;
use crate::runtime::launcher::{Cause, LaunchError, LaunchSpec};

pub(super) fn given_up() -> LaunchError {
    unexpected("given up", "whoever asked for it no longer wants it")
}

pub(super) fn no_keeper(keeper: &KeeperProgram, error: &io::Error) -> LaunchError {
    unexpected(&format!("the keeper {} cannot be started", keeper.program.display()), &error.to_string())
}

pub(super) fn explain(failure: &Failure, prepared: &Prepared, spec: &LaunchSpec) -> LaunchError {
    let program = prepared.plan.program.display();
    match (failure.stage, failure.errno.map(rustix::io::Errno::from_raw_os_error)) {
        (Stage::Exec, Some(rustix::io::Errno::NOENT)) => refuse(
            Cause::ProgramMissing,
            format!("program `{program}` or the loader that it names is missing"),
            "check that it was built for this system",
        ),
        (Stage::Exec, Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => refuse(
            Cause::ProgramNotExecutable,
            format!(
                "program `{program}` may not be executed by this user, or something that it is started through may not"
            ),
            "check the modes of the program and of the folders above it, and that its disk is not mounted noexec",
        ),
        (Stage::Exec, Some(rustix::io::Errno::NOEXEC)) => refuse(
            Cause::ProgramNotExecutable,
            format!("program `{program}` is not a program for this machine"),
            "use a build for this processor and system",
        ),
        (Stage::Exec, Some(rustix::io::Errno::TOOBIG)) => {
            refuse(Cause::BadOption, format!("the arguments of `{program}` are too long"), "shorten them")
        }
        (Stage::Exec, _) => {
            refuse(Cause::ProgramNotExecutable, failure.text.clone(), "see the reason given by the system")
        }
        (Stage::Sandbox, _) => unexpected("the sandbox could not be entered", &failure.text),
        (Stage::Shim, _) => unexpected("the start was cut off", &failure.text),
        (Stage::Keeper | Stage::Namespace, _) => {
            unexpected(&format!("the keeper of runtime {} failed", spec.runtime), &failure.text)
        }
    }
}
