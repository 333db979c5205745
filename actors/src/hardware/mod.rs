//! What this machine can do: processor, memory, graphics cards.
//!
//! Owns the probing of the machine and the form in which it is shown under `node.hardware`. Refuses to decide
//! anything by it. Probing never fails and never panics: what cannot be read is left out, and a note says
//! why. Everything here blocks (files of the kernel, a graphics driver): callers run it on a blocking thread.

mod cgroup;
mod cpu;
mod gpu;
mod memory;
mod nvml;
mod sysfs_gpu;
mod text_file;

use std::path::PathBuf;

pub use cpu::{Cpu, cpu_missing};
pub use gpu::{Gpu, GpuBackend};
pub use memory::{Memory, own_resident_bytes};

use nvml::NvmlSession;

/// Where the machine is read from. Tests point it at folders and a library of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareSources {
    /// The kernel's `sysfs`, usually `/sys`.
    pub sysfs_root: PathBuf,
    /// The kernel's `procfs`, usually `/proc`.
    pub proc_root: PathBuf,
    /// NVIDIA's management library; `None` for the one that the system's loader finds.
    pub nvml_library: Option<PathBuf>,
}

impl HardwareSources {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self { sysfs_root: "/sys".into(), proc_root: "/proc".into(), nvml_library: None }
    }
}

/// What this machine can do.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// The distribution or release, in the system's own words.
    pub os_name: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The processor.
    pub cpu: Cpu,
    /// The main memory.
    pub memory: Memory,
    /// The graphics cards that a model could use, those with their own driver's figures first.
    pub gpus: Vec<Gpu>,
    /// What is to be said about graphics cards: above all why none was found.
    pub gpu_notes: Vec<String>,
    /// The kernel's Landlock ABI; `None` when it has none.
    pub landlock_abi: Option<u32>,
    /// What could not be read, in words.
    pub notes: Vec<String>,
    /// Kept open, because opening it takes longer than everything else together.
    nvml: Option<NvmlSession>,
}

/// Reads everything about the machine. Takes milliseconds, or as long as a graphics driver takes to wake up.
///
/// ```
/// use arw_actors::hardware::{HardwareSources, probe};
/// let hardware = probe(&HardwareSources::system());
/// assert!(hardware.cpu.usable_cores >= 1);
/// assert!(!hardware.gpus.is_empty() || hardware.gpu_notes[0].starts_with("no GPU found"));
/// ```
#[must_use]
pub fn probe(sources: &HardwareSources) -> Hardware {
    let mut notes = Vec::new();
    let cgroup = cgroup::Cgroup::of_this_process(sources, &mut notes);
    let cpu = cpu::read(sources, &cgroup, &mut notes);
    let memory = memory::read(sources, &cgroup, &mut notes);
    let kernel = text_file::line(&sources.proc_root.join("sys/kernel/osrelease"));
    let (nvml, nvml_found) = nvml::open(sources.nvml_library.as_deref());
    let (gpus, gpu_notes) = gpu::merge(nvml_found, sysfs_gpu::read(&sources.sysfs_root));
    Hardware {
        os: std::env::consts::OS.to_owned(),
        os_name: sysinfo::System::long_os_version().ok(),
        kernel: kernel.ok().or_else(|| sysinfo::System::kernel_version().ok()),
        arch: std::env::consts::ARCH.to_owned(),
        cpu,
        memory,
        gpus,
        gpu_notes,
        landlock_abi: landlock_abi(),
        notes,
        nvml,
    }
}

/// Brings what changes all the time up to date: memory and its limit, the graphics cards' free memory and
/// load. Takes well under a millisecond without a graphics card, so it may run every second. What cannot be
/// read keeps no old value.
pub fn refresh_memory(hardware: &mut Hardware, sources: &HardwareSources) {
    hardware.memory = read_memory(sources);
    for gpu in &mut hardware.gpus {
        gpu.refresh(hardware.nvml.as_ref());
    }
}

/// Reads how much main memory there is and how much of it is free, without asking any graphics driver.
#[must_use]
pub fn read_memory(sources: &HardwareSources) -> Memory {
    // What is to be said about it was said by the probe; a note per reading would grow without end.
    let mut unsaid = Vec::new();
    let cgroup = cgroup::Cgroup::of_this_process(sources, &mut unsaid);
    memory::read(sources, &cgroup, &mut unsaid)
}

/// Asks the kernel for its Landlock ABI and restricts nothing.
#[cfg(target_os = "linux")]
fn landlock_abi() -> Option<u32> {
    // With nothing requested, `apply` makes no system call but the query for the version, and reports its
    // answer.
    let status = landlock::RestrictSelf::default().no_new_privs(false).apply().ok()?;
    match status.landlock {
        landlock::LandlockStatus::Available { effective_abi, kernel_abi } => {
            u32::try_from(kernel_abi.unwrap_or(effective_abi as i32)).ok()
        }
        landlock::LandlockStatus::NotEnabled | landlock::LandlockStatus::NotImplemented => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn landlock_abi() -> Option<u32> {
    None
}

#[cfg(test)]
mod tests;
