//! What engines print when they fail.
//!
//! Owns the table: words in a line → a cause, with what to do. Refuses to know exit codes and signals.

use std::path::{Path, PathBuf};

use super::{ExitFacts, is_within, shorten};
use crate::runtime::launcher::{Cause, Diagnosis, ExitStatus};

pub(super) const MEMORY_HINT: &str =
    "give it a smaller context (`-c`), fewer GPU layers, a smaller quantisation, or stop another runtime";

/// The first line that the table knows, as a diagnosis.
pub(super) fn first_match(facts: &ExitFacts<'_>) -> Option<Diagnosis> {
    facts.log_lines.iter().find_map(|line| explain(line, facts))
}

fn explain(line: &str, facts: &ExitFacts<'_>) -> Option<Diagnosis> {
    let line = without_stamp(line.trim());
    // Memory that cannot be locked is a warning; the program goes on without.
    if line.contains("mlock") {
        return None;
    }
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if has(&["error while loading shared libraries:"]) && !has(&["Permission denied"]) {
        return Some(library(line));
    }
    if has(&["ModuleNotFoundError: ", "ImportError: "]) {
        let hint = "install it into the environment that the program runs from";
        return Some(row(Cause::LibraryMissing, line, hint, true));
    }
    if has(&["bind HTTP server socket", "ddress already in use", "EADDRINUSE"]) {
        return Some(bind(line, facts));
    }
    if has(&[DENIED, FORBIDDEN]) {
        return denied(line, facts);
    }
    if has(&["failed to open", "unable to open", "FileNotFoundError"]) && has(&["No such file"]) {
        return missing_file(line, facts);
    }
    if has(&["invalid magic characters", "expected 'GGUF'"]) || (has(&["file is version "]) && has(&["but "]))
    {
        let hint = "the file is not a GGUF model that this program can read: check `arw model list`, or update the program";
        return Some(row(Cause::ModelNotGguf, line, hint, true));
    }
    if has(&["failed to read magic", "failed to read header", "failed to read key-value pairs"])
        || has(&["exceeds remaining file size", "data is not within the file bounds"])
    {
        return Some(short_model(line, facts));
    }
    if has(&["Cannot allocate memory", "insufficient memory (attempted", "failed to allocate buffer"])
        || has(&["std::bad_alloc", "out of memory", "OutOfMemory", "MemoryError"])
    {
        return Some(row(Cause::OutOfMemory, line, MEMORY_HINT, false));
    }
    if has(&["error: invalid argument:", "error: unknown argument", "error while handling argument"])
        || has(&["error: unrecognized arguments", "error: the following arguments are required"])
    {
        return Some(row(
            Cause::BadOption,
            line,
            "correct the runtime's arguments (`arw runtime show ID` lists them)",
            true,
        ));
    }
    None
}

fn row(cause: Cause, line: &str, hint: &str, permanent: bool) -> Diagnosis {
    Diagnosis { cause, detail: shorten(line), hint: Some(hint.into()), permanent }
}

fn library(line: &str) -> Diagnosis {
    let name =
        line.rsplit("shared libraries: ").next().and_then(|rest| rest.split(':').next()).unwrap_or("?");
    let hint = format!(
        "install the package that has {name}; where it lies outside the system's and the program's folders, add `--allow-read DIR`"
    );
    row(Cause::LibraryMissing, line, &hint, true)
}

fn bind(line: &str, facts: &ExitFacts<'_>) -> Diagnosis {
    match &facts.port {
        Some(port) if port.in_use => Diagnosis {
            cause: Cause::AddressInUse,
            detail: format!("{} was taken by another program between our choice and its start", port.address),
            hint: Some(
                "it is started again on another port; with `{socket}` in its arguments this cannot happen"
                    .into(),
            ),
            permanent: false,
        },
        None if line.contains("already in use") => {
            let hint =
                "its arguments name an address of their own: use `{port}` or `{socket}`, which ARW chooses";
            row(Cause::AddressInUse, line, hint, false)
        }
        Some(_) | None => {
            let hint =
                "it may bind only the address that ARW gave it: use `{socket}`, or `127.0.0.1` with `{port}`";
            row(Cause::SandboxDenied, line, hint, true)
        }
    }
}

/// A refusal is the sandbox's when the path lies outside its rules, and the file system's when inside.
fn denied(line: &str, facts: &ExitFacts<'_>) -> Option<Diagnosis> {
    let paths = paths_in(line);
    // The rules speak of the places that links lead to.
    let real = |path: &PathBuf| {
        let link = facts.links.iter().find(|(named, _)| named == path);
        link.map_or_else(|| path.clone(), |(_, real)| real.clone())
    };
    let is_outside =
        |path: &&PathBuf| facts.readable.is_some_and(|readable| !is_within(&real(path), readable));
    let wants_to_run = is_execution(facts);
    let is_not_to_run = |path: &&PathBuf| {
        wants_to_run && facts.readable.is_some() && !is_within(&real(path), facts.executable)
    };
    // A shell names its script first and then what the script wanted; the sandbox refuses only what its rules
    // do not give.
    let refused = paths.iter().find(is_outside).or_else(|| paths.iter().find(is_not_to_run));
    let Some(path) = refused.or(paths.first()) else {
        // What the system call filter refuses, as Python tells it: fatal, and without saying what was wanted.
        if line.contains("PermissionError: [Errno 1]") {
            let hint = "the sandbox allows its own address and no other network, no debugging, no mounts: see the lines above it";
            return Some(row(Cause::SandboxDenied, line, hint, true));
        }
        let network = ["socket", "connect", "network"].iter().any(|word| line.to_lowercase().contains(word));
        return network.then(|| {
            let hint = "the sandbox lets a program serve its own address and use no other network";
            row(Cause::SandboxDenied, line, hint, true)
        });
    };
    if is_outside(&path) || is_not_to_run(&path) {
        let target = real(path);
        let folder = target.parent().filter(|p| p.parent().is_some()).unwrap_or(&target).display();
        let shown = if target == *path {
            path.display().to_string()
        } else {
            format!("{}, which leads to {}", path.display(), target.display())
        };
        let (detail, hint) = if wants_to_run {
            let hint =
                format!("if it should run it, add `--allow-exec {folder}`, or name it as the program itself");
            let refused = if is_outside(&path) {
                format!("the sandbox does not let it run {shown}")
            } else {
                format!("the sandbox lets it read, but not run {shown}")
            };
            (format!("{refused}: {}", shorten(line)), hint)
        } else {
            let hint = format!(
                "if the program should read it, add `--allow-read {folder}`; if it should execute it, `--allow-exec {folder}`"
            );
            (format!("the sandbox denied access to {shown}: {}", shorten(line)), hint)
        };
        return Some(Diagnosis { cause: Cause::SandboxDenied, detail, hint: Some(hint), permanent: true });
    }
    if facts.model.as_ref().is_some_and(|model| model.path == *path) {
        let hint = "let the user that runs ARW read the model file";
        return Some(row(Cause::ModelDenied, line, hint, true));
    }
    None
}

/// Whether what was denied is a program that it wanted to run: shells, `env`, `timeout` and their like say so
/// by this code, Python by the functions that it was in.
fn is_execution(facts: &ExitFacts<'_>) -> bool {
    let names = |line: &String| {
        ["_execute_child", "_posixsubprocess", "os.exec", "os.posix_spawn"]
            .iter()
            .any(|name| line.contains(name))
    };
    facts.status == ExitStatus::Code(126) || facts.log_lines.iter().any(names)
}

fn missing_file(line: &str, facts: &ExitFacts<'_>) -> Option<Diagnosis> {
    let model = facts.model.as_ref();
    let is_model = line.contains("GGUF") || model.is_some_and(|m| paths_in(line).contains(&m.path));
    is_model
        .then(|| row(Cause::ModelMissing, line, "import the model again with `arw model import FILE`", true))
}

fn short_model(line: &str, facts: &ExitFacts<'_>) -> Diagnosis {
    match &facts.model {
        Some(model) if model.is_folder => {
            let detail = format!("{} is a folder, not a model file", model.path.display());
            let hint = "name the .gguf file inside it";
            Diagnosis { cause: Cause::ModelNotGguf, detail, hint: Some(hint.into()), permanent: true }
        }
        Some(_) | None => {
            let hint = "the model file is cut off: download or import it again";
            row(Cause::ModelTruncated, line, hint, true)
        }
    }
}

/// A line without what llama.cpp puts in front: `0.00.082.585 E `.
fn without_stamp(line: &str) -> &str {
    let Some((stamp, rest)) = line.split_once(' ') else { return line };
    let is_stamp = stamp.len() >= 12 && stamp.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let letter = rest.strip_prefix(['E', 'W', 'I', 'D']).and_then(|rest| rest.strip_prefix(' '));
    if is_stamp { letter.unwrap_or(rest) } else { line }
}

/// The paths in lines that tell of a denial: whether they were the sandbox's to deny depends on where they
/// lead.
#[must_use]
pub fn denied_paths(lines: &[String]) -> Vec<PathBuf> {
    let denials = lines.iter().filter(|line| line.contains(DENIED) || line.contains(FORBIDDEN));
    denials.take(DENIALS_MAX).flat_map(|line| paths_in(without_stamp(line.trim()))).collect()
}

const DENIED: &str = "Permission denied";
const FORBIDDEN: &str = "Operation not permitted";
/// The first one decides; a program may print many.
const DENIALS_MAX: usize = 16;

/// The absolute paths in a line: those in quotes, then those that stand alone.
fn paths_in(line: &str) -> Vec<PathBuf> {
    let is_path = |text: &&str| text.starts_with('/') && text.len() > 1;
    let quoted = ['\'', '"', '`'].into_iter().flat_map(|quote| line.split(quote).skip(1).step_by(2));
    let bare = line.split_whitespace();
    let found = quoted.filter(is_path).chain(bare.filter(is_path));
    found.map(|text| Path::new(text.trim_end_matches([':', ',', ')', '.'])).to_owned()).collect()
}
