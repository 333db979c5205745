//! Which paths a program may touch, and why each.
//!
//! Owns the lists and the judgement of how much of a program's surroundings is *its own*. Refuses to look at
//! the file system: what is there comes in as [`Facts`], and what is not there is skipped when the rules are
//! enforced.

use std::path::{Path, PathBuf};

use super::{Access, PathRule};

/// What is known about one launch.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Facts {
    /// The program and everything that it is started through (symbolic links, interpreters), in order.
    pub(in super::super) hops: Vec<Hop>,
    /// Folders of shared libraries that the loader would use.
    pub(in super::super) library_folders: Vec<PathBuf>,
    pub(in super::super) model: Option<PathBuf>,
    /// Existing files that the arguments name.
    pub(in super::super) argument_files: Vec<PathBuf>,
    pub(in super::super) allow_read: Vec<PathBuf>,
    pub(in super::super) allow_exec: Vec<PathBuf>,
    pub(in super::super) scratch: PathBuf,
    /// Where its socket lies, when that is not the scratch folder.
    pub(in super::super) socket_folder: Option<PathBuf>,
    pub(in super::super) devices: Vec<PathBuf>,
    pub(in super::super) protected: Protected,
}

/// One file on the way to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Hop {
    pub(in super::super) path: PathBuf,
    /// It is the file itself, not a symbolic link to it.
    pub(in super::super) is_final: bool,
    /// The virtual environment that it belongs to.
    pub(in super::super) venv: Option<Venv>,
}

/// A Python virtual environment: a folder with a `pyvenv.cfg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Venv {
    pub(in super::super) folder: PathBuf,
    /// `home` in its `pyvenv.cfg`: where the interpreter is that it was made from.
    pub(in super::super) home: Option<PathBuf>,
}

/// Folders that are never opened as a whole, because of what else they hold.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Protected {
    pub(in super::super) state_dir: PathBuf,
    /// What lies in it and in its folder of runtimes, each by its path.
    pub(in super::super) state_parts: Vec<PathBuf>,
    pub(in super::super) homes: Vec<PathBuf>,
    pub(in super::super) temp: PathBuf,
}

impl Protected {
    /// A folder may be opened as a whole when it is nobody's home, no place where unrelated things lie side
    /// by side, and above neither a home nor the node's state.
    pub(in super::super) fn may_open_whole(&self, folder: &Path) -> bool {
        let shared = SHARED_PLACES.iter().any(|place| folder == Path::new(place)) || folder == self.temp;
        let others_home = folder.parent() == Some(Path::new("/home"));
        let above = |inner: &Path| inner.starts_with(folder);
        let local = self.homes.iter().any(|home| folder == home.join(".local"));
        folder.is_absolute()
            && !(shared
                || others_home
                || local
                || above(&self.state_dir)
                || self.homes.iter().any(|home| above(home)))
    }
}

/// Where things of different owners lie side by side.
const SHARED_PLACES: &[&str] = &[
    "/", "/opt", "/tmp", "/var", "/var/tmp", "/var/lib", "/home", "/root", "/mnt", "/media", "/srv", "/run",
    "/etc", "/dev", "/proc", "/sys", "/boot", "/data", "/snap",
];

/// What every program may read: the loader's and the resolver's settings, certificates, time zone, and what
/// the kernel says about the machine.
const SYSTEM_READ: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/proc",
    "/sys/devices",
    "/sys/class",
    "/sys/bus",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/random",
];

const SYSTEM_EXECUTE: &[&str] = &["/usr", "/lib", "/lib64", "/bin", "/sbin"];

const SYSTEM_DEVICES: &[&str] = &["/dev/null", "/dev/zero"];

/// GPU runtimes live and are described here; only opened when there is a GPU.
const GPU_READ: &[&str] = &["/etc/OpenCL", "/etc/vulkan", "/etc/glvnd"];
const GPU_EXECUTE: &[&str] = &["/opt/rocm"];

/// The reasons of rules that the operator asked for.
pub(super) const ALLOWED: &str = "--allow-read";
pub(super) const ALLOWED_EXECUTE: &str = "--allow-exec";
/// The reason of rules that every program has.
pub(super) const SYSTEM: &str = "system";

/// The rules for one launch, each path once, with the most that any reason gives it.
pub(in super::super) fn compute(facts: &Facts) -> Vec<PathRule> {
    let mut rules = Rules::default();
    for path in SYSTEM_READ {
        rules.add(Path::new(path), Access::Read, SYSTEM);
    }
    for path in SYSTEM_EXECUTE {
        rules.add(Path::new(path), Access::ReadExecute, SYSTEM);
    }
    for path in SYSTEM_DEVICES {
        rules.add(Path::new(path), Access::Device, SYSTEM);
    }
    for hop in &facts.hops {
        add_hop(&mut rules, hop, &facts.protected);
    }
    for folder in &facts.library_folders {
        if facts.protected.may_open_whole(folder) {
            rules.add(folder, Access::ReadExecute, "libraries of the program");
        }
    }
    if let Some(model) = &facts.model {
        rules.add(model, Access::Read, "model");
    }
    for file in &facts.argument_files {
        // What these name is no file of a disk: `/dev/stdin` is another thing in every process.
        if ["/dev", "/proc", "/sys"].iter().any(|place| file.starts_with(place)) {
            continue;
        }
        rules.add(file, Access::Read, "named in the arguments");
    }
    for path in &facts.allow_read {
        rules.add(path, Access::Read, ALLOWED);
    }
    for path in &facts.allow_exec {
        rules.add(path, Access::ReadExecute, ALLOWED_EXECUTE);
    }
    if !facts.devices.is_empty() {
        GPU_READ.iter().for_each(|path| rules.add(Path::new(path), Access::Read, "GPU"));
        GPU_EXECUTE.iter().for_each(|path| rules.add(Path::new(path), Access::ReadExecute, "GPU"));
    }
    for device in &facts.devices {
        rules.add(device, Access::Device, "GPU");
    }
    rules.add(&facts.scratch, Access::Write, "scratch");
    if let Some(folder) = &facts.socket_folder {
        rules.add(folder, Access::Write, "socket");
    }
    rules.list
}

fn add_hop(rules: &mut Rules, hop: &Hop, protected: &Protected) {
    const WHY: &str = "program";
    if let Some(venv) = &hop.venv {
        open_tree(rules, &venv.folder, protected);
        if let Some(prefix) = venv.home.as_deref().and_then(Path::parent) {
            open_tree(rules, prefix, protected);
        }
    }
    let Some(folder) = hop.path.parent() else { return };
    let in_bin = matches!(folder.file_name().and_then(|n| n.to_str()), Some("bin" | "sbin"));
    if let (true, Some(prefix)) = (in_bin, folder.parent()) {
        open_tree(rules, prefix, protected);
    } else if hop.is_final && protected.may_open_whole(folder) {
        rules.add(folder, Access::ReadExecute, WHY);
    }
    if hop.is_final {
        rules.add(&hop.path, Access::ReadExecute, WHY);
    }
}

/// Opens a prefix (`PREFIX/bin`, `PREFIX/lib`, …): as a whole where it is the program's own, else the parts
/// that hold programs.
fn open_tree(rules: &mut Rules, prefix: &Path, protected: &Protected) {
    if protected.may_open_whole(prefix) {
        rules.add(prefix, Access::ReadExecute, "program");
        return;
    }
    for part in ["bin", "lib", "lib64", "libexec"] {
        rules.add(&prefix.join(part), Access::ReadExecute, "program");
    }
}

#[derive(Default)]
struct Rules {
    list: Vec<PathRule>,
}

impl Rules {
    fn add(&mut self, path: &Path, access: Access, reason: &str) {
        // What a folder above already gives needs no rule of its own. (`Write` gives reading, but never
        // executing.)
        let given = |rule: &PathRule| {
            path.starts_with(&rule.path)
                && (rule.access == access || (access == Access::Read && rule.access == Access::ReadExecute))
        };
        if !self.list.iter().any(given) {
            self.list.push(PathRule { path: path.to_owned(), access, reason: reason.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            scratch: "/home/u/.local/share/arw/runtime/m/scratch".into(),
            protected: Protected {
                state_dir: "/home/u/.local/share/arw".into(),
                state_parts: Vec::new(),
                homes: vec!["/home/u".into(), "/root".into()],
                temp: "/tmp".into(),
            },
            ..Facts::default()
        }
    }

    fn program(path: &str) -> Hop {
        Hop { path: path.into(), is_final: true, venv: None }
    }

    /// What the launch adds to the system's rules, as `access path`.
    fn added(facts: &Facts) -> Vec<String> {
        let base = compute(&Facts {
            protected: facts.protected.clone(),
            scratch: facts.scratch.clone(),
            ..Facts::default()
        });
        let rules = compute(facts);
        let new = rules.iter().filter(|rule| !base.contains(rule));
        new.map(|rule| format!("{:?} {}", rule.access, rule.path.display())).collect()
    }

    fn for_program(path: &str) -> Vec<String> {
        added(&Facts { hops: vec![program(path)], ..facts() })
    }

    #[test]
    fn a_program_of_the_system_adds_nothing() {
        assert_eq!(for_program("/usr/local/bin/llama-server"), [""; 0]);
    }

    #[test]
    fn a_program_in_a_bin_folder_brings_its_prefix() {
        assert_eq!(for_program("/opt/llama/bin/llama-server"), ["ReadExecute /opt/llama"]);
        assert_eq!(
            for_program("/home/u/llama.cpp/build/bin/llama-server"),
            ["ReadExecute /home/u/llama.cpp/build"]
        );
    }

    #[test]
    fn a_program_elsewhere_brings_its_own_folder() {
        assert_eq!(for_program("/home/u/engines/llama-server"), ["ReadExecute /home/u/engines"]);
    }

    #[test]
    fn homes_and_shared_places_are_never_opened_as_a_whole() {
        assert_eq!(for_program("/home/u/llama-server"), ["ReadExecute /home/u/llama-server"]);
        assert_eq!(for_program("/tmp/llama-server"), ["ReadExecute /tmp/llama-server"]);
        assert_eq!(for_program("/home/other/x"), ["ReadExecute /home/other/x"]);
        for (path, prefix) in
            [("/home/u/bin/x", "/home/u"), ("/opt/bin/x", "/opt"), ("/home/u/.local/bin/x", "/home/u/.local")]
        {
            let parts = ["bin", "lib", "lib64", "libexec"].map(|part| format!("ReadExecute {prefix}/{part}"));
            assert_eq!(for_program(path), parts, "{path}");
        }
    }

    #[test]
    fn a_folder_above_the_nodes_state_stays_closed() {
        let mut facts = facts();
        facts.protected.state_dir = "/data1/arw".into();
        facts.hops = vec![program("/data1/llama-server")];
        assert_eq!(added(&facts), ["ReadExecute /data1/llama-server"]);
    }

    #[test]
    fn a_virtual_environment_brings_itself_and_its_interpreter() {
        let venv = Venv { folder: "/home/u/v".into(), home: Some("/home/u/.pyenv/versions/3.11/bin".into()) };
        let link = Hop { path: "/home/u/v/bin/python".into(), is_final: false, venv: Some(venv) };
        let hops = vec![link, program("/home/u/.pyenv/versions/3.11/bin/python3.11")];
        assert_eq!(
            added(&Facts { hops, ..facts() }),
            ["ReadExecute /home/u/v", "ReadExecute /home/u/.pyenv/versions/3.11"]
        );
    }

    #[test]
    fn a_link_outside_a_bin_folder_opens_nothing_around_it() {
        let link = Hop { path: "/home/u/private/llama".into(), is_final: false, venv: None };
        assert_eq!(added(&Facts { hops: vec![link, program("/usr/bin/llama-server")], ..facts() }), [""; 0]);
    }

    #[test]
    fn models_arguments_and_allowed_folders_can_be_read() {
        let facts = Facts {
            model: Some("/models/a.gguf".into()),
            argument_files: vec![
                "/home/u/t.jinja".into(),
                "/dev/stdin".into(),
                "/home/u/.local/share/arw/models/by-hash/ab".into(),
            ],
            allow_read: vec!["/data/lora".into()],
            allow_exec: vec!["/opt/x".into()],
            ..facts()
        };
        assert_eq!(
            added(&facts),
            [
                "Read /models/a.gguf",
                "Read /home/u/t.jinja",
                "Read /home/u/.local/share/arw/models/by-hash/ab",
                "Read /data/lora",
                "ReadExecute /opt/x"
            ]
        );
    }

    #[test]
    fn only_the_scratch_and_the_socket_folder_can_be_written() {
        let facts = Facts { socket_folder: Some("/tmp/arw-1".into()), ..facts() };
        let rules = compute(&facts);
        let writable: Vec<_> =
            rules.iter().filter(|r| r.access == Access::Write).map(|r| r.path.clone()).collect();
        assert_eq!(writable, [facts.scratch, PathBuf::from("/tmp/arw-1")]);
    }

    #[test]
    fn gpu_devices_open_what_their_drivers_read() {
        let facts = Facts { devices: vec!["/dev/nvidia0".into()], ..facts() };
        let rules = added(&facts);
        assert!(
            rules.contains(&"Device /dev/nvidia0".to_owned())
                && rules.contains(&"ReadExecute /opt/rocm".to_owned())
        );
    }

    #[test]
    fn scratch_below_an_executable_tree_keeps_its_own_rule() {
        let mut facts = facts();
        facts.hops = vec![program("/e/bin/x")];
        facts.scratch = "/e/scratch".into();
        assert!(
            compute(&facts).iter().any(|r| r.path == Path::new("/e/scratch") && r.access == Access::Write)
        );
    }
}
