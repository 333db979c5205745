//! What a program and everything that it has started hold and do together.
//!
//! Owns the sums: an engine behind a start script is a child of the script, or nobody's child but its keeper's. Refuses to know what
//! they are for.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::procfs::Procfs;

/// A program and its descendants.
#[derive(Debug)]
pub(super) struct Family {
    procfs: Procfs,
    program: u32,
    /// Adopts what the program's own children leave behind; it is none of the family itself.
    keeper: Option<u32>,
    progress: Mutex<Progress>,
}

impl Family {
    pub(super) fn new(procfs: Procfs, program: u32, keeper: Option<u32>) -> Self {
        Self { procfs, program, keeper, progress: Mutex::default() }
    }

    /// Memory of all of them. Pages that no file backs are each process's own; of files that several map, such as a model, each holds the same
    /// pages, so the largest share counts once.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let held: Vec<_> = self.pids().into_iter().filter_map(|pid| self.procfs.memory(pid)).collect();
        let shared = held.iter().map(|memory| memory.shared_bytes).max()?;
        Some(held.iter().map(|memory| memory.own_bytes).sum::<u64>() + shared)
    }

    /// Grows while any of them does anything.
    pub(super) fn progress(&self) -> u64 {
        let pids = self.pids().into_iter();
        let now = pids.filter_map(|pid| {
            let start_time = self.procfs.stat(pid)?.start_time;
            Some(((pid, start_time), self.procfs.progress(pid)))
        });
        self.progress.lock().note(now.collect())
    }

    fn pids(&self) -> Vec<u32> {
        let root = self.keeper.unwrap_or(self.program);
        let mut pids = self.procfs.descendants(root);
        if !pids.contains(&self.program) {
            pids.push(self.program);
        }
        pids
    }
}

/// Number and start time: a number alone may be given to another process.
type Process = (u32, u64);

/// A sum that an ended process does not lower.
#[derive(Debug, Default)]
struct Progress {
    last: BTreeMap<Process, u64>,
    total: u64,
}

impl Progress {
    fn note(&mut self, now: BTreeMap<Process, u64>) -> u64 {
        for (process, counter) in &now {
            let before = self.last.get(process).copied().unwrap_or(0);
            self.total += counter.saturating_sub(before);
        }
        self.last = now;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_takes_no_progress_back_and_a_new_one_adds_its_own() {
        let mut progress = Progress::default();
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 10), ((2, 6), 100)])), 110);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11)])), 111);
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11)])), 111);
        // The number 2 again, for another process.
        assert_eq!(progress.note(BTreeMap::from([((1, 5), 11), ((2, 9), 3)])), 114);
    }
}
