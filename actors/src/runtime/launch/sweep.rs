//! Ends what an earlier node with the same state folder left running.
//!
//! Owns the marker that every program of ours carries in its environment, and the records of what was
//! started. Refuses to touch anything that carries another state folder's marker: another node's engines are
//! not ours, on the same machine or in the same process.
//!
//! A number is never trusted: a process is opened first (`pidfd_open`), looked at again, and only then
//! signalled through what was opened, so that a number that was given to another process in between ends
//! nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::procfs::Procfs;
use super::wire::wait_readable;
use crate::ids::RuntimeId;
use crate::runtime::launcher::SweepReport;

/// The environment variable that marks a program of ours, and everything it starts.
pub(super) const MARKER: &str = "ARW_ENGINE";

/// `<state id>:<runtime>:<attempt>:<launch>`. Attempts may be counted anew; the last part is random, so that
/// the clean-up after one launch can never end another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) state_id: String,
    pub(super) runtime: RuntimeId,
    attempt: u64,
    launch: String,
}

impl Marker {
    /// Another one at each call.
    pub(super) fn new(state_id: &str, runtime: &RuntimeId, attempt: u64) -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random)?;
        let launch = base16ct::lower::encode_string(&random);
        Ok(Self { state_id: state_id.to_owned(), runtime: runtime.clone(), attempt, launch })
    }

    /// What keepers carry in place of a marker: they are started before it is known for which launch. It
    /// names no launch that ever is.
    pub(super) fn of_keepers(state_id: &str) -> String {
        format!("{state_id}:keeper:{}", u64::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let marker = Self {
            state_id: parts.next()?.to_owned(),
            runtime: parts.next()?.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
            // What an older version of ARW left running has none.
            launch: parts.next().unwrap_or_default().to_owned(),
        };
        parts.next().is_none().then_some(marker)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.state_id, self.runtime, self.attempt, self.launch)
    }
}

/// What was started, on disk: finds a program that overwrote its own environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    runtime: RuntimeId,
    boot_id: String,
    /// Number and start time of the program.
    pid: u32,
    start_time: u64,
}

impl Record {
    /// Notes a program that runs. `None`: it is gone already.
    pub(super) fn of(procfs: &Procfs, runtime: &RuntimeId, pid: u32) -> Option<Self> {
        let start_time = procfs.stat(pid)?.start_time;
        Some(Self { runtime: runtime.clone(), boot_id: procfs.boot_id()?, pid, start_time })
    }

    fn path(&self, state_dir: &Path) -> PathBuf {
        records_dir(state_dir).join(format!("{}-{}.json", self.pid, self.start_time))
    }

    pub(super) fn write(&self, state_dir: &Path) -> std::io::Result<()> {
        fs::create_dir_all(records_dir(state_dir))?;
        fs::write(self.path(state_dir), serde_json::to_vec(self)?)
    }

    pub(super) fn remove(&self, state_dir: &Path) {
        // A record of a process that is gone does no harm.
        let _ = fs::remove_file(self.path(state_dir));
    }

    fn is_alive(&self, procfs: &Procfs) -> bool {
        procfs.boot_id().as_ref() == Some(&self.boot_id)
            && procfs
                .stat(self.pid)
                .is_some_and(|stat| stat.start_time == self.start_time && stat.state != 'Z')
    }
}

fn records_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("runtime").join("launched")
}

/// A killed process may have started others in the last moment; they are found in the next round.
const ROUNDS_MAX: usize = 10;

/// How long killed processes may take to end; freeing the memory of a big model takes a while.
const END_MAX: Duration = Duration::from_secs(5);

/// Ends all that carries a marker of this state folder or is on record in it.
pub(super) fn sweep(procfs: &Procfs, state_dir: &Path, state_id: &str) -> SweepReport {
    let is_ours = |marker: &Marker| marker.state_id == state_id;
    let mut ended = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        let mut found = marked(procfs, &is_ours);
        found.extend(recorded(procfs, state_dir));
        if !end_all(procfs, &found, &mut ended, &mut failed) {
            break;
        }
    }
    remove_old_records(procfs, state_dir);
    SweepReport { ended: ended.into_values().flatten().collect(), failed: failed.into_values().collect() }
}

/// Ends what one launch has left, after its keeper was lost.
pub(super) fn end_launch(procfs: &Procfs, wanted: &Marker) {
    let mut ended = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        let found = marked(procfs, &|marker: &Marker| marker == wanted);
        if !end_all(procfs, &found, &mut ended, &mut failed) {
            return;
        }
    }
}

struct Found {
    pid: u32,
    runtime: RuntimeId,
    fd: OwnedFd,
    is_keeper: bool,
}

fn marked(procfs: &Procfs, is_wanted: &dyn Fn(&Marker) -> bool) -> Vec<Found> {
    let own = std::process::id();
    let marker_of =
        |pid| procfs.variable(pid, MARKER).and_then(|text| Marker::parse(&text)).filter(is_wanted);
    let candidates = procfs.pids().into_iter().filter(|pid| *pid != own && marker_of(*pid).is_some());
    let open = candidates.filter_map(|pid| {
        let fd = open(pid)?;
        // Opened: from here on the number cannot be given away. Is it still the one that was seen?
        let marker = marker_of(pid)?;
        let is_keeper = procfs.is_keeper(pid);
        Some(Found { pid, runtime: marker.runtime, fd, is_keeper })
    });
    open.collect()
}

fn recorded(procfs: &Procfs, state_dir: &Path) -> Vec<Found> {
    let alive = records(state_dir).into_iter().filter(|(_, record)| record.is_alive(procfs));
    let open = alive.filter_map(|(_, record)| {
        let fd = open(record.pid)?;
        let same = record.is_alive(procfs);
        same.then_some(Found { pid: record.pid, runtime: record.runtime, fd, is_keeper: false })
    });
    open.collect()
}

fn open(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()
}

/// Kills and waits; whether there was anything.
fn end_all(
    procfs: &Procfs,
    found: &[Found],
    ended: &mut BTreeMap<u32, Option<(RuntimeId, u32)>>,
    failed: &mut BTreeMap<u32, String>,
) -> bool {
    let mut any = false;
    for process in found {
        match rustix::process::pidfd_send_signal(&process.fd, Signal::KILL) {
            Ok(()) => any = true,
            Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => {
                let why = std::io::Error::from(errno);
                failed.insert(
                    process.pid,
                    format!("pid {} of runtime {}: {why}", process.pid, process.runtime),
                );
            }
        }
    }
    for process in found {
        if failed.contains_key(&process.pid) {
            continue;
        }
        let ready = wait_readable(&[process.fd.as_fd()], Some(END_MAX));
        // A zombie counts as ended: reaping is its parent's business.
        let gone = ready.is_ok_and(|ready| ready == [true])
            || procfs.stat(process.pid).is_none_or(|s| s.state == 'Z');
        if gone {
            let told = (!process.is_keeper).then(|| (process.runtime.clone(), process.pid));
            ended.insert(process.pid, told);
        } else {
            let text = format!(
                "pid {} of runtime {} does not end (stuck in the kernel?)",
                process.pid, process.runtime
            );
            failed.insert(process.pid, text);
        }
    }
    any
}

fn records(state_dir: &Path) -> Vec<(PathBuf, Record)> {
    let files =
        fs::read_dir(records_dir(state_dir)).into_iter().flatten().flatten().map(|entry| entry.path());
    files
        .filter_map(|path| Some((path.clone(), serde_json::from_slice(&fs::read(&path).ok()?).ok()?)))
        .collect()
}

fn remove_old_records(procfs: &Procfs, state_dir: &Path) {
    for (path, _) in records(state_dir).into_iter().filter(|(_, record)| !record.is_alive(procfs)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_read_back_and_nonsense_is_none() {
        let new = || Marker::new("0123abcd", &"llama-3.1".parse().unwrap(), 7).unwrap();
        let marker = new();
        assert_ne!(new(), marker);
        assert_eq!(Marker::parse(&marker.to_string()), Some(marker));
        assert_eq!(Marker::parse("0123abcd:m:7").unwrap().state_id, "0123abcd");
        for text in ["", "a", "a:b", "a:b:c", "a:b:1:2:3", "a:../b:1"] {
            assert_eq!(Marker::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_record_from_before_the_boot_or_of_another_start_means_nothing() {
        let procfs = Procfs::default();
        let record = Record::of(&procfs, &"m".parse().unwrap(), std::process::id()).unwrap();
        assert!(record.is_alive(&procfs));
        assert!(!Record { boot_id: "another".into(), ..record.clone() }.is_alive(&procfs));
        assert!(!Record { start_time: record.start_time + 1, ..record }.is_alive(&procfs));
    }

    #[test]
    fn records_of_processes_that_are_gone_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let procfs = Procfs::default();
        let mut record = Record::of(&procfs, &"m".parse().unwrap(), std::process::id()).unwrap();
        record.start_time += 1;
        record.write(state.path()).unwrap();
        fs::write(records_dir(state.path()).join("nonsense.json"), "{").unwrap();
        assert_eq!(sweep(&procfs, state.path(), "unused-id"), SweepReport::default());
        assert!(records(state.path()).is_empty());
    }
}
