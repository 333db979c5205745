//! The last step before the program: puts its own process into the sandbox and becomes the program.
//!
//! Owns the order of these steps, which matters: first the tie to the keeper, so that nothing outlives it;
//! then what cannot be undone. Refuses to decide anything: what to do is in the plan, and any failure is
//! reported and ends it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::plan::{Enforced, Failure, Plan, Report, Stage};
use super::procfs::Procfs;
use super::sandbox::{self, Processes};
use super::wire::Wire;

pub(super) const FIRST_ARGUMENT: &str = "__shim";

/// What a shell says when a program cannot be executed. Nobody reads it: the report says why.
const EXIT_CODE: u8 = 126;

/// Enough for a server with thousands of connections, little enough that a program which loops over all
/// numbers stays quick.
const OPEN_FILES_MAX: u64 = 65_536;

/// When memory runs out the kernel should take a program, which is started again, before the node.
const OOM_SCORE_ADJ: &str = "500";

pub(super) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let keeper = args.next().and_then(|arg| arg.to_str()?.parse::<i32>().ok());
    // Standard input is replaced before the exec; this copy closes itself at the exec, which tells the keeper
    // that it worked.
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::from(EXIT_CODE) };
    let mut wire = Wire::new(UnixStream::from(socket));
    let failure = become_program(keeper, &mut wire);
    // A keeper that is gone needs no report.
    let _ = wire.send(&Report::Failed(failure));
    ExitCode::from(EXIT_CODE)
}

/// Returns only when it failed.
fn become_program(keeper: Option<i32>, wire: &mut Wire) -> Failure {
    match prepare(keeper, wire) {
        Ok((plan, input)) => {
            let mut command = Command::new(&plan.program);
            command.args(&plan.args).env_clear().envs(&plan.env).current_dir(&plan.folder).stdin(input);
            let error = command.exec();
            Failure::of(Stage::Exec, &format!("program `{}`", plan.program.display()), &error)
        }
        Err(failure) => failure,
    }
}

fn prepare(keeper: Option<i32>, wire: &mut Wire) -> Result<(Plan, Stdio), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Failure::of(Stage::Shim, &what, &error)
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| failed("cannot ask for the parent-death signal")(errno.into()))?;
    // The keeper may have died before that call; then somebody else is the parent.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if keeper.is_none() || parent != keeper {
        return Err(Failure::new(Stage::Shim, "the keeper is gone"));
    }
    rustix::process::setsid().map_err(|errno| failed("cannot start a session")(errno.into()))?;
    let plan: Plan = wire
        .receive()
        .map_err(failed("cannot read the plan"))?
        .ok_or_else(|| Failure::new(Stage::Shim, "the keeper sent no plan"))?;
    let input = input_with(&plan.secret).map_err(failed("cannot make its standard input"))?;
    let mut enforced = Enforced::default();
    limit_resources(&mut enforced);
    let pid = Procfs::default().own_pid().unwrap_or_else(std::process::id);
    // The first process of a pid namespace, and of no other kind of keeper's.
    let in_namespace = keeper == Some(Pid::INIT.as_raw_nonzero().get());
    let processes = if in_namespace { Processes::Own } else { Processes::All };
    sandbox::enter(&plan.sandbox, processes, &mut enforced)?;
    wire.send(&Report::Confined { pid, enforced }).map_err(failed("cannot report"))?;
    Ok((plan, input))
}

/// A pipe that holds the key as its only line, and then ends.
fn input_with(secret: &str) -> io::Result<Stdio> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A pipe holds at least 4 KB before a write waits; keys are far shorter.
    fs::File::from(write).write_all(format!("{secret}\n").as_bytes())?;
    Ok(read.into())
}

fn limit_resources(enforced: &mut Enforced) {
    // A core file could hold prompts and the key.
    let limits = [(Resource::Core, 0), (Resource::Nofile, OPEN_FILES_MAX)];
    for (resource, wanted) in limits {
        let now = rustix::process::getrlimit(resource);
        let limit = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let new = Rlimit { current: Some(limit), maximum: Some(limit) };
        if let Err(errno) = rustix::process::setrlimit(resource, new) {
            enforced.notes.push(format!("resource limits could not be set: {}", io::Error::from(errno)));
        }
    }
    if fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ).is_err() {
        enforced.notes.push("the kernel may end the node before the program when memory runs out".into());
    }
}
