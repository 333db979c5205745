//! The file with which the same user's command line is let in.
//!
//! Owns `admin.token`: made when missing, replaced when no longer accepted, refused when others can read it.
//! Refuses to know who reads it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use arw_kit::moment::WallTime;

use super::scope::Scope;
use super::token::{CreateError, RevokeError};
use super::tokens::Tokens;
use crate::files;

/// The name of the token in the file. People cannot give it to theirs, so it may be replaced without asking.
pub(super) const TOKEN_NAME: &str = "admin-file";

/// A token is some 80 bytes; a larger file is something else.
const FILE_BYTES_MAX: u64 = 1024;

/// What was done about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminFile {
    /// Its token is accepted.
    Kept,
    /// It was made, with a new token; the ones before are revoked.
    Written,
}

/// There is no usable file.
#[derive(Debug, thiserror::Error)]
pub enum AdminFileError {
    /// Others can read it, so its token cannot be trusted.
    #[error("others can read {} (mode {mode:03o}): run `chmod 600 {}`, or remove it to get a new token", .path.display(), .path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("{} belongs to another user (uid {owner}): remove it, or use another state folder", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
    },
    /// A folder, link or device stands in its place.
    #[error("{} is not a plain file: move it away", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot {action} {}: {problem}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        problem: io::Error,
    },
    /// A new token could not be made.
    #[error("cannot make a token for {}: {problem}", .path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: CreateError,
    },
    /// The token before could not be revoked.
    #[error("cannot replace the token of {}: {problem}", .path.display())]
    NotRevoked {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: RevokeError,
    },
}

impl Tokens {
    /// Makes sure that the file at `path` holds a token with the scope `admin` which this node accepts,
    /// readable by this user only. An existing file with an accepted token stays as it is.
    ///
    /// # Errors
    /// [`AdminFileError`], with what to do.
    pub async fn ensure_admin_file(&self, path: &Path, now: WallTime) -> Result<AdminFile, AdminFileError> {
        if let Some(text) = read(path)?
            && self.verify(text.trim(), now).is_ok_and(|granted| granted.allows(Scope::Admin))
        {
            return Ok(AdminFile::Kept);
        }
        let earlier =
            self.list().into_iter().filter(|row| row.name == TOKEN_NAME && row.revoked_at.is_none());
        for row in earlier {
            self.revoke(&row.id, now)
                .await
                .map_err(|problem| AdminFileError::NotRevoked { path: path.to_owned(), problem })?;
        }
        let (_, text) = self
            .create_named(TOKEN_NAME, [Scope::Admin].into(), None, now)
            .await
            .map_err(|problem| AdminFileError::NoToken { path: path.to_owned(), problem })?;
        write(path, text.reveal())?;
        Ok(AdminFile::Written)
    }
}

fn read(path: &Path) -> Result<Option<String>, AdminFileError> {
    let failed = |problem| AdminFileError::Io { action: "read", path: path.to_owned(), problem };
    let about = match std::fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(failed(problem)),
    };
    if !about.is_file() {
        return Err(AdminFileError::NotAFile { path: path.to_owned() });
    }
    check_private(path, &about)?;
    let mut text = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(unix)]
fn check_private(path: &Path, about: &std::fs::Metadata) -> Result<(), AdminFileError> {
    use std::os::unix::fs::MetadataExt;
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AdminFileError::ReadableByOthers { path: path.to_owned(), mode });
    }
    #[cfg(target_os = "linux")]
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(AdminFileError::NotOurs { path: path.to_owned(), owner: about.uid() });
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "same shape as on Unix; here the user's profile folder is private"
)]
fn check_private(_path: &Path, _about: &std::fs::Metadata) -> Result<(), AdminFileError> {
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), AdminFileError> {
    let failed = |problem| AdminFileError::Io { action: "write", path: path.to_owned(), problem };
    files::replace(path, format!("{text}\n").as_bytes()).map_err(failed)
}
