//! The main memory.
//!
//! Owns how much there is and how much of it a model could take. Refuses to know what models need.

use super::HardwareSources;
use super::cgroup::Cgroup;
use super::text_file;

/// The main memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has; 0 when it could not be read.
    pub total_bytes: u64,
    /// What the kernel would give to a new program without swapping.
    pub available_bytes: u64,
    /// Of that, what programs have mapped from files and use: model servers map their weights, and the kernel
    /// counts them as available.
    pub mapped_bytes: u64,
    /// The tightest limit that a container or service manager has set on this process, if it is below the
    /// total.
    pub limit_bytes: Option<u64>,
    /// How much of that limit is taken by what cannot be given back at once.
    pub limit_used_bytes: Option<u64>,
}

impl Memory {
    /// How much a new model may take: what is available without taking mapped files away from programs that
    /// run, and within the limit. What running model servers hold is not in it; what one that is just loading
    /// will still take is.
    ///
    /// ```
    /// use arw_actors::hardware::Memory;
    /// let mut memory = Memory { total_bytes: 1000, available_bytes: 800, mapped_bytes: 100, ..Memory::default() };
    /// assert_eq!(memory.free_for_models(), 700);
    /// memory.limit_bytes = Some(500);
    /// memory.limit_used_bytes = Some(300);
    /// assert_eq!(memory.free_for_models(), 200);
    /// ```
    #[must_use]
    pub fn free_for_models(&self) -> u64 {
        let free = self.available_bytes.saturating_sub(self.mapped_bytes);
        match self.limit_bytes {
            Some(limit) => free.min(limit.saturating_sub(self.limit_used_bytes.unwrap_or(0))),
            None => free,
        }
    }
}

pub(super) fn read(sources: &HardwareSources, cgroup: &Cgroup, notes: &mut Vec<String>) -> Memory {
    let mut memory = if cfg!(target_os = "linux") {
        match text_file::table(&sources.proc_root.join("meminfo")) {
            Ok(text) => parse(&text, notes),
            Err(why) => {
                notes.push(format!("the machine's memory is unknown: {why}"));
                Memory::default()
            }
        }
    } else {
        portable(notes)
    };
    let limit =
        cgroup.memory_limit().filter(|l| memory.total_bytes == 0 || l.limit_bytes < memory.total_bytes);
    memory.limit_bytes = limit.map(|l| l.limit_bytes);
    memory.limit_used_bytes = limit.map(|l| l.used_bytes);
    memory
}

/// Memory that this process holds, in bytes; `None` where the system does not tell.
#[must_use]
pub fn own_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Lines are `Name:   123 kB`.
fn parse(meminfo: &str, notes: &mut Vec<String>) -> Memory {
    let bytes = |name: &str| {
        meminfo.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix("kB")?;
            value.trim().parse::<u64>().ok()?.checked_mul(1024)
        })
    };
    let Some(total_bytes) = bytes("MemTotal") else {
        notes.push("the machine's memory is unknown: meminfo has no MemTotal in kB".to_owned());
        return Memory::default();
    };
    let available_bytes = bytes("MemAvailable").unwrap_or_else(|| {
        notes.push("available memory is an estimate: meminfo has no MemAvailable".to_owned());
        ["MemFree", "Buffers", "Cached"].into_iter().filter_map(bytes).fold(0, u64::saturating_add)
    });
    // Shared memory is mapped too, but was never counted as available.
    let mapped = bytes("Mapped").unwrap_or(0).saturating_sub(bytes("Shmem").unwrap_or(0));
    Memory {
        total_bytes,
        available_bytes: available_bytes.min(total_bytes),
        mapped_bytes: mapped,
        limit_bytes: None,
        limit_used_bytes: None,
    }
}

/// For systems without `procfs`.
fn portable(notes: &mut Vec<String>) -> Memory {
    let ram = sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
    match sysinfo::System::new_with_specifics(ram) {
        Ok(system) => Memory {
            total_bytes: system.total_memory(),
            available_bytes: system.available_memory(),
            ..Memory::default()
        },
        Err(e) => {
            notes.push(format!("the machine's memory is unknown: {e}"));
            Memory::default()
        }
    }
}
