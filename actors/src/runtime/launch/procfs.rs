//! What the kernel tells about processes, read from `/proc`.
//!
//! Owns the parsing. Refuses to end anything and to guess: what cannot be read is `None`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{keeper, shim};

/// The fields of `/proc/PID/stat` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) state: char,
    /// Clock ticks after boot: with the pid and the boot id it names a process for all time.
    pub(super) start_time: u64,
    minor_faults: u64,
    major_faults: u64,
    cpu_ticks: u64,
}

/// Processes that descend from one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Descendants {
    /// Nearest first, at most [`DESCENDANTS_MAX`].
    pub(super) pids: Vec<u32>,
    /// There are no others.
    pub(super) is_whole: bool,
}

/// More processes than any engine has; a program that forks without end must not hold the node up.
pub(super) const DESCENDANTS_MAX: usize = 256;

/// Memory of one process that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Backed by no file.
    pub(super) own_bytes: u64,
    /// Of files and shared memory, which others may hold as well.
    pub(super) shared_bytes: u64,
}

/// A `/proc` folder. Tests use one of their own.
#[derive(Clone, Debug)]
pub(super) struct Procfs {
    root: PathBuf,
}

impl Default for Procfs {
    fn default() -> Self {
        Self { root: "/proc".into() }
    }
}

impl Procfs {
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&fs::read_to_string(self.of(pid, "stat")).ok()?)
    }

    /// The value of a variable in a process's environment as it was when it started.
    pub(super) fn variable(&self, pid: u32, name: &str) -> Option<String> {
        let environment = fs::read(self.of(pid, "environ")).ok()?;
        let mut found = environment.split(|b| *b == 0).filter_map(|entry| {
            entry
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
                .map(|v| String::from_utf8_lossy(v).into_owned())
        });
        found.next()
    }

    pub(super) fn arguments(&self, pid: u32) -> Vec<String> {
        let line = fs::read(self.of(pid, "cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
    }

    /// Whether a process is a keeper, of whichever node, or a shim, which is not a program yet.
    pub(super) fn is_keeper(&self, pid: u32) -> bool {
        let arguments = self.arguments(pid);
        arguments
            .get(1)
            .is_some_and(|first| [keeper::FIRST_ARGUMENT, shim::FIRST_ARGUMENT].contains(&first.as_str()))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Children of `parent`, zombies included.
    pub(super) fn children(&self, parent: u32) -> Vec<u32> {
        self.listed_children(parent)
            .unwrap_or_else(|| self.by_parent(&|| true).0.remove(&parent).unwrap_or_default())
    }

    /// `None`: this kernel keeps no such list (CONFIG_PROC_CHILDREN).
    fn listed_children(&self, parent: u32) -> Option<Vec<u32>> {
        // A process that is gone has no children.
        let Ok(tasks) = fs::read_dir(self.of(parent, "task")) else { return Some(Vec::new()) };
        let mut children = None;
        for task in tasks.flatten() {
            if let Ok(text) = fs::read_to_string(task.path().join("children")) {
                let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
                children.get_or_insert_with(Vec::new).extend(pids);
            }
        }
        children
    }

    /// The children of every process, by one look at each, and whether there was time for all.
    fn by_parent(&self, has_time: &dyn Fn() -> bool) -> (BTreeMap<u32, Vec<u32>>, bool) {
        let mut children = BTreeMap::<u32, Vec<u32>>::new();
        for pid in self.pids() {
            if !has_time() {
                return (children, false);
            }
            if let Some(stat) = self.stat(pid) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        (children, true)
    }

    /// All that descends from `root`, as far as there is time to look.
    pub(super) fn descendants(&self, root: u32, has_time: &dyn Fn() -> bool) -> Descendants {
        if let Some(first) = self.listed_children(root) {
            return collect(root, first, |pid| self.listed_children(pid).unwrap_or_default(), has_time);
        }
        let (mut by_parent, all_seen) = self.by_parent(has_time);
        let mut children = |pid| by_parent.remove(&pid).unwrap_or_default();
        // What was read is followed without another look.
        let found = collect(root, children(root), children, &|| true);
        Descendants { is_whole: found.is_whole && all_seen, ..found }
    }

    pub(super) fn memory(&self, pid: u32) -> Option<Memory> {
        let text = fs::read_to_string(self.of(pid, "statm")).ok()?;
        let mut pages = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        let page = rustix::param::page_size() as u64;
        Some(Memory { own_bytes: resident.saturating_sub(shared) * page, shared_bytes: shared * page })
    }

    /// Grows while the process uses the CPU, touches memory or reads and writes. `stat`: read just now.
    pub(super) fn progress(&self, pid: u32, stat: &Stat) -> u64 {
        // Readable only for processes that we could also debug: one more reason to count three things.
        let io = fs::read_to_string(self.of(pid, "io")).unwrap_or_default();
        let field = |name: &str| {
            io.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let work = stat.cpu_ticks + stat.minor_faults + stat.major_faults;
        work + (field("rchar:") + field("wchar:")) / 4096
    }

    /// Clock ticks since boot, to compare with [`Stat::start_time`].
    pub(super) fn uptime_ticks(&self) -> Option<u64> {
        let text = fs::read_to_string(self.root.join("uptime")).ok()?;
        let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(seconds.parse::<u64>().ok()? * per_second + hundredths.parse::<u64>().ok()? * per_second / 100)
    }

    /// Changes with every boot: a pid from before it means nothing.
    pub(super) fn boot_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("sys/kernel/random/boot_id")).ok()?;
        Some(text.trim().to_owned())
    }

    /// How often the kernel has killed for memory since boot.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.root.join("vmstat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// This process's id as this `/proc` counts: inside a pid namespace it differs from what `getpid` says.
    pub(super) fn own_pid(&self) -> Option<u32> {
        fs::read_link(self.root.join("self")).ok()?.to_str()?.parse().ok()
    }

    fn of(&self, pid: u32, file: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(file)
    }
}

/// Follows `children` from `root`, whose own are `first`.
fn collect(
    root: u32,
    first: Vec<u32>,
    mut children: impl FnMut(u32) -> Vec<u32>,
    has_time: &dyn Fn() -> bool,
) -> Descendants {
    let mut pids = first;
    let mut next = 0;
    while next < pids.len() && pids.len() <= DESCENDANTS_MAX && has_time() {
        // A number that was given away in between could lead back.
        let new: Vec<u32> =
            children(pids[next]).into_iter().filter(|pid| *pid != root && !pids.contains(pid)).collect();
        pids.extend(new);
        next += 1;
    }
    let is_whole = next == pids.len() && pids.len() <= DESCENDANTS_MAX;
    pids.truncate(DESCENDANTS_MAX);
    Descendants { pids, is_whole }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold anything, parentheses and spaces included.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // Fields count from 1 and the first one here is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(field(4)?).ok()?,
        minor_faults: field(10)?,
        major_faults: field(12)?,
        // Own and reaped children's, user and system.
        cpu_ticks: field(14)? + field(15)? + field(16)? + field(17)?,
        start_time: field(22)?,
    })
}

/// Whether a path is there, without following a last symbolic link.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trap() {
        let line = "42 (a) S (b)) R 7 42 42 0 -1 4194560 100 0 3 0 11 13 0 0 20 0 1 0 98765 1 2 3";
        let expected = Stat {
            parent: 7,
            state: 'R',
            start_time: 98765,
            minor_faults: 100,
            major_faults: 3,
            cpu_ticks: 24,
        };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("42 (x) R"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let procfs = Procfs::default();
        let pid = std::process::id();
        assert_eq!(procfs.own_pid(), Some(pid));
        let stat = procfs.stat(pid).unwrap();
        assert!(stat.start_time > 0 && procfs.children(stat.parent).contains(&pid));
        let memory = procfs.memory(pid).unwrap();
        assert!(memory.own_bytes > 10_000 && memory.shared_bytes > 10_000, "{memory:?}");
        assert!(procfs.descendants(stat.parent, &|| true).pids.contains(&pid));
        assert!(procfs.progress(pid, &stat) > 0);
        assert!(procfs.uptime_ticks().unwrap() >= stat.start_time);
        assert!(procfs.boot_id().is_some() && procfs.oom_kills().is_some());
        assert_eq!(procfs.variable(pid, "PATH"), std::env::var("PATH").ok());
    }

    #[test]
    fn a_process_that_is_gone_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = Procfs::at(folder.path());
        assert_eq!((procfs.stat(1), procfs.memory(1)), (None, None));
        assert!(procfs.pids().is_empty() && procfs.children(1).is_empty());
    }

    #[test]
    fn descendants_are_the_same_with_and_without_lists_of_children() {
        let pairs = [(10, 1), (11, 10), (12, 10), (13, 12), (20, 1)];
        for listed in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            for (pid, parent) in pairs {
                let tasks = folder.path().join(format!("{pid}/task/{pid}"));
                fs::create_dir_all(&tasks).unwrap();
                let zeros = "0 ".repeat(17);
                fs::write(
                    folder.path().join(format!("{pid}/stat")),
                    format!("{pid} (x) S {parent} {zeros}7"),
                )
                .unwrap();
                let children = pairs.iter().filter(|(_, of)| *of == pid);
                let children: Vec<_> = children.map(|(child, _)| child.to_string()).collect();
                if listed {
                    fs::write(tasks.join("children"), children.join(" ")).unwrap();
                }
            }
            let procfs = Procfs::at(folder.path());
            let whole = procfs.descendants(10, &|| true);
            assert_eq!(whole, Descendants { pids: whole.pids.clone(), is_whole: true });
            let mut pids = whole.pids;
            pids.sort_unstable();
            assert_eq!(pids, [11, 12, 13], "{listed}");
            assert!(!procfs.descendants(10, &|| false).is_whole, "{listed}");
        }
    }
}
