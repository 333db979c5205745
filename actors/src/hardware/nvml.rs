//! NVIDIA cards, by NVIDIA's management library.
//!
//! Owns the session with the library, which is loaded at run time and may be missing, old or broken. Refuses
//! to know about other makers.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::gpu::{Found, Gpu, GpuBackend, GpuLoad, GpuSource, pci_address};
use super::text_file::shown;

/// As the system's loader knows it.
const LIBRARY: &str = if cfg!(windows) { "nvml.dll" } else { "libnvidia-ml.so.1" };

/// More cards than any machine has; a library that claims more is broken.
const CARDS_MAX: u32 = 64;

/// An open session. The last clone closes it.
#[derive(Clone, Debug)]
pub(super) struct NvmlSession(Arc<Nvml>);

/// Loads the library and lists the cards. Never fails: what went wrong becomes a note.
pub(super) fn open(library: Option<&Path>) -> (Option<NvmlSession>, Found) {
    let name = library.map_or_else(|| OsStr::new(LIBRARY), Path::as_os_str);
    let nvml = match Nvml::builder().lib_path(name).init() {
        Ok(nvml) => nvml,
        Err(e) => {
            let notes = vec![why_not(&e, &name.to_string_lossy())];
            return (None, Found { gpus: Vec::new(), notes });
        }
    };
    let session = NvmlSession(Arc::new(nvml));
    let found = session.list();
    // Without cards there is nothing to ask again.
    (Some(session).filter(|_| !found.gpus.is_empty()), found)
}

impl NvmlSession {
    fn list(&self) -> Found {
        let mut found = Found::default();
        let count = match self.0.device_count() {
            Ok(0) => {
                found.notes.push("NVML lists no card".to_owned());
                0
            }
            Ok(count) if count > CARDS_MAX => {
                found
                    .notes
                    .push(format!("NVML lists {count} cards, of which the first {CARDS_MAX} are shown"));
                CARDS_MAX
            }
            Ok(count) => count,
            Err(e) => {
                found.notes.push(format!("NVML cannot count the cards: {e}"));
                0
            }
        };
        let driver_version = self.0.sys_driver_version().ok().map(|v| shown(&v));
        for index in 0..count {
            match self.0.device_by_index(index) {
                Ok(device) => found.gpus.push(describe(&device, index, driver_version.clone())),
                Err(e) => found.notes.push(format!("NVML cannot open card {index}: {e}")),
            }
        }
        found
    }

    /// Free memory and load of one card.
    pub(super) fn load(&self, index: u32) -> Result<GpuLoad, String> {
        let device = self.0.device_by_index(index).map_err(|e| e.to_string())?;
        let memory = device.memory_info().map_err(|e| e.to_string())?;
        let utilization_percent = utilization(&device);
        Ok(GpuLoad { vram_free_bytes: Some(memory.free.min(memory.total)), utilization_percent })
    }
}

fn describe(device: &Device<'_>, index: u32, driver_version: Option<String>) -> Gpu {
    let mut notes = Vec::new();
    let memory = device.memory_info().map_err(|e| notes.push(format!("its memory is unknown: {e}"))).ok();
    let pci = device.pci_info().ok().and_then(|pci| pci_address(&pci.bus_id));
    let own_id = device.uuid().ok().map(|id| shown(&id)).filter(|id| !id.is_empty());
    let capability = device.cuda_compute_capability().ok();
    Gpu {
        id: own_id.unwrap_or_else(|| match &pci {
            Some(address) => format!("nvidia-{address}"),
            None => format!("nvidia-{index}"),
        }),
        vendor: "nvidia".to_owned(),
        name: device.name().map_or_else(|_| "NVIDIA GPU".to_owned(), |name| shown(&name)),
        backend: GpuBackend::Nvml,
        pci_address: pci,
        vram_total_bytes: memory.as_ref().map(|m| m.total),
        vram_free_bytes: memory.as_ref().map(|m| m.free.min(m.total)),
        driver_version,
        compute_capability: capability.map(|c| format!("{}.{}", c.major, c.minor)),
        utilization_percent: utilization(device),
        notes,
        source: GpuSource::Nvml { index },
    }
}

fn utilization(device: &Device<'_>) -> Option<u32> {
    device.utilization_rates().ok().map(|u| u.gpu.min(100))
}

/// Why the library gave nothing, and what to do where something can be done.
fn why_not(error: &NvmlError, library: &str) -> String {
    match error {
        NvmlError::LibloadingError(e) => {
            // The loader's text names the library again; only other trouble than "not there" is worth it.
            let said = e.to_string();
            let missing = said.contains("No such file") || said.contains("cannot open shared object file");
            if missing {
                format!("NVML library not found: {library}")
            } else {
                format!("NVML library not usable: {said}")
            }
        }
        NvmlError::DriverNotLoaded => "NVML found, but NVIDIA's kernel driver is not loaded".to_owned(),
        NvmlError::NoPermission => {
            "NVML may not talk to NVIDIA's driver: give this user access to /dev/nvidia*".to_owned()
        }
        NvmlError::LibRmVersionMismatch => {
            "NVML does not fit NVIDIA's kernel driver, which was updated: restart the machine".to_owned()
        }
        other => format!("NVML does not start: {other}"),
    }
}
