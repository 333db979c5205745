//! Files that hold the seed of a key.
//!
//! Owns their form, one line `<what>:<64 hexadecimal digits>`, and who may read them. Refuses to know what
//! the key is for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arw_actors::files;
use aws_lc_rs::rand;

/// A key's file cannot be used. Never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what this program wrote.
    #[error("{path} is damaged: restore it from a backup, or move it away to get a new key")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// Other users of the machine can read it.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600` on it")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes for {path} from the operating system")]
    NoRandomness {
        /// Which file was to be made.
        path: PathBuf,
    },
}

/// The seed in the file at `path`, or a new one, stored there. `what` opens the line, so that one key's file
/// is never taken for another's.
pub(crate) fn load_or_create(path: &Path, what: &str) -> Result<[u8; 32], KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(text) => {
            let mode = mode_of(path).map_err(failed)?;
            if mode & 0o077 != 0 {
                return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
            }
            parse(&text, what).ok_or_else(|| KeyFileError::Damaged { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            rand::fill(&mut seed).map_err(|_| KeyFileError::NoRandomness { path: path.to_owned() })?;
            let line = format!("{what}:{}\n", base16ct::lower::encode_string(&seed));
            files::replace(path, line.as_bytes()).map_err(failed)?;
            Ok(seed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse(text: &[u8], what: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(what.as_bytes())?.strip_prefix(b":")?;
    let digits = digits.strip_suffix(b"\n").unwrap_or(digits);
    let mut seed = [0; 32];
    let length = base16ct::lower::decode(digits, &mut seed).ok()?.len();
    (length == 32).then_some(seed)
}

#[cfg(unix)]
fn mode_of(path: &Path) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_path: &Path) -> io::Result<u32> {
    Ok(0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "arw-node-key-1";

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let made = load_or_create(&path, WHAT).unwrap();
        assert_ne!(made, [0; 32]);
        assert_eq!(load_or_create(&path, WHAT).unwrap(), made);
        #[cfg(unix)]
        assert_eq!(mode_of(&path).unwrap(), 0o600);
    }

    #[test]
    fn a_damaged_file_is_said_to_be_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        load_or_create(&path, WHAT).unwrap();
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 2], &whole[1..], b"", &[whole.as_slice(), b"0"].concat()] {
            files::replace(&path, damaged).unwrap();
            let error = load_or_create(&path, WHAT).unwrap_err();
            assert!(matches!(error, KeyFileError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn the_file_of_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        load_or_create(&path, "arw-cluster-key-1").unwrap();
        assert!(matches!(load_or_create(&path, WHAT), Err(KeyFileError::Damaged { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused_without_showing_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let seed = load_or_create(&path, WHAT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(&path, WHAT).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"));
        assert!(!error.to_string().contains(&base16ct::lower::encode_string(&seed)));
    }
}
