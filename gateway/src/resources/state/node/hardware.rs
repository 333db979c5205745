//! What the node's machine can do, as `hardware` of `/state/node`.

use std::collections::BTreeSet;

use arw_actors::hardware::{Cpu, Gpu, GpuBackend, Hardware, Memory};
use serde::Serialize;
use utoipa::ToSchema;

/// What the machine can do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HardwareRow<'a> {
    /// `linux`, `macos`, `windows`.
    os: &'a str,
    /// The distribution or release, in the system's own words.
    os_name: Option<&'a str>,
    /// The kernel's release.
    kernel: Option<&'a str>,
    /// `x86_64`, `aarch64`.
    arch: &'a str,
    cpu: ProcessorRow<'a>,
    memory: MainMemoryRow,
    /// The graphics cards that a model could use, those with their own driver's figures first.
    gpus: Vec<GraphicsCardRow<'a>>,
    /// What is to be said about graphics cards: above all why none was found.
    gpu_notes: &'a [String],
    /// The kernel's Landlock ABI; `null` when it has none.
    landlock_abi: Option<u32>,
    /// What could not be read, in words.
    notes: &'a [String],
}

/// A processor.
#[derive(Debug, Serialize, ToSchema)]
struct ProcessorRow<'a> {
    /// For example `AuthenticAMD`.
    vendor: Option<&'a str>,
    /// For example `AMD EPYC 7763`.
    brand: Option<&'a str>,
    /// By the kernel's names, with the customary ones where the kernel's are odd (`sse3`, `lzcnt`, `neon`).
    #[schema(value_type = Vec<String>)]
    features: &'a BTreeSet<String>,
    /// Cores; a core may run several threads at once.
    physical_cores: u64,
    /// Hardware threads.
    logical_cores: u64,
    /// Hardware threads that the node may use: affinity and the quota of containers considered.
    usable_cores: u64,
}

/// Main memory.
#[derive(Debug, Serialize, ToSchema)]
struct MainMemoryRow {
    /// What the machine has; 0 when it could not be read.
    total_bytes: u64,
    /// What the kernel would give to a new program without swapping.
    available_bytes: u64,
    /// Of that, what programs have mapped from files and use.
    mapped_bytes: u64,
    /// The tightest limit that a container or service manager has set on the node, if it is below the total.
    limit_bytes: Option<u64>,
    /// How much of that limit is taken by what cannot be given back at once.
    limit_used_bytes: Option<u64>,
}

/// A graphics card.
#[derive(Debug, Serialize, ToSchema)]
struct GraphicsCardRow<'a> {
    /// Stays the same over restarts.
    id: &'a str,
    /// `nvidia`, `amd`, `intel`.
    vendor: &'a str,
    name: &'a str,
    /// Where the figures come from: `nvml` or `sysfs`.
    backend: &'static str,
    /// `domain:bus:device.function`.
    pci_address: Option<&'a str>,
    /// Its own memory; `null` when it has none or does not say.
    vram_total_bytes: Option<u64>,
    vram_free_bytes: Option<u64>,
    driver_version: Option<&'a str>,
    /// What code it runs: `9.0` (CUDA), `gfx1100` (ROCm).
    compute_capability: Option<&'a str>,
    utilization_percent: Option<u32>,
    /// What is to be said about this card.
    notes: &'a [String],
}

impl<'a> HardwareRow<'a> {
    pub(super) fn of(it: &'a Hardware) -> Self {
        Self {
            os: &it.os,
            os_name: it.os_name.as_deref(),
            kernel: it.kernel.as_deref(),
            arch: &it.arch,
            cpu: ProcessorRow::of(&it.cpu),
            memory: MainMemoryRow::of(&it.memory),
            gpus: it.gpus.iter().map(GraphicsCardRow::of).collect(),
            gpu_notes: &it.gpu_notes,
            landlock_abi: it.landlock_abi,
            notes: &it.notes,
        }
    }
}

impl<'a> ProcessorRow<'a> {
    fn of(it: &'a Cpu) -> Self {
        let Cpu { vendor, brand, features, physical_cores, logical_cores, usable_cores } = it;
        Self {
            vendor: vendor.as_deref(),
            brand: brand.as_deref(),
            features,
            physical_cores: *physical_cores,
            logical_cores: *logical_cores,
            usable_cores: *usable_cores,
        }
    }
}

impl MainMemoryRow {
    fn of(it: &Memory) -> Self {
        let Memory { total_bytes, available_bytes, mapped_bytes, limit_bytes, limit_used_bytes } = it.clone();
        Self { total_bytes, available_bytes, mapped_bytes, limit_bytes, limit_used_bytes }
    }
}

impl<'a> GraphicsCardRow<'a> {
    fn of(it: &'a Gpu) -> Self {
        Self {
            id: &it.id,
            vendor: &it.vendor,
            name: &it.name,
            backend: match it.backend {
                GpuBackend::Nvml => "nvml",
                GpuBackend::Sysfs => "sysfs",
            },
            pci_address: it.pci_address.as_deref(),
            vram_total_bytes: it.vram_total_bytes,
            vram_free_bytes: it.vram_free_bytes,
            driver_version: it.driver_version.as_deref(),
            compute_capability: it.compute_capability.as_deref(),
            utilization_percent: it.utilization_percent,
            notes: &it.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use arw_actors::hardware::{HardwareSources, probe};
    use serde_json::{Value, json};

    use super::*;

    fn keys(value: &Value) -> String {
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_form_under_node_hardware_does_not_drift() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("class/drm/card0/device");
        std::fs::create_dir_all(&device).unwrap();
        for (name, content) in [
            ("vendor", "0x1002\n"),
            ("device", "0x744c\n"),
            ("uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n"),
            ("mem_info_vram_total", "25753026560\n"),
            ("mem_info_vram_used", "1753026560\n"),
            ("gpu_busy_percent", "17\n"),
        ] {
            std::fs::write(device.join(name), content).unwrap();
        }
        let nvml_library = Some("/nowhere/libnvidia-ml.so.1".into());
        let sources = HardwareSources {
            sysfs_root: folder.path().to_owned(),
            nvml_library,
            ..HardwareSources::system()
        };
        let hardware = probe(&sources);
        let json = serde_json::to_value(HardwareRow::of(&hardware)).unwrap();
        assert_eq!(keys(&json), "arch cpu gpu_notes gpus kernel landlock_abi memory notes os os_name");
        assert_eq!(keys(&json["cpu"]), "brand features logical_cores physical_cores usable_cores vendor");
        let memory = "available_bytes limit_bytes limit_used_bytes mapped_bytes total_bytes";
        assert_eq!(keys(&json["memory"]), memory);
        let card = &json["gpus"][0];
        let members = "backend compute_capability driver_version id name notes pci_address \
            utilization_percent vendor vram_free_bytes vram_total_bytes";
        assert_eq!(keys(card), members);
        assert_eq!(
            (&card["backend"], &card["vram_free_bytes"]),
            (&json!("sysfs"), &json!(24_000_000_000_u64))
        );
    }
}
