//! The limits that a container or service manager has set on this process.
//!
//! Owns where control groups of both versions keep limits. Refuses to know what the machine has.
//!
//! A process in a container often sees the path of its group as the host names it, while its file system
//! shows only the group itself as the root. So every level from the path up to the root is looked at, those
//! that are missing are skipped, and the tightest limit counts: limits of outer groups bind too.

use std::path::{Component, Path, PathBuf};

use super::HardwareSources;
use super::text_file;

/// Version 1 writes "no limit" as the largest multiple of a page below 2^63.
const NO_LIMIT: u64 = 1 << 62;

/// Deeper than any real hierarchy; a path that claims more is not followed further.
const LEVELS_MAX: usize = 64;

/// The folders of this process's control groups, from the innermost outwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroup {
    memory: Vec<Level>,
    cpu: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    V1(PathBuf),
    V2(PathBuf),
}

/// A limit on memory and how much of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryLimit {
    pub(super) limit_bytes: u64,
    /// What cannot be taken back: without the page cache of files that nobody has mapped.
    pub(super) used_bytes: u64,
}

impl Cgroup {
    pub(super) fn of_this_process(sources: &HardwareSources, notes: &mut Vec<String>) -> Self {
        if !cfg!(target_os = "linux") {
            return Self::default();
        }
        let groups = match text_file::table(&sources.proc_root.join("self/cgroup")) {
            Ok(groups) => groups,
            Err(why) => {
                notes.push(format!("limits of this process are unknown: {why}"));
                return Self::default();
            }
        };
        Self::parse(&groups, &sources.sysfs_root.join("fs/cgroup"))
    }

    /// Lines are `number:controllers:path`; version 2 has number 0 and no controllers.
    fn parse(groups: &str, mount: &Path) -> Self {
        let mut found = Self::default();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                // Beside version 1 the second version has a folder of its own.
                let unified = mount.join("unified");
                let root = if unified.is_dir() { unified } else { mount.to_owned() };
                found.memory.extend(levels(&root, path).map(Level::V2));
                found.cpu.extend(levels(&root, path).map(Level::V2));
            }
            for controller in controllers.split(',') {
                match controller {
                    "memory" => found.memory.extend(levels(&mount.join("memory"), path).map(Level::V1)),
                    // The folder has the name of all controllers on it; `cpu` is a link to it, if somebody
                    // made it.
                    "cpu" => {
                        let both = mount.join(controllers);
                        let root = if both.is_dir() { both } else { mount.join("cpu") };
                        found.cpu.extend(levels(&root, path).map(Level::V1));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// The limit that leaves the least.
    pub(super) fn memory_limit(&self) -> Option<MemoryLimit> {
        let limits = self.memory.iter().filter_map(Level::memory_limit);
        limits.min_by_key(|l| l.limit_bytes.saturating_sub(l.used_bytes))
    }

    /// How many processors' worth of time the tightest quota allows, rounded down: model servers spin, and
    /// one thread too many makes the kernel stop all of them.
    pub(super) fn cpu_quota_cores(&self) -> Option<u64> {
        self.cpu.iter().filter_map(Level::cpu_quota_cores).min()
    }
}

/// `root` joined with `path` and with each of its parents, innermost first.
fn levels(root: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let mut inner: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inner.extend(name.to_str()),
            Component::RootDir | Component::CurDir => {}
            // Outside of what this process may see: only the root remains.
            Component::ParentDir | Component::Prefix(_) => {
                inner.clear();
                break;
            }
        }
    }
    inner.truncate(LEVELS_MAX);
    let all: Vec<PathBuf> =
        (0..=inner.len()).rev().map(|n| root.join(inner.iter().take(n).collect::<PathBuf>())).collect();
    all.into_iter()
}

impl Level {
    fn memory_limit(&self) -> Option<MemoryLimit> {
        let (limit_bytes, usage, stat) = match self {
            Level::V2(folder) => {
                // Over `high` the kernel slows a group down until it seems to hang: as good as a limit.
                let limits = ["memory.max", "memory.high"].map(|f| text_file::number(&folder.join(f)).ok());
                let limit = limits.into_iter().flatten().min()?;
                (limit, text_file::number(&folder.join("memory.current")), folder.join("memory.stat"))
            }
            Level::V1(folder) => {
                let limit = text_file::number(&folder.join("memory.limit_in_bytes")).ok()?;
                (limit, text_file::number(&folder.join("memory.usage_in_bytes")), folder.join("memory.stat"))
            }
        };
        if limit_bytes >= NO_LIMIT {
            return None;
        }
        let reclaimable = text_file::table(&stat).map_or(0, |stat| reclaimable(&stat));
        Some(MemoryLimit { limit_bytes, used_bytes: usage.unwrap_or(0).saturating_sub(reclaimable) })
    }

    fn cpu_quota_cores(&self) -> Option<u64> {
        let (quota, period) = match self {
            Level::V2(folder) => {
                let text = text_file::line(&folder.join("cpu.max")).ok()?;
                let (quota, period) = text.split_once(' ').unwrap_or((&text, "100000"));
                (quota.parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?)
            }
            Level::V1(folder) => (
                // -1 means none, and is no number here.
                text_file::number(&folder.join("cpu.cfs_quota_us")).ok()?,
                text_file::number(&folder.join("cpu.cfs_period_us")).ok()?,
            ),
        };
        quota.checked_div(period)
    }
}

/// Page cache that the kernel gives back at once: of files that are not mapped. A model server maps its
/// model, and taking that away would make it read from disk for every token.
fn reclaimable(stat: &str) -> u64 {
    let value = |key: &str| {
        stat.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    // Version 1 counts a group alone under the plain names and its whole subtree under `total_`.
    let of = |key: &str| value(&format!("total_{key}")).or_else(|| value(key)).unwrap_or(0);
    let mapped = value("total_mapped_file").or_else(|| value("file_mapped")).or_else(|| value("mapped_file"));
    of("inactive_file").saturating_add(of("active_file")).saturating_sub(mapped.unwrap_or(0))
}
