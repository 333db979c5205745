//! Finds the program that a launch names and everything that it is started through.
//!
//! Owns the search in `PATH`, the chain of symbolic links and interpreters, and the refusals that can be
//! given before anything is started. Refuses to start anything and to decide what the sandbox opens
//! (`sandbox/rules.rs`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::elf;
use super::sandbox::rules::{Hop, Venv};
use crate::runtime::launcher::{Cause, Diagnosis, LaunchError};

/// A program that is there and looks as if it could be executed.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Absolute. Not resolved further: a Python in a virtual environment finds it by the name it was called
    /// by.
    pub(super) path: PathBuf,
    pub(super) hops: Vec<Hop>,
    /// The ELF files in the chain: what the loader will load libraries for.
    pub(super) binaries: Vec<PathBuf>,
}

/// The kernel follows four interpreters of interpreters; symbolic links, forty.
const INTERPRETERS_MAX: usize = 4;
const LINKS_MAX: usize = 40;

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) path: String,
    /// Relative programs count from here.
    pub(super) folder: PathBuf,
    /// `PYENV_VERSION`, when set.
    pub(super) pyenv_version: Option<String>,
}

impl Search {
    pub(super) fn new(env: &BTreeMap<String, String>) -> Self {
        let of = |name: &str| env.get(name).cloned().or_else(|| std::env::var(name).ok());
        Self {
            path: of("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned()),
            folder: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            pyenv_version: of("PYENV_VERSION"),
        }
    }

    /// Finds a program and follows it to the end.
    pub(super) fn resolve(&self, name: &Path) -> Result<Program, LaunchError> {
        let path = self.find(name)?;
        let mut program = Program { path: path.clone(), hops: Vec::new(), binaries: Vec::new() };
        let mut next = path;
        for _ in 0..=INTERPRETERS_MAX {
            let file = follow(&next, &mut program.hops)?;
            check_executable(&file)?;
            match kind(&file)? {
                Kind::Binary => {
                    program.binaries.push(file);
                    return Ok(program);
                }
                Kind::Script(interpreter) => next = self.interpreter(&file, interpreter)?,
            }
        }
        Err(not_executable(
            &program.path,
            "its interpreters are scripts without end",
            "name the real program",
        ))
    }

    fn find(&self, name: &Path) -> Result<PathBuf, LaunchError> {
        if name.as_os_str().is_empty() {
            return Err(missing(name, "no program is named", "add `-- PROGRAM ARGS…`"));
        }
        if name.components().count() > 1 || name.is_absolute() {
            let path = self.folder.join(name);
            let path = if is_pyenv_shim(&path) { self.behind_shim(&path).unwrap_or(path) } else { path };
            return if path.exists() {
                Ok(path)
            } else {
                Err(missing(&path, "no such file", "check the path"))
            };
        }
        let mut not_to_run = None;
        for folder in self.path.split(':').filter(|folder| !folder.is_empty()) {
            let path = self.folder.join(folder).join(name);
            if !is_executable_file(&path) {
                // A later folder may have one that can be run; if none has, this one says why.
                not_to_run =
                    not_to_run.or_else(|| path.is_file().then(|| check_executable(&path).err()).flatten());
                continue;
            }
            if !is_pyenv_shim(&path) {
                return Ok(path);
            }
            // A shim is a shell script that starts pyenv's shell scripts: the sandbox is for the real
            // program.
            if let Some(real) = self.behind_shim(&path) {
                return Ok(real);
            }
        }
        Err(not_to_run.unwrap_or_else(|| {
            missing(name, &format!("it is in no folder of PATH ({})", self.path), "name it by its full path")
        }))
    }

    /// What a pyenv shim stands for: the first chosen version that has such a program.
    fn behind_shim(&self, shim: &Path) -> Option<PathBuf> {
        let root = shim.parent()?.parent()?;
        let chosen = self.pyenv_version.clone().map(|v| v.replace(':', " "));
        let versions = chosen.or_else(|| fs::read_to_string(root.join("version")).ok())?;
        let candidates = versions.split_whitespace().map(|v| root.join("versions").join(v).join("bin"));
        candidates
            .map(|bin| bin.join(shim.file_name().unwrap_or_default()))
            .find(|path| is_executable_file(path))
    }

    fn interpreter(&self, script: &Path, named: Interpreter) -> Result<PathBuf, LaunchError> {
        let Interpreter { path, argument } = named;
        let through_env = path.file_name() == Some(OsStr::new("env"));
        let found = match argument {
            Some(name) if through_env => self.find(Path::new(&name)),
            _ if path.exists() => Ok(path.clone()),
            _ => Err(missing(&path, "no such file", "")),
        };
        found.map_err(|error| {
            if error.0.cause == Cause::ProgramNotExecutable {
                return error;
            }
            let wanted = path.display();
            let detail = format!(
                "{}: its interpreter {wanted} (named in its first line) is missing",
                script.display()
            );
            refuse(
                Cause::ProgramMissing,
                detail,
                "install the interpreter, or correct the script's first line",
            )
        })
    }
}

/// Follows symbolic links to the file, noting each step.
fn follow(path: &Path, hops: &mut Vec<Hop>) -> Result<PathBuf, LaunchError> {
    let mut current = path.to_owned();
    for _ in 0..LINKS_MAX {
        let target = fs::read_link(&current).ok();
        hops.push(Hop { path: current.clone(), is_final: target.is_none(), venv: venv_of(&current) });
        match target {
            Some(target) => current = parent(&current).join(target),
            // Folders on the way may be links themselves; the sandbox and the prefix rule want the real
            // place.
            None => {
                let real = fs::canonicalize(&current)
                    .map_err(|error| missing(path, &error.to_string(), "check the path"))?;
                if real != current {
                    hops.push(Hop { path: real.clone(), is_final: true, venv: venv_of(&real) });
                }
                return Ok(real);
            }
        }
    }
    Err(missing(path, "too many symbolic links", "name the real program"))
}

fn venv_of(path: &Path) -> Option<Venv> {
    let bin = path.parent()?;
    let folder = [Some(bin), bin.parent()].into_iter().flatten().find(|f| f.join("pyvenv.cfg").is_file())?;
    let text = fs::read_to_string(folder.join("pyvenv.cfg")).unwrap_or_default();
    let home = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| PathBuf::from(value.trim()))
    });
    Some(Venv { folder: folder.to_owned(), home })
}

enum Kind {
    Binary,
    Script(Interpreter),
}

struct Interpreter {
    path: PathBuf,
    /// The rest of the line; for `/usr/bin/env` the program it is to find.
    argument: Option<String>,
}

fn kind(file: &Path) -> Result<Kind, LaunchError> {
    // The kernel reads this much of a first line.
    let mut start = [0_u8; 256];
    let length = read_start(file, &mut start).map_err(|error| {
        not_executable(file, &format!("it cannot be read: {error}"), "let the user that runs ARW read it")
    })?;
    let start = &start[..length];
    if start.starts_with(elf::MAGIC) {
        let size = fs::metadata(file).map_or(0, |found| found.len());
        return match elf::check(start, size) {
            Ok(()) => Ok(Kind::Binary),
            Err(why) => Err(not_executable(file, why, "get a build for this processor and system, whole")),
        };
    }
    let Some(line) = start.strip_prefix(b"#!") else {
        let what = "it is neither a program for Linux nor a script with a `#!` line";
        return Err(not_executable(
            file,
            what,
            "name the program itself, or the interpreter followed by the script",
        ));
    };
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_whitespace();
    let Some(path) = words.next() else {
        return Err(not_executable(
            file,
            "its first line names no interpreter",
            "correct the script's first line",
        ));
    };
    // `env -S python3 -u` and `env NAME=value python3` name the program after options and settings.
    let argument = words.find(|word| !word.starts_with('-') && !word.contains('=')).map(str::to_owned);
    Ok(Kind::Script(Interpreter { path: PathBuf::from(path), argument }))
}

fn read_start(file: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut open = fs::File::open(file)?;
    let mut length = 0;
    while length < buffer.len() {
        match open.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

fn check_executable(file: &Path) -> Result<(), LaunchError> {
    let metadata = fs::metadata(file).map_err(|error| missing(file, &error.to_string(), "check the path"))?;
    if metadata.is_dir() {
        return Err(not_executable(file, "it is a folder", "name the program inside it"));
    }
    if rustix::fs::statvfs(file).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        let hint = "put it on another file system, or mount this one without noexec";
        return Err(not_executable(file, "it lies on a file system that is mounted noexec", hint));
    }
    if !is_executable_file(file) {
        let hint = format!("`chmod +x {}` if it is a program", file.display());
        return Err(not_executable(file, "it may not be executed", &hint));
    }
    Ok(())
}

fn is_executable_file(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn is_pyenv_shim(path: &Path) -> bool {
    let folder = parent(path);
    folder.file_name() == Some(OsStr::new("shims")) && parent(folder).join("versions").is_dir()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn missing(program: &Path, why: &str, hint: &str) -> LaunchError {
    refuse(Cause::ProgramMissing, format!("program `{}` is missing: {why}", program.display()), hint)
}

fn not_executable(program: &Path, why: &str, hint: &str) -> LaunchError {
    refuse(
        Cause::ProgramNotExecutable,
        format!("program `{}` cannot be executed: {why}", program.display()),
        hint,
    )
}

/// A refusal that trying again does not change.
pub(super) fn refuse(cause: Cause, detail: String, hint: &str) -> LaunchError {
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    LaunchError(Diagnosis { cause, detail, hint, permanent: true })
}

/// What a shell without a setting uses.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What an argument could be as a file: itself, or what follows its first `=`.
pub(super) fn file_named_by(arg: &str) -> Option<PathBuf> {
    let value = arg.split_once('=').map_or(arg, |(_, value)| value);
    [arg, value]
        .into_iter()
        .map(|text| Path::new(OsStr::from_bytes(text.as_bytes())))
        .find_map(|path| (path.is_absolute() && path.is_file()).then(|| path.to_owned()))
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
