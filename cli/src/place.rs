//! Where this machine and this person keep a node: the state folder, the host's name, programs in `PATH`.
//!
//! Owns the platform's rules for that. Refuses to create anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use arw_actors::config::MachineDefaults;

/// Defaults of this machine.
pub(crate) fn machine_defaults() -> MachineDefaults {
    MachineDefaults { state_dir: state_dir(|name| std::env::var_os(name)), name: host_name() }
}

/// The platform's data folder + `arw`.
fn state_dir(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || folder("HOME").or_else(|| folder("USERPROFILE"));
    let data = if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else if cfg!(windows) {
        folder("LOCALAPPDATA").or_else(|| home().map(|home| home.join("AppData/Local")))
    } else {
        // The XDG rule: a relative path there is to be ignored.
        folder("XDG_DATA_HOME").or_else(|| home().map(|home| home.join(".local/share")))
    };
    data.map_or_else(|| absolute(Path::new(HOMELESS_FOLDER)), |data| data.join("arw"))
}

/// A service without a home: its working folder is the one place it surely has.
const HOMELESS_FOLDER: &str = "arw-state";

/// Why the state is in an unusual place, where it is: nobody has named one, and there is no home.
pub(crate) fn homeless(state_dir: &Path) -> Option<String> {
    let elsewhere = machine_defaults().state_dir;
    let is_so = state_dir == elsewhere && elsewhere == absolute(Path::new(HOMELESS_FOLDER));
    is_so.then(|| {
        format!(
            "neither HOME nor XDG_DATA_HOME names a folder, so the state is in the working folder: {}; --state-dir or ARW_STATE_DIR names another one",
            state_dir.display()
        )
    })
}

fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// `path` made absolute without asking the disk, so that a path that does not exist yet keeps its name.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The program `name` in `PATH`, as `exec` would find it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH")?)
}

fn find_in(name: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// A regular file that may be executed.
pub(crate) fn is_program(file: &Path) -> bool {
    let Ok(facts) = std::fs::metadata(file) else { return false };
    #[cfg(unix)]
    let may_run = std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may_run = true;
    facts.is_file() && may_run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_state_folder_follows_the_platform() {
        let with = |pairs: &'static [(&str, &str)]| {
            state_dir(|name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert_eq!(with(&[("HOME", "/home/a")]), PathBuf::from("/home/a/.local/share/arw"));
        assert_eq!(with(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/data")]), PathBuf::from("/data/arw"));
        assert_eq!(
            with(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "rel")]),
            PathBuf::from("/home/a/.local/share/arw")
        );
        let here = std::env::current_dir().unwrap().join("arw-state");
        assert_eq!(with(&[]), here);
        assert_eq!(with(&[("HOME", ""), ("XDG_DATA_HOME", "rel")]), here);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_is_found_only_where_it_can_be_executed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("llama-server");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let path = folder.path().as_os_str().to_owned();
        assert_eq!(find_in("llama-server", &path), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in("llama-server", &path), Some(file));
    }
}
