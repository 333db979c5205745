//! Graphics cards, as every driver's figures are put together.
//!
//! Owns the form of a card and the joining of what two sources say about the same one. Refuses to read
//! anything.

use std::path::PathBuf;

use super::nvml::NvmlSession;
use super::sysfs_gpu;

/// One graphics card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Stays the same over restarts: the driver's own id, else made of maker and PCI address.
    pub id: String,
    /// `nvidia`, `amd`, `intel`.
    pub vendor: String,
    /// For people.
    pub name: String,
    /// Where the figures come from.
    pub backend: GpuBackend,
    /// `domain:bus:device.function`, for example `0000:01:00.0`.
    pub pci_address: Option<String>,
    /// Its own memory; `None` when it has none or does not say.
    pub vram_total_bytes: Option<u64>,
    /// How much of it is free now.
    pub vram_free_bytes: Option<u64>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// What code it runs: `9.0` (CUDA), `gfx1100` (ROCm).
    pub compute_capability: Option<String>,
    /// How busy it is now.
    pub utilization_percent: Option<u32>,
    /// What is to be said about this card.
    pub notes: Vec<String>,
    pub(super) source: GpuSource,
}

/// Where a card's figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// NVIDIA's management library.
    Nvml,
    /// The kernel's driver.
    Sysfs,
}

/// How to ask a card again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GpuSource {
    /// By its number in the open session.
    Nvml { index: u32 },
    /// By the folder of its device.
    Sysfs { device: PathBuf },
}

/// What changes all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GpuLoad {
    pub(super) vram_free_bytes: Option<u64>,
    pub(super) utilization_percent: Option<u32>,
}

/// What one source found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) gpus: Vec<Gpu>,
    /// Why there are not more.
    pub(super) notes: Vec<String>,
}

impl Gpu {
    /// Asks for free memory and load again.
    pub(super) fn refresh(&mut self, nvml: Option<&NvmlSession>) {
        let load = match (&self.source, nvml) {
            (GpuSource::Nvml { index }, Some(nvml)) => nvml.load(*index),
            (GpuSource::Nvml { .. }, None) => Err("the NVML session has ended".to_owned()),
            (GpuSource::Sysfs { device }, _) => Ok(sysfs_gpu::load(device)),
        };
        // One note at most, and none when it answers again.
        self.notes.retain(|note| !note.starts_with(NO_ANSWER));
        let load = load.unwrap_or_else(|why| {
            self.notes.push(format!("{NO_ANSWER}: {why}"));
            GpuLoad::default()
        });
        self.vram_free_bytes = load.vram_free_bytes;
        self.utilization_percent = load.utilization_percent;
    }
}

const NO_ANSWER: &str = "the card does not answer";

/// Joins what NVML and the kernel found: NVML's figures win where both have the card.
pub(super) fn merge(nvml: Found, sysfs: Found) -> (Vec<Gpu>, Vec<String>) {
    let mut gpus = nvml.gpus;
    let mut notes = nvml.notes;
    for mut gpu in sysfs.gpus {
        // Known to NVML, or another node of a device that the kernel has named already.
        let known = gpus.iter().any(|g| g.pci_address.is_some() && g.pci_address == gpu.pci_address);
        if known {
            continue;
        }
        if gpu.vendor == "nvidia" {
            let why = notes.first().map_or("NVML does not list it", String::as_str);
            gpu.notes.push(format!("its memory is unknown without NVIDIA's driver: {why}"));
        }
        gpus.push(gpu);
    }
    notes.extend(sysfs.notes);
    if gpus.is_empty() {
        notes = vec![format!("no GPU found: {}", notes.join("; "))];
    }
    (gpus, notes)
}

/// One spelling for PCI addresses: NVML writes the domain with eight digits, the kernel with four.
pub(super) fn pci_address(text: &str) -> Option<String> {
    let (domain, rest) = text.trim().split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
    Some(format!("{:04x}:{:02x}:{:02x}.{:x}", hex(domain)?, hex(bus)?, hex(device)?, hex(function)?))
}
