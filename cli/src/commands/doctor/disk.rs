//! Checks of the state folder: there, ours, writable, with room; and the token file in it.

use std::path::Path;

use super::Check;
use crate::client::discovery::TOKEN_FILE;
use crate::output::human::bytes;

/// Below this the journal cannot be written for long.
#[cfg(unix)]
const SPACE_NEEDED: u64 = 64 << 20;
/// Below this no model fits.
#[cfg(unix)]
const SPACE_COMFORTABLE: u64 = 2 << 30;

pub(super) fn state_dir(dir: &Path) -> Check {
    const NAME: &str = "state folder";
    let shown = dir.display();
    let elsewhere = "or name another folder with --state-dir";
    let facts = match std::fs::metadata(dir) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match first_that_exists(dir).filter(|parent| is_writable(parent)) {
                Some(_) => Check::ok(NAME, format!("{shown} does not exist yet; `arw up` makes it")),
                None => Check::broken(
                    NAME,
                    format!("{shown} does not exist and cannot be made"),
                    format!("make it and give it to this user, {elsewhere}"),
                ),
            };
        }
        Err(error) => {
            return Check::broken(
                NAME,
                format!("{shown}: {error}"),
                format!("let this user into it, {elsewhere}"),
            );
        }
    };
    if !facts.is_dir() {
        return Check::broken(NAME, format!("{shown} is not a folder"), format!("move it away, {elsewhere}"));
    }
    if !is_writable(dir) {
        return Check::broken(
            NAME,
            format!("{shown} cannot be written by this user"),
            format!("chown or chmod it, {elsewhere}"),
        );
    }
    match open_to_others(&facts) {
        Some(mode) => Check::warning(
            NAME,
            format!("{shown} may be changed by other users (mode {mode:o})"),
            format!("chmod go-w {shown}"),
        ),
        None => Check::ok(NAME, shown.to_string()),
    }
}

pub(super) fn token(dir: &Path) -> Check {
    const NAME: &str = "admin token";
    let path = dir.join(TOKEN_FILE);
    let shown = path.display();
    let facts = match std::fs::metadata(&path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::skipped(NAME, format!("there is no {shown} yet; a node makes it when it starts"));
        }
        Err(error) => {
            return Check::broken(NAME, format!("{shown}: {error}"), "let this user into the state folder");
        }
    };
    if let Some(mode) = readable_by_others(&facts) {
        return Check::broken(
            NAME,
            format!(
                "{shown} can be read by other users (mode {mode:o}): they can do anything with this node"
            ),
            format!("chmod 600 {shown}; then make a new one: stop the node, remove the file, start the node"),
        );
    }
    match std::fs::File::open(&path) {
        Ok(_) => Check::ok(NAME, format!("{shown}, for its owner only")),
        Err(error) => Check::warning(
            NAME,
            format!("{shown}: {error}"),
            "run commands as the user of the node, or set ARW_TOKEN",
        ),
    }
}

pub(super) fn space(dir: &Path) -> Check {
    const NAME: &str = "disk space";
    #[cfg(unix)]
    {
        let Some(there) = first_that_exists(dir) else { return Check::skipped(NAME, "no folder to look at") };
        match rustix::fs::statvfs(there) {
            Ok(facts) => {
                let free = facts.f_bavail.saturating_mul(facts.f_frsize);
                let found = format!("{} free on the disk of {}", bytes(free), dir.display());
                if free < SPACE_NEEDED {
                    return Check::broken(NAME, found, "free some space: the journal could not be written");
                }
                if free < SPACE_COMFORTABLE {
                    return Check::warning(
                        NAME,
                        found,
                        "free some space, or keep the state on a larger disk: models are large",
                    );
                }
                Check::ok(NAME, found)
            }
            Err(error) => Check::skipped(NAME, format!("cannot be read: {error}")),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (dir, bytes(0));
        Check::skipped(NAME, "cannot be read on this platform")
    }
}

fn first_that_exists(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|folder| folder.exists())
}

/// By trying: permissions, access lists and read-only disks all have their say.
fn is_writable(dir: &Path) -> bool {
    let probe = dir.join(format!(".arw-doctor-{}", std::process::id()));
    let written = std::fs::File::options().write(true).create_new(true).open(&probe).is_ok();
    if written {
        let _ = std::fs::remove_file(&probe);
    }
    written
}

#[cfg(unix)]
fn mode(facts: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o777
}

fn open_to_others(facts: &std::fs::Metadata) -> Option<u32> {
    #[cfg(unix)]
    return Some(mode(facts)).filter(|mode| mode & 0o022 != 0);
    #[cfg(not(unix))]
    {
        let _ = facts;
        None
    }
}

/// The mode of a file that others can read; `None` also where there is no file.
pub(super) fn mode_for_others(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().and_then(|facts| readable_by_others(&facts))
}

fn readable_by_others(facts: &std::fs::Metadata) -> Option<u32> {
    #[cfg(unix)]
    return Some(mode(facts)).filter(|mode| mode & 0o077 != 0);
    #[cfg(not(unix))]
    {
        let _ = facts;
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_that_can_be_used_or_made_is_well() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(state_dir(dir.path()).verdict, Verdict::Ok);
        assert_eq!(state_dir(&dir.path().join("a/b")).verdict, Verdict::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the check leaves nothing behind");
    }

    #[test]
    fn a_folder_open_to_others_is_warned_about_and_a_file_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(state_dir(dir.path()).verdict, Verdict::Warning);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(state_dir(&file).verdict, Verdict::Broken);
    }

    #[test]
    fn a_token_that_others_can_read_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(token(dir.path()).verdict, Verdict::Skipped);
        let file = dir.path().join(TOKEN_FILE);
        std::fs::write(&file, "t").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(token(dir.path()).verdict, Verdict::Broken);
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(token(dir.path()).verdict, Verdict::Ok);
    }
}
