//! What a program and everything that it has started hold and do together.
//!
//! Owns the sums: an engine behind a start script is a child of the script, or nobody's child but its
//! keeper's. Refuses to know what they are for.

use std::collections::BTreeMap;
use std::time::Duration;

use arw_kit::clock::Clock;
use parking_lot::Mutex;

use super::procfs::{DESCENDANTS_MAX, Procfs};

/// A program and its descendants.
#[derive(Debug)]
pub(super) struct Family {
    procfs: Procfs,
    program: u32,
    /// Adopts what the program's own children leave behind; it is none of the family itself.
    keeper: Option<u32>,
    clock: Clock,
    last: Mutex<Last>,
}

/// What was measured last.
#[derive(Debug, Default)]
struct Last {
    progress: Progress,
    resident_bytes: Option<u64>,
}

/// What the family holds and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// Memory of all of them. Pages that no file backs are each process's own; of files that several map,
    /// such as a model, each holds the same pages, so the largest share counts once.
    pub(super) resident_bytes: Option<u64>,
    /// Grows while any of them does anything.
    pub(super) progress: u64,
}

/// Looking at one process takes some ten microseconds. A machine with so many that this is not enough is
/// measured in part.
const MEASURE_MAX: Duration = Duration::from_millis(250);

impl Family {
    pub(super) fn new(procfs: Procfs, program: u32, keeper: Option<u32>, clock: Clock) -> Self {
        Self { procfs, program, keeper, clock, last: Mutex::default() }
    }

    /// Reads of every process of the machine, where the kernel does not list children: nothing for a thread
    /// that others wait for.
    pub(super) fn measure(&self) -> Figures {
        let end = self.clock.now() + MEASURE_MAX;
        self.measure_while(&|| self.clock.now() < end)
    }

    fn measure_while(&self, has_time: &dyn Fn() -> bool) -> Figures {
        let mut last = self.last.lock();
        // Before the first look, so that whatever is not seen by then and began before is old.
        let began = self.procfs.uptime_ticks().unwrap_or(0);
        let (mut counters, mut held) = (BTreeMap::new(), Vec::new());
        let mut is_cut_short = false;
        for (pid, known_start) in self.members(&last.progress, has_time) {
            // The program itself is always looked at.
            if pid != self.program && !has_time() {
                is_cut_short = true;
                break;
            }
            let Some(stat) = self.procfs.stat(pid) else { continue };
            if known_start.is_some_and(|start| start != stat.start_time) {
                continue;
            }
            counters.insert((pid, stat.start_time), self.procfs.progress(pid, &stat));
            held.extend(self.procfs.memory(pid));
        }
        let shared = held.iter().map(|memory| memory.shared_bytes).max();
        let resident = shared.map(|shared| held.iter().map(|memory| memory.own_bytes).sum::<u64>() + shared);
        // What was not looked at has not given its memory back.
        last.resident_bytes = if is_cut_short { resident.max(last.resident_bytes) } else { resident };
        let progress = last.progress.note(counters, began);
        Figures { resident_bytes: last.resident_bytes, progress }
    }

    /// The program first. Where not all can be listed those that were measured before stay, with the time
    /// that each was started.
    fn members(&self, progress: &Progress, has_time: &dyn Fn() -> bool) -> Vec<(u32, Option<u64>)> {
        let found = self.procfs.descendants(self.keeper.unwrap_or(self.program), has_time);
        let mut members = vec![(self.program, None)];
        if !found.is_whole {
            let known = progress.last.keys().filter(|(pid, _)| *pid != self.program);
            members.extend(known.map(|(pid, start)| (*pid, Some(*start))));
        }
        let is_new = |pid: &u32| members.iter().all(|(known, _)| known != pid);
        let new: Vec<_> = found.pids.into_iter().filter(is_new).map(|pid| (pid, None)).collect();
        members.extend(new);
        members.truncate(DESCENDANTS_MAX);
        members
    }
}

/// Number and start time: a number alone may be given to another process.
type Process = (u32, u64);

/// A sum that an ended process does not lower.
#[derive(Debug, Default)]
struct Progress {
    last: BTreeMap<Process, u64>,
    total: u64,
    /// When the last look began, in clock ticks after boot.
    began: u64,
}

impl Progress {
    fn note(&mut self, now: BTreeMap<Process, u64>, began: u64) -> u64 {
        for (process, counter) in &now {
            let (_, start_time) = process;
            let before = match self.last.get(process) {
                Some(before) => *before,
                None if *start_time >= self.began => 0,
                // It was there at the last look, past what was looked at: when it did all this nobody knows.
                None => *counter,
            };
            self.total += counter.saturating_sub(before);
        }
        self.last = now;
        self.began = began;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_process_that_ends_takes_no_progress_back_and_a_new_one_adds_its_own() {
        let mut progress = Progress::default();
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 10), ((2, 6), 100)]), 7), 110);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11)]), 8), 111);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11)]), 9), 111);
        // The number 2 again, for another process.
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11), ((2, 9), 3)]), 10), 114);
    }

    #[test]
    fn a_process_that_was_out_of_sight_brings_no_progress_back() {
        let mut progress = Progress::default();
        progress.note(BTreeMap::from([((1, 5), 10), ((2, 6), 100)]), 7);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 10)]), 8), 110);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 10), ((2, 6), 100)]), 9), 110);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 10), ((2, 6), 101)]), 10), 111);
    }

    /// A process of a `/proc` whose kernel lists no children. It did `work`, began before the machine was 100
    /// s up and holds one page.
    fn process(proc: &Path, pid: u32, parent: u32, work: u64) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join("task").join(pid.to_string())).unwrap();
        let stat = format!("{pid} (x) S {parent} 0 0 0 0 0 {work} 0 0 0 0 0 0 0 0 0 0 0 50");
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("statm"), "1 1 0 0 0 0 0").unwrap();
    }

    const KEEPER: u32 = 5;
    const PROGRAM: u32 = 6;

    fn family(proc: &Path, children: u32) -> Family {
        fs::write(proc.join("uptime"), "100.00 0.00").unwrap();
        process(proc, KEEPER, 1, 1000);
        process(proc, PROGRAM, KEEPER, 1);
        for child in 0..children {
            process(proc, 100 + child, PROGRAM, 1);
        }
        Family::new(Procfs::at(proc), PROGRAM, Some(KEEPER), Clock::system())
    }

    #[test]
    fn past_the_bound_processes_that_come_into_sight_are_no_progress() {
        let proc = tempfile::tempdir().unwrap();
        let max = u32::try_from(DESCENDANTS_MAX).unwrap();
        let family = family(proc.path(), max + 50);
        let first = family.measure_while(&|| true);
        let page = rustix::param::page_size() as u64;
        assert_eq!(first, Figures { resident_bytes: Some(u64::from(max) * page), progress: u64::from(max) });
        // Some of those that were seen end, and others take their places.
        let seen: Vec<u32> = family.last.lock().progress.last.keys().map(|(pid, _)| *pid).collect();
        for pid in seen.iter().filter(|pid| **pid != PROGRAM).take(40) {
            fs::remove_dir_all(proc.path().join(pid.to_string())).unwrap();
        }
        family.measure_while(&|| true);
        assert_eq!(family.measure_while(&|| true), first);
        process(proc.path(), PROGRAM, KEEPER, 4);
        assert_eq!(family.measure_while(&|| true).progress, first.progress + 3);
    }

    #[test]
    fn a_look_that_is_cut_short_lowers_nothing_and_the_next_one_sees_all_again() {
        let proc = tempfile::tempdir().unwrap();
        let family = family(proc.path(), 20);
        let whole = family.measure_while(&|| true);
        assert_eq!(whole.progress, 21);
        for looks in [0_u32, 1, 10, 23, 30] {
            let left = std::cell::Cell::new(looks);
            let has_time = || left.replace(left.get().saturating_sub(1)) > 0;
            assert_eq!(family.measure_while(&has_time), whole, "{looks}");
            assert_eq!(family.measure_while(&|| true), whole, "{looks}");
        }
    }
}
