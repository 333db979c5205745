//! The machine that a benchmark runs on.
//!
//! Owns pinning, memory of this process and of others, and a description for the report.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// Pins this thread, and every thread and process it starts from now on, to one core. The core, or `None`
/// where that cannot be done.
pub(crate) fn pin(core: Option<usize>) -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None).ok()?;
        let last = || (0..CpuSet::MAX_CPU).rev().find(|core| allowed.is_set(*core));
        let core = core.or_else(last)?;
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).ok()?;
        Some(core)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        None
    }
}

/// Time for which this thread has run: what other processes took from a shared core does not count. Wall time
/// where there is none.
pub(crate) fn thread_time() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(super::now).elapsed()
    }
}

/// Memory that a process holds now, in bytes: this one's without `pid`.
pub(crate) fn resident_bytes(pid: Option<u32>) -> Option<u64> {
    let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    // In kilobytes; statm counts in pages, whose size would have to be asked for.
    field(&format!("/proc/{who}/status"), "VmRSS:").map(|kilobytes| kilobytes * 1024)
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// What the report says about the machine.
pub(crate) fn describe(pinned: Option<usize>) -> Value {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "cpu": cpu.map_or("unknown", |(_, name)| name),
        // What this process may use is less once it is pinned.
        "cores": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "memory_bytes": field("/proc/meminfo", "MemTotal:").map(|kilobytes| kilobytes * 1024),
        "load_average_1min_at_end": load.split(' ').next().and_then(|text| text.parse::<f64>().ok()),
        "virtual_machine": processors.contains(" hypervisor"),
        "pinned_to_core": pinned,
    })
}
