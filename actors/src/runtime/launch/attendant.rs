//! A thread per engine that holds its keeper's lifeline: carries orders down and news up, and bounds every
//! wait.
//!
//! Owns the keeper process: it is started here, watched here and reaped here, whatever becomes of the tokio
//! runtime and of whoever asked for the launch. Refuses to know why a program should run or stop.
//!
//! ```text
//! prepare → start keeper → Confined, Started → … orders … → Exited → keeper gone → log drained → diagnosed → told
//! ```

mod ending;
mod failures;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::{oneshot, watch};

use self::ending::Ending;
use super::capture::Capture;
use super::engine::{Orders, Requested, Running};
use super::family::Family;
use super::keepers::{END_MAX as KEEPER_END_MAX, Keeper, Keepers, SPARE_AFTER};
use super::plan::{Enforced, Failure, Order, Report, Stage};
use super::prepare::{Prepared, Surroundings, prepare, unexpected};
use super::procfs::Procfs;
use super::sandbox::{Network, UnixConnect};
use super::sweep::{Marker, Record};
use super::wire::{Received, Wire, wait_readable};
use crate::runtime::diagnosis::Asked;
use crate::runtime::launcher::{EngineExit, ExitStatus, LaunchError, LaunchSpec, SandboxReport, Secret};

/// From the keeper's start to the program's: milliseconds, unless the machine is out of breath.
const START_MAX: Duration = Duration::from_secs(30);

/// How long a keeper may take to carry a kill out before it is killed itself, and its namespace with it.
const OBEY_MAX: Duration = Duration::from_secs(2);

/// What all attendants of one launcher share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) around: Surroundings,
    pub(super) keepers: Keepers,
    pub(super) cpu_flags: Arc<std::collections::BTreeSet<String>>,
    pub(super) procfs: Procfs,
    /// Pid namespaces are not wanted, or one was made and was of no use: not tried again.
    pub(super) without_namespace: AtomicBool,
    /// Panic-free and cheap: only read when something has ended.
    pub(super) clock: Clock,
}

/// One launch.
pub(super) struct Attendant {
    pub(super) shared: Arc<Shared>,
    pub(super) spec: LaunchSpec,
    pub(super) orders: Arc<Orders>,
    /// Of this launch alone.
    pub(super) marker: Marker,
}

/// A program that runs, and all that goes with it.
struct Attended {
    keeper: Keeper,
    capture: Capture,
    pid: u32,
    watched: Watched,
    record: Option<Record>,
    prepared: Prepared,
    files_restricted: bool,
    /// The number of the last log line before this launch.
    log_start: u64,
    oom_kills: Option<u64>,
}

/// Readable when they have ended. What had ended before it could be opened is missing.
struct Watched {
    program: Option<OwnedFd>,
    /// The program's parent, whose end is the end of all: in a namespace it is the first process, elsewhere
    /// it kills what is left first.
    keeper: Option<OwnedFd>,
    keeper_pid: Option<u32>,
}

type Started = oneshot::Sender<Result<Running, LaunchError>>;

impl Attendant {
    /// The thread's whole life.
    pub(super) fn run(self, started: Started) {
        let log_start = self.spec.log.newest();
        let oom_kills = self.shared.procfs.oom_kills();
        match self.start(log_start, oom_kills) {
            Err(error) => {
                // Whoever asked may be gone.
                let _ = started.send(Err(error));
            }
            Ok((attended, sandbox)) => {
                let (tell, exit) = watch::channel(None);
                let running = Running {
                    pid: attended.pid,
                    family: Arc::new(Family::new(
                        self.shared.procfs.clone(),
                        attended.pid,
                        attended.watched.keeper_pid,
                        self.shared.clock,
                    )),
                    endpoint: attended.prepared.endpoint.clone(),
                    secret: attended.prepared.secret.clone(),
                    sandbox,
                    exit,
                };
                let _ = started.send(Ok(running));
                self.attend(attended, &tell);
            }
        }
    }

    fn start(
        &self,
        log_start: u64,
        oom_kills: Option<u64>,
    ) -> Result<(Attended, SandboxReport), LaunchError> {
        // Whoever gave this launch up may have begun the next one, in the same folder.
        if self.orders.take().kill {
            return Err(failures::given_up());
        }
        let prepared = prepare(&self.spec, &self.shared.around, &self.marker)?;
        let (network, unix) = (prepared.plan.sandbox.network, prepared.plan.sandbox.unix_connect);
        let mut may_be_spare = true;
        loop {
            if self.orders.take().kill {
                return Err(failures::given_up());
            }
            let with_namespace = !self.shared.without_namespace.load(Ordering::Relaxed);
            let spare = may_be_spare.then(|| self.shared.keepers.take_spare(with_namespace)).flatten();
            let is_spare = spare.is_some();
            let (mut keeper, mut capture) = self
                .with_capture(spare, with_namespace, &prepared.secret)
                .map_err(|e| failures::no_keeper(self.shared.keepers.program(), &e))?;
            match self.wait_for_start(&mut keeper, &prepared) {
                Ok((pid, enforced)) => {
                    let files_restricted = enforced.landlock_abi.is_some();
                    let sandbox = self.report(enforced, network, unix, with_namespace);
                    self.spec.log.marker(&format!("started pid {pid}"));
                    capture.go();
                    let record = self.record(pid);
                    let watched = self.watch(pid);
                    let attended = Attended {
                        keeper,
                        capture,
                        pid,
                        watched,
                        record,
                        prepared,
                        files_restricted,
                        log_start,
                        oom_kills,
                    };
                    return Ok((attended, sandbox));
                }
                Err(failure) => {
                    keeper.end();
                    capture.finish(ending::DRAIN_MAX);
                    if is_spare && matches!(failure.stage, Stage::Keeper | Stage::Shim) {
                        // Something has befallen it while it waited.
                        may_be_spare = false;
                        continue;
                    }
                    if with_namespace && failure.stage == Stage::Namespace {
                        self.shared.without_namespace.store(true, Ordering::Relaxed);
                        continue;
                    }
                    return Err(failures::explain(&failure, &prepared, &self.spec));
                }
            }
        }
    }

    fn with_capture(
        &self,
        spare: Option<Keeper>,
        with_namespace: bool,
        secret: &Secret,
    ) -> io::Result<(Keeper, Capture)> {
        let mut keeper = match spare {
            Some(spare) => spare,
            None => self.shared.keepers.start(with_namespace)?,
        };
        let output = keeper.output.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let capture = Capture::start(output, Arc::clone(&self.spec.log), secret)?;
        Ok((keeper, capture))
    }

    fn wait_for_start(&self, keeper: &mut Keeper, prepared: &Prepared) -> Result<(u32, Enforced), Failure> {
        let lost = |error: io::Error| Failure::of(Stage::Keeper, "the keeper", &error);
        keeper.wire.send(&StartOrder::Start(&prepared.plan)).map_err(lost)?;
        let deadline = self.shared.clock.now() + START_MAX;
        loop {
            match keeper.wire.try_receive::<Report>().map_err(lost)? {
                Received::Message(Report::Started { pid, enforced }) => return Ok((pid, enforced)),
                Received::Message(Report::Failed(failure)) => return Err(failure),
                Received::Message(Report::Exited(ended)) => {
                    return Err(Failure::new(
                        Stage::Shim,
                        format!("it ended before the program ran ({ended:?})"),
                    ));
                }
                Received::Message(Report::Confined { .. }) => {}
                Received::Ended => {
                    return Err(Failure::new(Stage::Keeper, "it ended before the program ran"));
                }
                Received::Nothing => {
                    let left = deadline.since(self.shared.clock.now());
                    if left.is_zero() {
                        return Err(Failure::new(
                            Stage::Keeper,
                            format!("no program after {} s", START_MAX.as_secs()),
                        ));
                    }
                    wait_readable(&[keeper.wire.as_fd(), self.orders.as_fd()], Some(left)).map_err(lost)?;
                    if self.orders.take().kill {
                        return Err(Failure::new(Stage::Keeper, "given up"));
                    }
                }
            }
        }
    }

    fn report(
        &self,
        enforced: Enforced,
        network: Network,
        unix: UnixConnect,
        with_namespace: bool,
    ) -> SandboxReport {
        let (network, unix_connect) = (network.word(&enforced), unix.word(&enforced));
        let mut notes = enforced.notes;
        if !with_namespace {
            notes.push("no pid namespace: a program's children are found by other means".into());
        }
        SandboxReport {
            landlock_abi: enforced.landlock_abi,
            seccomp: enforced.seccomp,
            capabilities_dropped: enforced.capabilities_dropped,
            network,
            unix_connect,
            notes,
        }
    }

    fn watch(&self, pid: u32) -> Watched {
        let parent = self.shared.procfs.stat(pid).map(|stat| stat.parent);
        // A program that is already an orphan has a parent that is none of ours.
        let keeper_pid = parent.filter(|parent| self.shared.procfs.is_keeper(*parent));
        Watched { program: open(pid), keeper: keeper_pid.and_then(open), keeper_pid }
    }

    fn record(&self, pid: u32) -> Option<Record> {
        let record = Record::of(&self.shared.procfs, &self.spec.runtime, pid)?;
        if let Err(error) = record.write(&self.shared.around.state_dir) {
            // The marker in its environment finds it all the same.
            tracing::warn!(runtime = %self.spec.runtime, pid, %error, "the launch could not be recorded");
        }
        Some(record)
    }

    /// From the program's start to its end.
    fn attend(&self, mut attended: Attended, tell: &watch::Sender<Option<EngineExit>>) {
        let mut ending = Ending::default();
        let clock = self.shared.clock;
        let mut spare_at = Some(clock.now() + SPARE_AFTER);
        while ending.exit.is_none() {
            let next = [ending.force_at, spare_at].into_iter().flatten().min();
            let wait = next.map(|at| at.since(clock.now()));
            let watched = [attended.keeper.wire.as_fd(), self.orders.as_fd(), attended.keeper.ended_fd()];
            let ready = wait_readable(&watched, wait).unwrap_or_default();
            ending.hear(&mut attended.keeper.wire);
            if ready.get(1) == Some(&true) && ending.exit.is_none() {
                let requested = self.orders.take();
                self.order(&mut attended.keeper.wire, &mut ending, requested, clock.now());
            }
            if ending.force_at.is_some_and(|at| at <= clock.now()) {
                ending.force_at = None;
                attended.keeper.kill();
            }
            if spare_at.is_some_and(|at| at <= clock.now()) {
                spare_at = None;
                self.shared.keepers.make_spare(!self.shared.without_namespace.load(Ordering::Relaxed));
            }
            if ready.get(2) == Some(&true) {
                ending.hear(&mut attended.keeper.wire);
                ending.keeper_ended();
            }
        }
        if !has_ended_with_all(&attended, &ending) {
            attended.keeper.end();
        }
        let (exit, keeper) = self.conclude(attended, &ending);
        tell.send_replace(Some(exit));
        // The outer keeper has only to end itself: nobody waits for that.
        drop(keeper);
    }

    fn order(&self, wire: &mut Wire, ending: &mut Ending, requested: Requested, now: Moment) {
        let order = match (requested.kill, requested.terminate) {
            (true, _) if !ending.kill_sent => {
                ending.kill_sent = true;
                ending.force_at = Some(now + OBEY_MAX);
                if ending.asked == Asked::Not {
                    ending.asked = Asked::Kill;
                }
                Order::Kill
            }
            (false, Some(grace)) if ending.asked == Asked::Not => {
                ending.asked = Asked::Terminate;
                ending.grace = grace;
                ending.force_at = Some(now + grace + OBEY_MAX);
                Order::Terminate { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
            }
            _ => return,
        };
        if wire.send(&order).is_err() {
            // It does not listen: the deadline need not be waited for.
            ending.force_at = Some(now);
        }
    }
}

/// [`Order::Start`] without owning the plan.
#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum StartOrder<'a> {
    Start(&'a super::plan::Plan),
}

/// Whether the program's end was told and its keeper is gone, and with it all that the program has started.
fn has_ended_with_all(attended: &Attended, ending: &Ending) -> bool {
    let was_told = ending.exit.is_some_and(|exit| exit != ExitStatus::KeeperLost);
    let keeper = attended.watched.keeper.as_ref().filter(|_| was_told);
    keeper.is_some_and(|keeper| {
        wait_readable(&[keeper.as_fd()], Some(KEEPER_END_MAX)).is_ok_and(|ready| ready == [true])
    })
}

fn open(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()
}

fn kill(process: &OwnedFd) {
    // It may have ended by itself.
    let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
}

/// A thread could not be made.
pub(super) fn no_thread(error: &io::Error) -> LaunchError {
    unexpected("no thread for the launch", &error.to_string())
}
