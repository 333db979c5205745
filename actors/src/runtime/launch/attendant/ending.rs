//! From the first sign of a program's end to its diagnosis.
//!
//! Owns what is gathered on the way: status, what we had asked for, model, port, log. Refuses to judge: that
//! is `diagnosis.rs`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::super::keepers::Keeper;
use super::super::plan::Report;
use super::super::prepare::real_place;
use super::super::sandbox::Access;
use super::super::sweep;
use super::super::wire::{Received, Wire, wait_readable};
use super::{Attendant, Attended, Watched, kill};
use crate::runtime::diagnosis::{Asked, ExitFacts, ModelFacts, PortFacts, denied_paths, diagnose};
use crate::runtime::launcher::{Endpoint, EngineExit, ExitStatus};
use crate::runtime::log::LogStream;

/// How long after the end output is still read: everything that could print is dead, so this is for what
/// escaped.
pub(super) const DRAIN_MAX: Duration = Duration::from_millis(250);

/// How long a program whose keeper was killed may take: the kernel kills it at once.
const ORPHAN_END_MAX: Duration = Duration::from_secs(1);

/// More than the ring holds.
const LINES_MAX: usize = 1000;

/// `SIGKILL`.
const KILLED: ExitStatus = ExitStatus::Signal(9);

pub(super) struct Ending {
    pub(super) asked: Asked,
    pub(super) grace: Duration,
    pub(super) kill_sent: bool,
    /// When the keeper itself is killed, should it not have obeyed by then.
    pub(super) force_at: Option<Moment>,
    pub(super) exit: Option<ExitStatus>,
}

impl Default for Ending {
    fn default() -> Self {
        Self { asked: Asked::Not, grace: Duration::ZERO, kill_sent: false, force_at: None, exit: None }
    }
}

impl Ending {
    /// Takes what the keeper says. A lifeline that ended says the same as a keeper that did.
    pub(super) fn hear(&mut self, wire: &mut Wire) {
        while self.exit.is_none() {
            match wire.try_receive::<Report>() {
                Ok(Received::Message(Report::Exited(ended))) => self.exit = Some(ended.into()),
                Ok(Received::Message(
                    Report::Confined { .. } | Report::Started { .. } | Report::Failed(_),
                )) => {}
                Ok(Received::Nothing) => return,
                Ok(Received::Ended) | Err(_) => self.keeper_ended(),
            }
        }
    }

    pub(super) fn keeper_ended(&mut self) {
        self.exit.get_or_insert(ExitStatus::KeeperLost);
    }

    /// How it ended in the end: a program that was killed at the end of its grace was not merely terminated.
    fn asked(&self, status: ExitStatus) -> Asked {
        match self.asked {
            Asked::Terminate if status == KILLED || self.kill_sent => Asked::KillAfter(self.grace),
            asked => asked,
        }
    }
}

impl Attendant {
    /// The program is gone and what it started too, or the keeper is. Makes sure of that, gathers the facts
    /// and says why.
    pub(super) fn conclude(&self, attended: Attended, ending: &Ending) -> (EngineExit, Keeper) {
        let status = ending.exit.unwrap_or(ExitStatus::KeeperLost);
        if status == ExitStatus::KeeperLost {
            self.end_orphans(&attended);
        }
        let Attended { keeper, capture, record, prepared, files_restricted, log_start, oom_kills, .. } =
            attended;
        capture.finish(DRAIN_MAX);
        if let Some(record) = record {
            record.remove(&self.shared.around.state_dir);
        }
        let printed = self.spec.log.after(log_start, LINES_MAX).lines.into_iter();
        let own = printed.filter(|line| line.stream == LogStream::Output);
        let lines: Vec<String> = own.map(|line| line.text.to_string()).collect();
        // The program is gone, and nobody else knew the folder.
        drop(prepared.socket_folder);
        let rules = prepared.plan.sandbox.rules;
        let may_run = rules.iter().filter(|rule| rule.access == Access::ReadExecute);
        let executable: Vec<PathBuf> = may_run.map(|rule| rule.path.clone()).collect();
        let readable: Vec<PathBuf> = rules.into_iter().map(|rule| rule.path).collect();
        let asked = ending.asked(status);
        let port = match &prepared.endpoint {
            Some(Endpoint::Tcp(address)) => {
                Some(PortFacts { address: *address, in_use: is_in_use(*address) })
            }
            Some(Endpoint::Unix(_) | Endpoint::Url(_)) | None => None,
        };
        let named = denied_paths(&lines).into_iter();
        let links: Vec<(PathBuf, PathBuf)> = named
            .map(|path| {
                let real = real_place(&path);
                (path, real)
            })
            .collect();
        let facts = ExitFacts {
            status,
            asked,
            log_lines: &lines,
            oom_kill_rose: oom_kills
                .zip(self.shared.procfs.oom_kills())
                .is_some_and(|(then, now)| now > then),
            model: prepared.model.map(|(path, bytes_then)| look_at(path, bytes_then)),
            port,
            readable: files_restricted.then_some(readable.as_slice()),
            executable: &executable,
            links: &links,
            cpu_flags: &self.shared.cpu_flags,
        };
        let diagnosis = diagnose(&facts);
        self.spec.log.marker(&format!("ended: {}", diagnosis.detail));
        (EngineExit { status, by_us: asked != Asked::Not, at: self.shared.clock.wall(), diagnosis }, keeper)
    }

    /// The kernel kills a program whose keeper was killed, and the namespace with it; what neither reached is
    /// found by its marker.
    fn end_orphans(&self, attended: &Attended) {
        let Watched { program, keeper, .. } = &attended.watched;
        for process in [program, keeper].into_iter().flatten() {
            // What cannot be waited for is not waited for.
            let ended =
                |at_most| wait_readable(&[process.as_fd()], at_most).map_or(true, |ready| ready == [true]);
            if !ended(Some(ORPHAN_END_MAX)) {
                kill(process);
                // Whether it could be killed decides how this launch ends, so there is no limit: a program
                // that the kernel holds must not be followed by another.
                while !ended(None) {}
            }
        }
        sweep::end_launch(&self.shared.procfs, &self.marker);
    }
}

fn look_at(path: PathBuf, bytes_then: Option<u64>) -> ModelFacts {
    let now = fs::metadata(&path).ok();
    ModelFacts {
        is_folder: now.as_ref().is_some_and(fs::Metadata::is_dir),
        bytes_now: now.map(|found| found.len()),
        bytes_then,
        path,
    }
}

fn is_in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}
