//! The one folder that a program may write: made private, emptied before each start.
//!
//! Owns removing what an earlier program left, which may be hostile: nothing is followed, nothing outside is
//! touched. Refuses any folder that does not lie in the node's state folder.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The whole address of a Unix socket has 108 bytes on Linux, a closing zero included.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) const SOCKET_NAME: &str = "engine.sock";

#[derive(Debug, thiserror::Error)]
pub(super) enum ScratchError {
    #[error("the scratch folder {0} does not lie in the state folder {1}")]
    Outside(PathBuf, PathBuf),
    #[error("the scratch folder {0} is a symbolic link or no folder: remove it")]
    NotAFolder(PathBuf),
    #[error("the scratch folder {path} cannot be made empty: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// Makes `folder` exist, private and empty.
pub(super) fn prepare(folder: &Path, state_dir: &Path) -> Result<(), ScratchError> {
    let plain = folder.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if !plain || folder == state_dir || !folder.starts_with(state_dir) {
        return Err(ScratchError::Outside(folder.to_owned(), state_dir.to_owned()));
    }
    let failed = |error| ScratchError::Io { path: folder.to_owned(), error };
    match fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() => return Err(ScratchError::NotAFolder(folder.to_owned())),
        Ok(_) => {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            empty(folder).map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_file(&path)?;
            continue;
        }
        // remove_dir_all follows no links. A folder that its owner locked is unlocked first.
        if fs::remove_dir_all(&path).is_err() {
            unlock(&path)?;
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn unlock(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// A private folder for a socket whose path in the scratch folder would be too long for the kernel. Removed
/// with its value.
#[derive(Debug)]
pub(super) struct SocketFolder {
    path: PathBuf,
}

impl SocketFolder {
    /// Makes `BASE/arw-<tag>-<random>`. `tag` lets a later sweep find what a killed node left.
    pub(super) fn create(base: &Path, tag: &str) -> io::Result<Self> {
        let mut random = [0_u8; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let path = base.join(format!("arw-{tag}-{}", base16ct::lower::encode_string(&random)));
        // Fails when it exists, so nobody can have put it there before us.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        // At worst an empty folder stays, which the next sweep removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes socket folders with this tag that no running engine of this node can own.
pub(super) fn remove_stale_socket_folders(base: &Path, tag: &str) {
    let prefix = format!("arw-{tag}-");
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_an_earlier_program_left_is_removed_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let precious = root.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "x").unwrap();
        let scratch = root.path().join("state/m/scratch");
        prepare(&scratch, &root.path().join("state")).unwrap();
        assert_eq!(fs::metadata(&scratch).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(scratch.join("a/b")).unwrap();
        fs::write(scratch.join("a/b/old"), "x").unwrap();
        symlink(&precious, scratch.join("a/link")).unwrap();
        symlink(&precious, scratch.join("link")).unwrap();
        fs::set_permissions(scratch.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o777)).unwrap();
        prepare(&scratch, &root.path().join("state")).unwrap();
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        assert_eq!(fs::metadata(&scratch).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(precious.join("file").exists());
    }

    #[test]
    fn only_folders_in_the_state_folder_are_emptied() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("node.key"), "x").unwrap();
        for bad in [root.path().to_owned(), state.clone(), state.join("../x"), PathBuf::from("/")] {
            assert!(matches!(prepare(&bad, &state), Err(ScratchError::Outside(..))), "{}", bad.display());
        }
        symlink(&state, state.join("link")).unwrap();
        assert!(matches!(prepare(&state.join("link"), &state), Err(ScratchError::NotAFolder(_))));
        assert!(state.join("node.key").exists());
    }

    #[test]
    fn a_socket_folder_is_private_and_goes_with_its_value() {
        let root = tempfile::tempdir().unwrap();
        let folder = SocketFolder::create(root.path(), "0123abcd").unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
        let left = std::mem::ManuallyDrop::new(SocketFolder::create(root.path(), "0123abcd").unwrap());
        fs::create_dir(root.path().join("arw-other-1")).unwrap();
        remove_stale_socket_folders(root.path(), "0123abcd");
        assert!(!left.path().exists() && root.path().join("arw-other-1").exists());
    }
}
