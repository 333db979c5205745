//! Graphics cards, as the kernel's drivers show them under `class/drm`.
//!
//! Owns which files the drivers of AMD, Intel and NVIDIA have. Refuses to load any library.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::gpu::{Found, Gpu, GpuBackend, GpuLoad, GpuSource, pci_address};
use super::text_file;

/// Entries of `class/drm` that are looked at: cards, connectors and render nodes of a machine full of cards.
const ENTRIES_MAX: usize = 4_096;

/// Lists the cards.
pub(super) fn read(sysfs_root: &Path) -> Found {
    let mut found = Found::default();
    if !cfg!(target_os = "linux") {
        return found;
    }
    let folder = sysfs_root.join("class/drm");
    let mut seen = BTreeSet::new();
    for (number, card) in cards(&folder) {
        let device = card.join("device");
        let vendor = match text_file::line(&device.join("vendor")) {
            Ok(vendor) => vendor.to_ascii_lowercase(),
            Err(why) => {
                found.notes.push(format!("card{number} is left out: {why}"));
                continue;
            }
        };
        let uevent = text_file::table(&device.join("uevent")).unwrap_or_default();
        let pci = value(&uevent, "PCI_SLOT_NAME").and_then(pci_address);
        // One device may have several nodes.
        if pci.as_ref().is_some_and(|address| !seen.insert(address.clone())) {
            continue;
        }
        let driver = value(&uevent, "DRIVER").map(text_file::shown);
        let of_maker = match vendor.as_str() {
            "0x1002" => Maker { name: "amd", title: "AMD", own_memory: amd_memory },
            "0x8086" => Maker { name: "intel", title: "Intel", own_memory: intel_memory },
            "0x10de" => Maker { name: "nvidia", title: "NVIDIA", own_memory: |_, _| None },
            other => {
                let other = text_file::shown(other);
                found
                    .notes
                    .push(format!("card{number} is left out: no model server uses cards of maker {other}"));
                continue;
            }
        };
        found.gpus.push(of_maker.describe(sysfs_root, device, number, pci, driver));
    }
    if found.gpus.is_empty() {
        found.notes.push(format!("no card of AMD, Intel or NVIDIA in {}", folder.display()));
    }
    found
}

/// Free memory and load, as far as the driver tells.
pub(super) fn load(device: &Path) -> GpuLoad {
    let total = text_file::number(&device.join("mem_info_vram_total")).ok();
    let used = text_file::number(&device.join("mem_info_vram_used")).ok();
    let busy = text_file::number(&device.join("gpu_busy_percent")).ok();
    GpuLoad {
        vram_free_bytes: total.zip(used).map(|(total, used)| total.saturating_sub(used)),
        utilization_percent: busy.map(|b| u32::try_from(b.min(100)).unwrap_or(100)),
    }
}

/// `card0`, `card1` … in the order of their numbers, without connectors (`card0-DP-1`) and render nodes.
fn cards(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut cards: Vec<(u32, PathBuf)> = entries
        .flatten()
        .take(ENTRIES_MAX)
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix("card")?.parse().ok()?, e.path())))
        .collect();
    cards.sort();
    cards
}

/// What differs between the makers.
struct Maker {
    name: &'static str,
    title: &'static str,
    /// The card's own memory, and what is to be said about it.
    own_memory: fn(&Path, &mut Vec<String>) -> Option<u64>,
}

impl Maker {
    fn describe(
        &self,
        sysfs_root: &Path,
        device: PathBuf,
        number: u32,
        pci: Option<String>,
        driver: Option<String>,
    ) -> Gpu {
        let mut notes = Vec::new();
        let model = text_file::line(&device.join("device")).map(|d| text_file::shown(&d));
        let title = text_file::line(&device.join("product_name")).map(|n| text_file::shown(&n));
        let vram_total_bytes = (self.own_memory)(&device, &mut notes);
        let load = load(&device);
        if driver.is_none() {
            notes.push("no kernel driver has taken the card".to_owned());
        }
        Gpu {
            id: match &pci {
                Some(address) => format!("{}-{address}", self.name),
                None => format!("{}-card{number}", self.name),
            },
            vendor: self.name.to_owned(),
            name: title.unwrap_or_else(|_| match model {
                Ok(model) => format!("{} GPU (device {model})", self.title),
                Err(_) => format!("{} GPU", self.title),
            }),
            backend: GpuBackend::Sysfs,
            compute_capability: pci.as_deref().and_then(|address| gfx_version(sysfs_root, address)),
            pci_address: pci,
            vram_total_bytes,
            vram_free_bytes: load.vram_free_bytes.filter(|_| vram_total_bytes.is_some()),
            // Drivers that are part of the kernel have its version and none of their own.
            driver_version: driver.map(|driver| {
                let version = text_file::line(&sysfs_root.join("module").join(&driver).join("version"));
                version.map_or(driver.clone(), |version| format!("{driver} {}", text_file::shown(&version)))
            }),
            utilization_percent: load.utilization_percent,
            notes,
            source: GpuSource::Sysfs { device },
        }
    }
}

fn amd_memory(device: &Path, notes: &mut Vec<String>) -> Option<u64> {
    let total = text_file::number(&device.join("mem_info_vram_total"));
    let total = total.map_err(|why| notes.push(format!("its memory is unknown: {why}"))).ok()?;
    // An APU's own memory is a carve-out of a gigabyte or so; what it can use besides is the machine's.
    if let Ok(shared) = text_file::number(&device.join("mem_info_gtt_total"))
        && shared > total
    {
        notes
            .push(format!("shares the machine's memory: may use {} MiB of it besides its own", shared >> 20));
    }
    Some(total)
}

fn intel_memory(device: &Path, notes: &mut Vec<String>) -> Option<u64> {
    // By xe for each tile; by i915 for data-centre cards as a whole.
    let tiles = (0..8)
        .filter_map(|n| text_file::number(&device.join(format!("tile{n}/physical_vram_size_bytes"))).ok());
    let total = match tiles.fold(0, u64::saturating_add) {
        0 => text_file::number(&device.join("lmem_total_bytes")).ok().filter(|n| *n > 0),
        total => Some(total),
    };
    if total.is_none() {
        notes.push("the driver shows no memory of its own: the card shares the machine's".to_owned());
    } else {
        notes.push("the driver does not show how much of its memory is free".to_owned());
    }
    total
}

/// The `gfx…` name of an AMD card's instruction set, from the compute driver's list of nodes.
fn gfx_version(sysfs_root: &Path, pci: &str) -> Option<String> {
    let nodes = fs::read_dir(sysfs_root.join("class/kfd/kfd/topology/nodes")).ok()?;
    for node in nodes.flatten().take(ENTRIES_MAX) {
        let Ok(properties) = text_file::table(&node.path().join("properties")) else { continue };
        let number =
            |key: &str| properties.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<u64>().ok());
        let (Some(location), Some(version)) = (number("location_id "), number("gfx_target_version ")) else {
            continue;
        };
        // Bus in the upper byte, then five bits of device and three of function.
        let address = format!(
            "{:04x}:{:02x}:{:02x}.{:x}",
            number("domain ").unwrap_or(0),
            location >> 8 & 0xff,
            location >> 3 & 0x1f,
            location & 7
        );
        if address == pci && version > 0 {
            // 90010 is 9, 0, 10: written as gfx90a.
            return Some(format!("gfx{}{:x}{:x}", version / 10_000, version / 100 % 100, version % 100));
        }
    }
    None
}

fn value<'a>(uevent: &'a str, key: &str) -> Option<&'a str> {
    uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
}
