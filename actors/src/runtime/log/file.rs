//! A file that is set aside when it is full.
//!
//! Owns rotation and what happens when the disk refuses: the problem is remembered, writing is tried again
//! later, and nothing waits. Refuses to know what a line means.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

/// How long a file that could not be written is left alone: a full disk stays full for a while.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    open: Option<(File, u64)>,
    problem: Option<(String, Moment)>,
    /// The last text broke off, and the file ended here before it: what is longer now ends in half a line.
    broke_off_at: Option<u64>,
}

impl RotatingFile {
    pub(super) fn new(path: PathBuf, bytes_max: u64, files_max: u32) -> Self {
        Self { path, bytes_max, files_max: files_max.max(1), open: None, problem: None, broke_off_at: None }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_ref().map(|(text, _)| text.as_str())
    }

    /// Says whether the text is in the file.
    pub(super) fn append(&mut self, text: &str, now: Moment) -> bool {
        if self.problem.as_ref().is_some_and(|(_, at)| now.since(*at) < RETRY_AFTER) {
            return false;
        }
        let written = self.try_append(text);
        self.problem = written.as_ref().err().map(|error| (format!("{}: {error}", self.path.display()), now));
        written.is_ok()
    }

    fn try_append(&mut self, text: &str) -> io::Result<()> {
        let length = text.len() as u64;
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if size > 0 && size + length > self.bytes_max {
            drop(file);
            self.rotate()?;
            (file, size) = open(&self.path)?;
        }
        let is_torn = self.broke_off_at.is_some_and(|end| size > end);
        let text = if is_torn { Cow::Owned(format!("\n{text}")) } else { Cow::Borrowed(text) };
        if let Err(error) = file.write_all(text.as_bytes()) {
            self.broke_off_at.get_or_insert(size);
            return Err(error);
        }
        self.broke_off_at = None;
        self.open = Some((file, size + text.len() as u64));
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        if self.files_max == 1 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.files_max - 1).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }
}

/// Adds `text` as one line, with the time in front.
pub(super) fn append_line(out: &mut String, at: WallTime, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{at} {text}");
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Prompts may show up in an engine's log: for the owner only.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_half_a_line_the_next_one_begins_on_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        fs::write(&path, "whole\nhal").unwrap();
        let mut file = RotatingFile::new(path.clone(), 1_000, 2);
        // As a disk leaves it that became full within the second line.
        file.broke_off_at = Some(6);
        assert!(file.append("next\n", Moment::from_nanos(1)));
        assert!(file.append("last\n", Moment::from_nanos(2)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhal\nnext\nlast\n");
    }

    #[test]
    fn a_file_that_could_not_be_written_is_tried_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("folder");
        fs::write(&blocked, "").unwrap();
        let mut file = RotatingFile::new(blocked.join("engine.log"), 1_000, 2);
        let now = Moment::from_nanos(1);
        assert!(!file.append("lost\n", now) && file.problem().is_some());
        fs::remove_file(&blocked).unwrap();
        assert!(!file.append("too early\n", now + RETRY_AFTER / 2));
        assert!(file.append("written\n", now + RETRY_AFTER) && file.problem().is_none());
        assert_eq!(fs::read_to_string(blocked.join("engine.log")).unwrap(), "written\n");
    }
}
