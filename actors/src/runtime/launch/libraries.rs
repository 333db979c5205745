//! Which folders the loader takes a program's shared libraries from.
//!
//! Owns asking the loader (`ld.so --list`, which maps the program and runs none of it) and remembering its
//! answer per file. Refuses to decide whether a folder may be opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;

use super::wire::wait_readable;

/// Answers, by what identifies a file's content cheaply.
#[derive(Debug, Default)]
pub(super) struct LibraryFolders {
    known: Mutex<BTreeMap<Key, BTreeSet<PathBuf>>>,
}

type Key = (PathBuf, u64, i64, i64, Option<String>);

/// More programs than any node has; beyond it the oldest answers are forgotten all at once.
const KNOWN_MAX: usize = 256;

/// Listing takes milliseconds; a loader that hangs must not hold a launch up.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-riscv64-lp64d.so.1",
    "/lib/ld-musl-x86_64.so.1",
];

impl LibraryFolders {
    /// The folders for `binary`; empty when the loader cannot tell (a static program, an unknown loader).
    pub(super) fn of(&self, binary: &Path, library_path: Option<&String>) -> BTreeSet<PathBuf> {
        let Ok(metadata) = fs::metadata(binary) else { return BTreeSet::new() };
        let key = (
            binary.to_owned(),
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            library_path.cloned(),
        );
        if let Some(folders) = self.known.lock().get(&key) {
            return folders.clone();
        }
        let folders = ask_loader(binary, library_path).unwrap_or_default();
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, folders.clone());
        folders
    }
}

fn ask_loader(binary: &Path, library_path: Option<&String>) -> Option<BTreeSet<PathBuf>> {
    let loader = LOADERS.iter().find(|loader| Path::new(loader).exists())?;
    let mut command = Command::new(loader);
    command.arg("--list").arg(binary).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(path) = library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    let mut child = command.spawn().ok()?;
    let mut output = child.stdout.take()?;
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    let ended = loop {
        match wait_readable(&[output.as_fd()], Some(LIST_TIMEOUT)) {
            Ok(ready) if ready == [true] => {}
            _ => break false,
        }
        match output.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) if text.len() < 1024 * 1024 => text.extend_from_slice(&buffer[..count]),
            _ => break false,
        }
    };
    if !ended {
        // It may have ended by itself in between, which is fine.
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    (ended && status.success()).then(|| folders_in(&String::from_utf8_lossy(&text)))
}

/// Lines read `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)`.
fn folders_in(list: &str) -> BTreeSet<PathBuf> {
    let paths = list.lines().filter_map(|line| line.split_once("=> ")?.1.split(" (").next());
    let files = paths.map(str::trim).filter(|path| path.starts_with('/')).map(Path::new);
    files
        .flat_map(|file| {
            let real = fs::canonicalize(file).ok();
            [file.parent().map(Path::to_owned), real.and_then(|r| r.parent().map(Path::to_owned))]
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_from_the_loaders_list() {
        let list =
            "\tlinux-vdso.so.1 (0x1)\n\tlibfoo.so => /nowhere/lib/libfoo.so (0x2)\n\tlibx.so => not found\n";
        assert_eq!(folders_in(list), [PathBuf::from("/nowhere/lib")].into());
    }

    #[test]
    fn this_test_program_has_its_c_library_somewhere() {
        let own = std::env::current_exe().unwrap();
        let folders = LibraryFolders::default().of(&own, None);
        assert!(folders.iter().any(|f| f.starts_with("/usr") || f.starts_with("/lib")), "{folders:?}");
    }

    #[test]
    fn what_is_no_program_has_none() {
        assert!(LibraryFolders::default().of(Path::new("/etc/passwd"), None).is_empty());
    }
}
