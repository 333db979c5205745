use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A machine made of files.
struct Machine {
    folder: TempDir,
    nvml: Option<PathBuf>,
}

const CPUINFO: &str = "\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD Stub 9000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu pni ssse3 FMA avx2 f16c bmi2 abm avx512f avx512_vnni amx_tile

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: AMD Stub 9000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu

processor\t: 2
physical id\t: 1
core id\t\t: 0

processor\t: 3
physical id\t: 1
core id\t\t: 0
";

const MIB: u64 = 1 << 20;

fn machine() -> Machine {
    let machine =
        Machine { folder: tempfile::tempdir().unwrap(), nvml: Some("/nowhere/libnvidia-ml.so.1".into()) };
    machine
        .with("proc/cpuinfo", CPUINFO)
        .with(
            "proc/meminfo",
            "MemTotal: 8192 kB\nMemFree: 1000 kB\nMemAvailable: 4096 kB\nMapped: 600 kB\nShmem: 100 kB\n",
        )
        .with("proc/sys/kernel/osrelease", "6.18.0-stub\n")
        .with("proc/self/status", "Name:\tarw\nCpus_allowed_list:\t0-3\n")
        .with("proc/self/cgroup", "0::/\n")
        .with("sys/class/drm/version", "drm 1.1.0")
}

impl Machine {
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn without(self, path: &str) -> Self {
        fs::remove_file(self.path(path)).unwrap();
        self
    }

    fn card(self, name: &str, files: &[(&str, &str)]) -> Self {
        files
            .iter()
            .fold(self, |m, (file, text)| m.with(&format!("sys/class/drm/{name}/device/{file}"), text))
    }

    fn amd_card(self, name: &str, address: &str) -> Self {
        let uevent = format!("DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}\n");
        self.card(
            name,
            &[
                ("vendor", "0x1002\n"),
                ("device", "0x744c\n"),
                ("uevent", &uevent),
                ("mem_info_vram_total", "25753026560\n"),
                ("mem_info_vram_used", "1753026560\n"),
                ("gpu_busy_percent", "17\n"),
            ],
        )
    }

    fn sources(&self) -> HardwareSources {
        HardwareSources {
            sysfs_root: self.path("sys"),
            proc_root: self.path("proc"),
            nvml_library: self.nvml.clone(),
        }
    }

    fn probe(&self) -> Hardware {
        probe(&self.sources())
    }
}

#[test]
fn this_machine_is_probed_without_a_panic() {
    let mut hardware = probe(&HardwareSources::system());
    assert!(hardware.cpu.usable_cores >= 1 && hardware.cpu.usable_cores <= hardware.cpu.logical_cores);
    assert!(hardware.memory.total_bytes > 0);
    assert!(hardware.memory.free_for_models() <= hardware.memory.total_bytes);
    refresh_memory(&mut hardware, &HardwareSources::system());
    assert!(hardware.memory.total_bytes > 0);
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;

    #[test]
    fn the_processor_is_read_from_cpuinfo() {
        let hardware = machine().probe();
        let cpu = &hardware.cpu;
        assert_eq!(
            (cpu.vendor.as_deref(), cpu.brand.as_deref()),
            (Some("AuthenticAMD"), Some("AMD Stub 9000"))
        );
        assert_eq!((cpu.physical_cores, cpu.logical_cores, cpu.usable_cores), (2, 4, 4));
        let features: Vec<&str> = cpu.features.iter().map(String::as_str).collect();
        assert_eq!(
            features,
            [
                "amx_tile",
                "avx2",
                "avx512_vnni",
                "avx512f",
                "bmi2",
                "f16c",
                "fma",
                "fpu",
                "lzcnt",
                "sse3",
                "ssse3"
            ]
        );
        assert_eq!(hardware.kernel.as_deref(), Some("6.18.0-stub"));
        assert_eq!(hardware.notes, Vec::<String>::new());
    }

    #[test]
    fn an_arm_processor_is_read_too() {
        let cpuinfo =
            "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0xc0\n\nprocessor\t: 1\n";
        let machine = machine()
            .with("proc/cpuinfo", cpuinfo)
            .with("sys/devices/system/cpu/cpu0/topology/core_id", "0\n")
            .with("sys/devices/system/cpu/cpu1/topology/core_id", "1\n")
            .with("sys/devices/system/cpu/cpufreq/topology/core_id", "9\n");
        let cpu = machine.probe().cpu;
        assert_eq!(cpu.vendor.as_deref(), Some("Ampere"));
        assert_eq!((cpu.physical_cores, cpu.logical_cores), (2, 2));
        assert_eq!(cpu_missing(&["NEON", "DOTPROD", "MATMUL_INT8", "SVE"], &cpu.features), ["SVE"]);
    }

    #[test]
    fn affinity_and_quota_limit_the_usable_cores() {
        let usable = |m: Machine| m.probe().cpu.usable_cores;
        assert_eq!(usable(machine().with("proc/self/status", "Cpus_allowed_list:\t1,3\n")), 2);
        assert_eq!(usable(machine().with("sys/fs/cgroup/cpu.max", "350000 100000\n")), 3);
        assert_eq!(usable(machine().with("sys/fs/cgroup/cpu.max", "50000 100000\n")), 1, "never none");
        assert_eq!(usable(machine().with("sys/fs/cgroup/cpu.max", "max 100000\n")), 4);
        assert_eq!(usable(machine().with("sys/fs/cgroup/cpu.max", "1 0\n")), 4);
        let v1 = || machine().with("proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n");
        let v1 = |path: &str| {
            v1().with(&format!("sys/fs/cgroup/{path}/cpu.cfs_quota_us"), "200000\n")
                .with(&format!("sys/fs/cgroup/{path}/cpu.cfs_period_us"), "100000\n")
        };
        assert_eq!(usable(v1("cpu,cpuacct/docker/abc")), 2);
        assert_eq!(usable(v1("cpu")), 2, "in a container the root is the group itself");
        let unlimited = machine()
            .with("proc/self/cgroup", "3:cpu:/\n")
            .with("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
            .with("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(usable(unlimited), 4);
    }

    #[test]
    fn memory_is_what_is_available_without_mapped_files() {
        let memory = machine().probe().memory;
        assert_eq!(memory.total_bytes, 8 * MIB);
        assert_eq!(memory.available_bytes, 4 * MIB);
        assert_eq!(memory.mapped_bytes, 500 << 10);
        assert_eq!((memory.limit_bytes, memory.limit_used_bytes), (None, None));
        assert_eq!(memory.free_for_models(), (4096 - 500) << 10);
    }

    #[test]
    fn the_tightest_limit_on_memory_counts() {
        let machine = machine()
            .with("proc/self/cgroup", "0::/user/app\n")
            .with("sys/fs/cgroup/user/app/memory.max", "max\n")
            .with("sys/fs/cgroup/user/app/memory.current", "1\n")
            .with("sys/fs/cgroup/user/memory.max", "3145728\n")
            .with("sys/fs/cgroup/user/memory.high", "2097152\n")
            .with("sys/fs/cgroup/user/memory.current", "1572864\n")
            .with(
                "sys/fs/cgroup/user/memory.stat",
                "anon 5\nfile_mapped 262144\ninactive_file 524288\nactive_file 262144\n",
            )
            .with("sys/fs/cgroup/memory.max", "4194304\n");
        let memory = machine.probe().memory;
        assert_eq!(memory.limit_bytes, Some(2 * MIB));
        assert_eq!(
            memory.limit_used_bytes,
            Some(MIB),
            "without 512 KiB of page cache that nobody has mapped"
        );
        assert_eq!(memory.free_for_models(), MIB);
    }

    #[test]
    fn a_limit_of_the_first_version_counts_too() {
        let v1 = |limit: &str| {
            machine()
                .with("proc/self/cgroup", "9:name=systemd:/x\n4:memory:/app\n0::/\n")
                .with("sys/fs/cgroup/memory/app/memory.limit_in_bytes", limit)
                .with("sys/fs/cgroup/memory/app/memory.usage_in_bytes", "1048576\n")
                .with("sys/fs/cgroup/memory/app/memory.stat", "inactive_file 0\ntotal_inactive_file 524288\n")
                .probe()
                .memory
        };
        assert_eq!(
            (v1("2097152\n").limit_bytes, v1("2097152\n").limit_used_bytes),
            (Some(2 * MIB), Some(MIB / 2))
        );
        assert_eq!(v1("9223372036854771712\n").limit_bytes, None);
        assert_eq!(v1("99999999999\n").limit_bytes, None, "more than the machine has is no limit");
    }

    #[test]
    fn a_group_outside_of_what_is_visible_is_the_root() {
        let machine = machine()
            .with("proc/self/cgroup", "0::/../../other\n")
            .with("sys/fs/cgroup/memory.max", "1048576\n");
        assert_eq!(machine.probe().memory.limit_bytes, Some(MIB));
    }

    #[test]
    fn without_a_gpu_it_says_why_none_was_found() {
        let hardware = machine().probe();
        assert_eq!(hardware.gpus, []);
        assert_eq!(hardware.gpu_notes.len(), 1);
        let note = &hardware.gpu_notes[0];
        assert!(
            note.starts_with("no GPU found: NVML library not found: /nowhere/libnvidia-ml.so.1; no card of"),
            "{note}"
        );
        assert!(note.ends_with("/sys/class/drm"), "{note}");
    }

    #[test]
    fn an_amd_card_is_read_from_sysfs() {
        let machine = machine()
            .amd_card("card1", "0000:0a:00.0")
            .amd_card("card2", "0000:0a:00.0") // another node of the same device
            .card("card1-DP-1", &[("vendor", "0x1002")])
            .card("renderD128", &[("vendor", "0x1002")])
            .with("sys/class/drm/card1/device/product_name", "Radeon PRO W7900\n")
            .with("sys/module/amdgpu/version", "6.10.5\n")
            .with(
                "sys/class/kfd/kfd/topology/nodes/0/properties",
                "cpu_cores_count 16\ngfx_target_version 0\nlocation_id 0\n",
            )
            .with(
                "sys/class/kfd/kfd/topology/nodes/1/properties",
                "gfx_target_version 90010\nlocation_id 2560\ndomain 0\n",
            );
        let hardware = machine.probe();
        assert_eq!(hardware.gpus.len(), 1, "{:?}", hardware.gpus);
        let gpu = &hardware.gpus[0];
        assert_eq!((gpu.id.as_str(), gpu.vendor.as_str()), ("amd-0000:0a:00.0", "amd"));
        assert_eq!(gpu.name, "Radeon PRO W7900");
        assert_eq!(gpu.vram_total_bytes, Some(25_753_026_560));
        assert_eq!(gpu.vram_free_bytes, Some(24_000_000_000));
        assert_eq!(gpu.utilization_percent, Some(17));
        assert_eq!(gpu.driver_version.as_deref(), Some("amdgpu 6.10.5"));
        assert_eq!(gpu.compute_capability.as_deref(), Some("gfx90a"));
        assert_eq!(gpu.notes, Vec::<String>::new());
    }

    #[test]
    fn intel_cards_with_and_without_memory_are_told_apart() {
        let uevent = "DRIVER=xe\nPCI_SLOT_NAME=0000:03:00.0\n";
        let machine = machine()
            .card("card0", &[("vendor", "0x8086\n"), ("uevent", "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n")])
            .card(
                "card1",
                &[
                    ("vendor", "0x8086\n"),
                    ("uevent", uevent),
                    ("tile0/physical_vram_size_bytes", "1000\n"),
                    ("tile1/physical_vram_size_bytes", "500\n"),
                ],
            );
        let gpus = machine.probe().gpus;
        assert_eq!(gpus.iter().map(|g| g.vram_total_bytes).collect::<Vec<_>>(), [None, Some(1500)]);
        assert!(gpus[0].notes[0].contains("shares the machine's"), "{:?}", gpus[0].notes);
        assert_eq!(gpus[0].driver_version.as_deref(), Some("i915"));
        assert_eq!(gpus[1].id, "intel-0000:03:00.0");
    }

    #[test]
    fn an_apu_says_that_it_shares_memory() {
        let machine = machine()
            .amd_card("card0", "0000:03:00.0")
            .with("sys/class/drm/card0/device/mem_info_vram_total", "536870912")
            .with("sys/class/drm/card0/device/mem_info_gtt_total", "34359738368");
        assert!(machine.probe().gpus[0].notes[0].contains("may use 32768 MiB"));
    }

    #[test]
    fn cards_of_no_use_are_named_and_left_out() {
        let machine = machine().card("card0", &[("vendor", "0x1a03\n")]).card("card1", &[("device", "0x1")]);
        let hardware = machine.probe();
        let note = &hardware.gpu_notes[0];
        assert!(note.contains("card0 is left out: no model server uses cards of maker 0x1a03"), "{note}");
        assert!(note.contains("card1 is left out: cannot read"), "{note}");
    }

    #[test]
    fn garbage_becomes_notes() {
        let machine = machine()
            .with("proc/cpuinfo", "flags flags flags\n\u{0}\u{1b}[2J : : :\nprocessor : x\n")
            .with("proc/meminfo", "MemTotal: lots\n")
            .with("proc/self/status", "Cpus_allowed_list: 9-1\n")
            .with("proc/self/cgroup", "::::\n\n0::\n7:cpu\n0::/\u{7f}/../..\n")
            .with("sys/fs/cgroup/cpu.max", "-3 fish\n")
            .with("sys/fs/cgroup/memory.max", "18446744073709551616\n")
            .card(
                "card0",
                &[("vendor", "0x1002"), ("mem_info_vram_total", "-5"), ("gpu_busy_percent", "900")],
            )
            .card("card99999999999999999999", &[("vendor", "0x1002")])
            .card("card7", &[("vendor", "\u{1b}[31mred")]);
        let hardware = machine.probe();
        assert_eq!(hardware.memory, Memory::default());
        assert!(hardware.notes.iter().any(|n| n.contains("no MemTotal")), "{:?}", hardware.notes);
        assert!(hardware.cpu.usable_cores >= 1);
        assert_eq!(hardware.gpus.len(), 1);
        assert_eq!(hardware.gpus[0].vram_total_bytes, None);
        assert_eq!(hardware.gpus[0].utilization_percent, Some(100));
        assert!(
            hardware.gpus[0].notes[0].contains("holds `-5` instead of a number"),
            "{:?}",
            hardware.gpus[0].notes
        );
        assert!(!format!("{hardware:?}").contains("\u{1b}"), "nothing of it may control a terminal");
    }

    #[test]
    fn huge_files_are_not_read_to_their_end() {
        let machine = machine().amd_card("card0", "0000:03:00.0");
        for file in [
            "proc/cpuinfo",
            "proc/meminfo",
            "proc/self/cgroup",
            "sys/class/drm/card0/device/mem_info_vram_total",
        ] {
            // Sparse: it costs nothing unless it is read.
            fs::File::create(machine.path(file)).unwrap().set_len(1 << 40).unwrap();
        }
        let hardware = machine.probe();
        let notes = hardware.notes.join("\n");
        assert_eq!(notes.matches("is longer than 8388608 bytes").count(), 3, "{notes}");
        assert!(
            hardware.gpus[0].notes[0].contains("is longer than 4096 bytes"),
            "{:?}",
            hardware.gpus[0].notes
        );
    }

    #[test]
    fn a_machine_that_shows_nothing_is_still_probed() {
        let machine = Machine { folder: tempfile::tempdir().unwrap(), nvml: Some("/nowhere/x.so".into()) };
        let hardware = machine.probe();
        assert_eq!(hardware.memory.free_for_models(), 0);
        assert!(hardware.cpu.usable_cores >= 1);
        let notes = hardware.notes.join("\n");
        for expected in [
            "limits of this process are unknown",
            "the processor is unknown",
            "the machine's memory is unknown",
        ] {
            assert!(notes.contains(expected), "{notes}");
        }
    }

    #[test]
    fn a_folder_or_pipe_in_place_of_a_file_does_not_hang() {
        let machine = machine().without("proc/meminfo");
        fs::create_dir(machine.path("proc/meminfo")).unwrap();
        let pipe = machine.path("proc/sys/kernel/osrelease");
        fs::remove_file(&pipe).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let notes = machine.probe().notes.join("\n");
        assert!(notes.contains("meminfo is not a file"), "{notes}");
    }

    #[test]
    fn a_refresh_follows_memory_limit_and_cards() {
        let machine = machine().amd_card("card0", "0000:03:00.0");
        let mut hardware = machine.probe();
        let before = hardware.clone();
        let machine = machine
            .with("proc/meminfo", "MemTotal: 8192 kB\nMemAvailable: 1024 kB\n")
            .with("sys/fs/cgroup/memory.max", "524288\n")
            .with("sys/class/drm/card0/device/mem_info_vram_used", "25753026560\n")
            .with("sys/class/drm/card0/device/gpu_busy_percent", "99\n");
        refresh_memory(&mut hardware, &machine.sources());
        assert_eq!(hardware.memory.available_bytes, MIB);
        assert_eq!(hardware.memory.limit_bytes, Some(MIB / 2));
        assert_eq!(hardware.gpus[0].vram_free_bytes, Some(0));
        assert_eq!(hardware.gpus[0].utilization_percent, Some(99));

        let machine =
            machine.without("proc/meminfo").without("sys/class/drm/card0/device/mem_info_vram_used");
        for _ in 0..3 {
            refresh_memory(&mut hardware, &machine.sources());
        }
        assert_eq!(hardware.memory.free_for_models(), 0, "no old value is kept");
        assert_eq!(hardware.gpus[0].vram_free_bytes, None);
        assert_eq!(hardware.notes, before.notes, "notes do not pile up");
    }

    /// Compiles the stand-in for NVIDIA's library; `None` where there is no C compiler.
    fn with_stub(machine: Machine, defines: &[&str]) -> Option<Machine> {
        let library = machine.path("libstub-nvml.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml_stub.c");
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .args(defines)
            .output();
        match compiler {
            Err(e) => {
                eprintln!("skipped: no C compiler for the stub of NVML (cc: {e})");
                None
            }
            Ok(done) => {
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                Some(Machine { nvml: Some(library), ..machine })
            }
        }
    }

    #[test]
    fn nvidia_cards_are_read_by_nvml() {
        let Some(machine) = with_stub(machine(), &[]) else { return };
        let mut hardware = machine.probe();
        let [first, second] = hardware.gpus.as_slice() else { panic!("{:?}", hardware.gpus) };
        assert_eq!((first.id.as_str(), first.name.as_str()), ("GPU-11111111-0000", "NVIDIA Stub 5090"));
        assert_eq!(first.pci_address.as_deref(), Some("0000:01:00.0"));
        assert_eq!((first.vram_total_bytes, first.vram_free_bytes), (Some(32 << 30), Some(31 << 30)));
        assert_eq!(first.driver_version.as_deref(), Some("570.86.15"));
        assert_eq!(first.compute_capability.as_deref(), Some("12.0"));
        assert_eq!(first.utilization_percent, Some(42));
        assert_eq!((second.id.as_str(), second.utilization_percent), ("GPU-22222222-0000", None));

        refresh_memory(&mut hardware, &machine.sources());
        assert_eq!(hardware.gpus[0].vram_free_bytes, Some(30 << 30));
        assert_eq!(hardware.gpus[1].vram_free_bytes, Some(14 << 30));
    }

    #[test]
    fn a_card_that_both_know_is_one_card() {
        let nvidia = |address: &str| format!("DRIVER=nvidia\nPCI_SLOT_NAME={address}\n");
        let machine = machine()
            .card("card0", &[("vendor", "0x10de"), ("uevent", &nvidia("0000:c1:00.0"))])
            .amd_card("card1", "0000:03:00.0")
            .card("card2", &[("vendor", "0x10de"), ("uevent", &nvidia("0000:d1:00.0"))]);
        let Some(machine) = with_stub(machine, &[]) else { return };
        let gpus = machine.probe().gpus;
        let ids: Vec<&str> = gpus.iter().map(|g| g.id.as_str()).collect();
        assert_eq!(
            ids,
            ["GPU-11111111-0000", "GPU-22222222-0000", "amd-0000:03:00.0", "nvidia-0000:d1:00.0"]
        );
        assert!(gpus[3].notes[0].contains("NVML does not list it"), "{:?}", gpus[3].notes);
    }

    #[test]
    fn an_nvidia_card_without_a_working_library_is_shown_with_the_reason() {
        let machine = machine().card(
            "card0",
            &[("vendor", "0x10de"), ("uevent", "DRIVER=nouveau\nPCI_SLOT_NAME=0000:01:00.0\n")],
        );
        let hardware = machine.probe();
        assert_eq!(hardware.gpus[0].id, "nvidia-0000:01:00.0");
        assert!(hardware.gpus[0].notes[0].contains("NVML library not found"), "{:?}", hardware.gpus[0].notes);
        assert!(hardware.gpu_notes[0].contains("NVML library not found"));
    }

    #[test]
    fn a_library_that_does_not_start_says_why() {
        let expected = [
            ("9", "driver is not loaded"),
            ("4", "/dev/nvidia"),
            ("18", "restart the machine"),
            ("999", "an internal driver error"),
        ];
        for (code, words) in expected {
            let Some(machine) = with_stub(machine(), &[&format!("-DSTUB_INIT={code}")]) else { return };
            let note = machine.probe().gpu_notes.join("\n");
            assert!(note.starts_with("no GPU found: NVML") && note.contains(words), "{code}: {note}");
        }
    }

    #[test]
    fn a_library_without_cards_says_so() {
        let Some(machine) = with_stub(machine(), &["-DSTUB_COUNT=0"]) else { return };
        assert!(machine.probe().gpu_notes[0].starts_with("no GPU found: NVML lists no card; no card of"));
    }

    #[test]
    fn a_library_that_answers_nonsense_does_no_harm() {
        let Some(machine) = with_stub(machine(), &["-DSTUB_GARBAGE", "-DSTUB_COUNT=4000000000u"]) else {
            return;
        };
        let mut hardware = machine.probe();
        assert_eq!(hardware.gpus.len(), 2);
        let gpu = &hardware.gpus[1];
        assert_eq!((gpu.id.as_str(), gpu.name.as_str()), ("nvidia-1", "NVIDIA GPU"));
        assert_eq!(gpu.vram_free_bytes, gpu.vram_total_bytes);
        assert_eq!(gpu.utilization_percent, Some(100));
        let notes = hardware.gpu_notes.join("\n");
        assert!(notes.contains("NVML lists 4000000000 cards, of which the first 64 are shown"), "{notes}");
        assert!(notes.contains("NVML cannot open card 2: "), "{notes}");
        refresh_memory(&mut hardware, &machine.sources());
        assert_eq!(hardware.gpus[1].vram_free_bytes, hardware.gpus[1].vram_total_bytes);
    }

    #[test]
    fn a_file_that_is_no_library_says_so() {
        let machine = machine().with("fake.so", "not a library");
        let machine = Machine { nvml: Some(machine.path("fake.so")), ..machine };
        let note = machine.probe().gpu_notes[0].clone();
        assert!(note.contains("NVML library not usable") && note.contains("fake.so"), "{note}");
    }

    #[test]
    fn a_card_that_is_lost_keeps_no_old_figures() {
        let Some(machine) = with_stub(machine(), &["-DSTUB_LOST"]) else { return };
        let mut hardware = machine.probe();
        for _ in 0..3 {
            refresh_memory(&mut hardware, &machine.sources());
        }
        assert_eq!(hardware.gpus[1].vram_free_bytes, None);
        assert_eq!(hardware.gpus[1].notes.len(), 1, "one note, not one per refresh");
        assert!(hardware.gpus[1].notes[0].starts_with("the card does not answer: "));
        assert_eq!(hardware.gpus[0].notes, Vec::<String>::new());
    }
}
