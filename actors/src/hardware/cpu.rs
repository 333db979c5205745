//! The processor: what it is, what it can do, how much of it is ours.
//!
//! Owns the names of processor features and their comparison. Refuses to know which program needs which.

use std::collections::BTreeSet;
use std::fs;

use super::HardwareSources;
use super::cgroup::Cgroup;
use super::text_file;

/// The processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// For example `AuthenticAMD`.
    pub vendor: Option<String>,
    /// For example `AMD EPYC 7763`.
    pub brand: Option<String>,
    /// Features by the kernel's names, with the customary ones where the kernel's are odd (`sse3`, `lzcnt`,
    /// `neon`).
    pub features: BTreeSet<String>,
    /// Cores; a core may run several threads at once.
    pub physical_cores: u64,
    /// Hardware threads.
    pub logical_cores: u64,
    /// Hardware threads that this process may use: affinity and the quota of containers considered, at least
    /// 1.
    pub usable_cores: u64,
}

/// Which of the `required` features are missing among those that a machine has. Spelling does not matter:
/// `AVX512_VBMI`, `avx512vbmi` and `avx-512-vbmi` are the same, and so are `sse4.1` and `sse4_1`.
///
/// ```
/// use std::collections::BTreeSet;
/// use arw_actors::hardware::cpu_missing;
/// let have = BTreeSet::from(["avx2".to_owned(), "avx512f".to_owned()]);
/// assert_eq!(cpu_missing(&["AVX2", "AVX512", "AMX_TILE"], &have), ["AMX_TILE"]);
/// ```
#[must_use]
pub fn cpu_missing(required: &[&str], have: &BTreeSet<String>) -> Vec<String> {
    let have: BTreeSet<String> = have.iter().map(|name| comparable(name)).collect();
    required.iter().filter(|name| !have.contains(&comparable(name))).map(|name| (*name).to_owned()).collect()
}

/// One spelling for each feature, of all those used by the kernel, compilers, and llama.cpp's `system_info`
/// line.
fn comparable(name: &str) -> String {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "pni" => "sse3",
        "abm" => "lzcnt",
        "avx512" => "avx512f",
        "asimd" | "advsimd" => "neon",
        "asimddp" => "dotprod",
        "asimdhp" | "fp16va" => "fp16",
        "matmulint8" => "i8mm",
        // fma on ARM has been part of every NEON since AArch64.
        "armfma" => "neon",
        other => other,
    }
    .to_owned()
}

pub(super) fn read(sources: &HardwareSources, cgroup: &Cgroup, notes: &mut Vec<String>) -> Cpu {
    let mut cpu = if cfg!(target_os = "linux") {
        match text_file::table(&sources.proc_root.join("cpuinfo")) {
            Ok(text) => parse(&text),
            Err(why) => {
                notes.push(format!("the processor is unknown: {why}"));
                Cpu::default()
            }
        }
    } else {
        portable(notes)
    };
    if cpu.features.is_empty() {
        cpu.features = detected_features();
        let detected =
            if cpu.features.is_empty() { "are unknown" } else { "are those that this program asks for" };
        notes.push(format!("the kernel names no processor features: those shown {detected}"));
    }
    if cpu.logical_cores == 0 {
        cpu.logical_cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    }
    if cpu.physical_cores == 0 {
        cpu.physical_cores = cores_by_topology(sources).unwrap_or(cpu.logical_cores);
    }
    let allowed = allowed_by_affinity(sources).unwrap_or(cpu.logical_cores);
    let quota = cgroup.cpu_quota_cores().unwrap_or(u64::MAX);
    cpu.usable_cores = cpu.logical_cores.min(allowed).min(quota).max(1);
    cpu
}

/// Blocks of `name : value` lines, one per hardware thread.
fn parse(cpuinfo: &str) -> Cpu {
    let mut cpu = Cpu::default();
    let mut cores = BTreeSet::new();
    let mut package = "";
    for line in cpuinfo.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim() {
            "processor" if value.parse::<u64>().is_ok() => cpu.logical_cores += 1,
            "physical id" => package = value,
            "core id" => drop(cores.insert((package, value))),
            "vendor_id" => keep_first(&mut cpu.vendor, value),
            "CPU implementer" => keep_first(&mut cpu.vendor, implementer(value)),
            "model name" => keep_first(&mut cpu.brand, value),
            // All threads of a machine have the same.
            "flags" | "Features" if cpu.features.is_empty() => {
                cpu.features = value.split_ascii_whitespace().map(customary).collect();
            }
            _ => {}
        }
    }
    cpu.physical_cores = cores.len() as u64;
    cpu
}

fn keep_first(field: &mut Option<String>, value: &str) {
    if field.is_none() && !value.is_empty() {
        *field = Some(text_file::shown(value));
    }
}

/// The kernel's name of a feature, or the one by which everybody else knows it.
fn customary(flag: &str) -> String {
    match flag {
        "pni" => "sse3".to_owned(),
        "abm" => "lzcnt".to_owned(),
        "asimd" => "neon".to_owned(),
        "asimddp" => "dotprod".to_owned(),
        other => text_file::shown(&other.to_ascii_lowercase()),
    }
}

/// ARM processors give their maker as a number.
fn implementer(number: &str) -> &str {
    match number {
        "0x41" => "ARM",
        "0x42" => "Broadcom",
        "0x43" => "Cavium",
        "0x48" => "HiSilicon",
        "0x4e" => "NVIDIA",
        "0x51" => "Qualcomm",
        "0x53" => "Samsung",
        "0x61" => "Apple",
        "0xc0" => "Ampere",
        other => other,
    }
}

/// Where `cpuinfo` does not number the cores (ARM), the topology does.
fn cores_by_topology(sources: &HardwareSources) -> Option<u64> {
    let entries = fs::read_dir(sources.sysfs_root.join("devices/system/cpu")).ok()?;
    let mut cores = BTreeSet::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_cpu =
            name.to_str().and_then(|n| n.strip_prefix("cpu")).is_some_and(|n| n.parse::<u32>().is_ok());
        let topology = entry.path().join("topology");
        if let (true, Ok(core)) = (is_cpu, text_file::line(&topology.join("core_id"))) {
            cores.insert((text_file::line(&topology.join("physical_package_id")).unwrap_or_default(), core));
        }
    }
    (!cores.is_empty()).then_some(cores.len() as u64)
}

/// How many hardware threads this process may be scheduled on.
fn allowed_by_affinity(sources: &HardwareSources) -> Option<u64> {
    let status = text_file::table(&sources.proc_root.join("self/status")).ok()?;
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
    count_of_list(list.trim())
}

/// The length of a list such as `0-3,8,10-11`.
fn count_of_list(list: &str) -> Option<u64> {
    let mut count = 0_u64;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (count > 0).then_some(count)
}

/// For systems without `procfs`.
fn portable(notes: &mut Vec<String>) -> Cpu {
    let list = sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing());
    let system = match sysinfo::System::new_with_specifics(list) {
        Ok(system) => system,
        Err(e) => {
            notes.push(format!("the processor is unknown: {e}"));
            return Cpu::default();
        }
    };
    let first = system.cpus().first();
    let physical = sysinfo::System::physical_core_count();
    Cpu {
        vendor: first.map(|c| text_file::shown(c.vendor_id())),
        brand: first.map(|c| text_file::shown(c.brand())),
        features: BTreeSet::new(),
        physical_cores: physical.map_or(0, |n| n as u64),
        logical_cores: system.cpus().len() as u64,
        usable_cores: 0,
    }
}

/// What the processor itself answers, for the features that model servers are built with.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn detected_features() -> BTreeSet<String> {
    macro_rules! detected {
        ($($name:tt),*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    let all = detected![
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "popcnt",
        "lzcnt",
        "bmi1",
        "bmi2",
        "f16c",
        "fma",
        "avx",
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vbmi",
        "avx512vnni",
        "avx512bf16"
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.replace('.', "_")).collect()
}

#[cfg(target_arch = "aarch64")]
fn detected_features() -> BTreeSet<String> {
    // NEON is part of the architecture; the kernel names the rest.
    BTreeSet::from(["neon".to_owned()])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn detected_features() -> BTreeSet<String> {
    BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(count_of_list("0"), Some(1));
        assert_eq!(count_of_list("0-3,8,10-11"), Some(7));
        for bad in ["", "a", "3-1", "0-", "0-18446744073709551615,1", "-1"] {
            assert_eq!(count_of_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn features_are_compared_whatever_their_spelling() {
        let have: BTreeSet<String> =
            ["avx2", "avx512f", "avx512vbmi", "avx512_vnni", "sse3", "sse4_1", "lzcnt", "neon", "dotprod"]
                .map(str::to_owned)
                .into();
        let required =
            ["AVX2", "AVX512", "AVX512_VBMI", "avx512vnni", "pni", "SSE4.1", "ABM", "NEON", "ARM_FMA"];
        assert_eq!(cpu_missing(&required, &have), Vec::<String>::new());
        assert_eq!(cpu_missing(&["AMX_INT8", "avx2", "BMI2"], &have), ["AMX_INT8", "BMI2"]);
        assert_eq!(cpu_missing(&[], &BTreeSet::new()), Vec::<String>::new());
    }
}
