//! Watches one program: starts it, carries out orders, reports its end, and leaves nothing of it behind.
//!
//! Owns the program's process and all that descends from it: it is the first process of their pid namespace
//! or, where there is none, their subreaper, and the only one that reaps them. Its link to the node is the
//! lifeline on its standard input; when that ends, everything ends. Refuses to know why the program runs and
//! whether it should be started again.
//!
//! ```text
//! outer keeper (makes the namespace, waits) ── inner keeper (pid 1 in it) ── shim → program
//! keeper (no namespace: subreaper)          ── shim → program
//! ```

mod children;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use rustix::process::{Pid, Signal};

use self::children::Children;
use super::pid_namespace::{self, Entered};
use super::plan::{Ended, Enforced, Failure, Order, Report, Stage};
use super::shim;
use super::wire::{Received, Wire, wait_readable};

pub(super) const FIRST_ARGUMENT: &str = "__keeper";

/// The keeper's second argument.
pub(super) const WITH_NAMESPACE: &str = "namespace";
pub(super) const WITHOUT_NAMESPACE: &str = "plain";
const INSIDE: &str = "inside";

/// A program that forks without end could keep a keeper without a namespace busy; the node's deadline comes
/// soon after.
const CLEAN_UP_MAX: Duration = Duration::from_secs(2);

/// This very program, even when its file has been replaced by an upgrade since.
const OWN_PROGRAM: &str = "/proc/self/exe";

pub(super) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    // For people who look at `ps`; nothing depends on it.
    let _ = rustix::thread::set_name(c"arw-keeper");
    let mode = args.next().and_then(|arg| arg.into_string().ok()).unwrap_or_default();
    let result = match mode.as_str() {
        WITH_NAMESPACE => keep_in_namespace(),
        WITHOUT_NAMESPACE => keep(None),
        INSIDE => keep_inside(),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the node starts keepers, nobody else")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody to tell but the log that the node captures; by then the node sees the lifeline end.
        Err(error) => {
            let _ = io::Write::write_all(&mut io::stderr(), format!("keeper: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Makes the namespace and waits: the process that makes one is not in it, only its children are.
fn keep_in_namespace() -> io::Result<()> {
    match pid_namespace::enter() {
        Entered::Yes => {}
        Entered::Refused(error) => {
            return keep(Some(format!(
                "no pid namespace ({error}): a program's children are found by other means"
            )));
        }
        Entered::Broken(error) => {
            let failure = Failure::of(Stage::Namespace, "the pid namespace is of no use", &error);
            return take_lifeline()?.send(&Report::Failed(failure));
        }
    }
    let mut inside = Command::new(OWN_PROGRAM).arg0("arw-keeper").args([FIRST_ARGUMENT, INSIDE]).spawn()?;
    // Only the inner keeper holds the lifeline and the log: what it closes is closed.
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    inside.wait()?;
    Ok(())
}

fn keep_inside() -> io::Result<()> {
    // Killing the outer keeper kills this one, and with it the namespace.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    keep(None)
}

fn take_lifeline() -> io::Result<Wire> {
    let lifeline = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(Wire::new(lifeline))
}

fn keep(note: Option<String>) -> io::Result<()> {
    let mut lifeline = take_lifeline()?;
    let is_first = rustix::process::getpid() == Pid::INIT;
    if !is_first {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    let own_pid = std::process::id().to_string();
    // Before there is a plan: in a spare keeper the shim waits too, and ends when this end of its socket
    // does.
    let shim = Command::new(OWN_PROGRAM)
        .arg0("arw-shim")
        .args([shim::FIRST_ARGUMENT, &own_pid])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn();
    let shim = match shim {
        Ok(shim) => Pid::from_child(&shim),
        Err(error) => {
            return lifeline.send(&Report::Failed(Failure::of(Stage::Keeper, "cannot start", &error)));
        }
    };
    let Some(Order::Start(plan)) = lifeline.receive()? else { return Ok(()) };
    let mut wire = Wire::new(ours);
    let children = Children::watch()?;
    // A shim that died is seen by its exit.
    let _ = wire.send(&plan);
    drop(plan);
    let keeper = Keeper {
        lifeline,
        program: shim,
        starting: Some(Starting { wire, confined: None }),
        children,
        kill_at: None,
        note,
    };
    keeper.run(&Clock::system(), is_first)
}

struct Keeper {
    lifeline: Wire,
    /// Not reaped yet while this value lives, so the number cannot mean another process.
    program: Pid,
    /// Until the program runs.
    starting: Option<Starting>,
    children: Children,
    kill_at: Option<Moment>,
    note: Option<String>,
}

struct Starting {
    wire: Wire,
    confined: Option<(u32, Enforced)>,
}

impl Keeper {
    /// Until the program has ended or the node is gone; then nothing of it is left.
    fn run(mut self, clock: &Clock, is_first: bool) -> io::Result<()> {
        while self.step(clock)? {}
        // The first process of a namespace takes all others with it when it ends.
        if !is_first {
            self.children.kill_all(clock, CLEAN_UP_MAX)?;
        }
        Ok(())
    }

    /// Waits for the next thing to happen; `false`: it is over.
    fn step(&mut self, clock: &Clock) -> io::Result<bool> {
        let mut watched = vec![self.lifeline.as_fd(), self.children.as_fd()];
        watched.extend(self.starting.as_ref().map(|starting| starting.wire.as_fd()));
        let ready = wait_readable(&watched, self.kill_at.map(|at| at.since(clock.now())))?;
        // In this order: what a shim said comes before its end, and its end before what the node wants of it.
        if ready.get(2) == Some(&true) && !self.hear_shim()? {
            return Ok(false);
        }
        if ready.get(1) == Some(&true) {
            for (pid, ended) in self.children.reap()? {
                if pid == self.program {
                    self.report_end(ended)?;
                    return Ok(false);
                }
            }
        }
        if ready.first() == Some(&true) && !self.obey(clock)? {
            return Ok(false);
        }
        if self.kill_at.is_some_and(|at| at <= clock.now()) {
            self.kill_at = None;
            self.signal(Signal::KILL);
        }
        Ok(true)
    }

    fn hear_shim(&mut self) -> io::Result<bool> {
        loop {
            let Some(starting) = &mut self.starting else { return Ok(true) };
            match starting.wire.try_receive::<Report>()? {
                Received::Nothing => return Ok(true),
                Received::Message(Report::Confined { pid, enforced }) => {
                    starting.confined = Some((pid, enforced));
                }
                Received::Message(failed @ Report::Failed(_)) => {
                    self.lifeline.send(&failed)?;
                    return Ok(false);
                }
                Received::Message(Report::Started { .. } | Report::Exited(_)) => {}
                Received::Ended => {
                    // The socket closed at the exec. Without a word before, the shim is dying: its exit comes
                    // next.
                    if let Some((pid, mut enforced)) = starting.confined.take() {
                        self.starting = None;
                        enforced.notes.extend(self.note.take());
                        self.lifeline.send(&Report::Started { pid, enforced })?;
                        return Ok(true);
                    }
                    self.starting = None;
                    return Ok(true);
                }
            }
        }
    }

    fn report_end(&mut self, ended: Ended) -> io::Result<()> {
        if self.starting.is_some() && !self.hear_shim()? {
            return Ok(());
        }
        self.lifeline.send(&Report::Exited(ended))
    }

    fn obey(&mut self, clock: &Clock) -> io::Result<bool> {
        loop {
            match self.lifeline.try_receive::<Order>()? {
                Received::Nothing => return Ok(true),
                Received::Ended => {
                    self.signal(Signal::KILL);
                    return Ok(false);
                }
                Received::Message(Order::Kill) => self.signal(Signal::KILL),
                Received::Message(Order::Terminate { grace_ms }) => {
                    self.signal(Signal::TERM);
                    // A stopped process would never see the first signal.
                    self.signal(Signal::CONT);
                    self.kill_at = Some(clock.now() + Duration::from_millis(grace_ms));
                }
                Received::Message(Order::Start(_)) => {}
            }
        }
    }

    /// To the program's process group and, should it have left that, to the program itself.
    fn signal(&self, signal: Signal) {
        if rustix::process::kill_process_group(self.program, signal).is_err() || signal == Signal::KILL {
            // It may be gone already, or still be a shim outside of a group of its own.
            let _ = rustix::process::kill_process(self.program, signal);
        }
    }
}
