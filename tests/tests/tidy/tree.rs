//! The files of this repository, read once.
//!
//! Owns which files count and what kind each Rust file is. Refuses to know what the checks look for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::rust::Rust;

/// All text files, by their path from the repository's root (with `/` between the parts).
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
}

/// One text file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) text: String,
    /// It may be run as a program.
    pub(crate) is_executable: bool,
    /// Only of Rust files.
    pub(crate) rust: Option<Rust>,
}

/// What a Rust file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of the product.
    Product,
    /// Tests and what only they use.
    Test,
    /// Benchmarks and examples.
    Demonstration,
}

impl Tree {
    /// Reads the repository that this test belongs to.
    pub(crate) fn of_this_repository() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = BTreeMap::new();
        walk(&root, "", &mut files);
        assert!(files.contains_key("Cargo.toml"), "{} is not the repository", root.display());
        Self { files }
    }

    /// A tree of files that exist only in memory.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files =
            files.iter().map(|&(path, text)| (path.to_owned(), File::new(path, text.to_owned(), false)));
        Self { files: files.collect() }
    }

    /// Each file with its path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Each Rust file with its path and kind.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, Kind, &Rust)> {
        self.files().filter_map(|(path, file)| Some((path, kind(path), file.rust.as_ref()?)))
    }

    /// Each file whose name ends in `ending`.
    pub(crate) fn ending_in<'tree>(
        &'tree self,
        ending: &'tree str,
    ) -> impl Iterator<Item = (&'tree str, &'tree File)> {
        self.files().filter(move |(path, _)| path.ends_with(ending))
    }

    /// Whether `path` is a file or a folder with files.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.contains_key(path)
            || self.files.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl File {
    fn new(path: &str, text: String, is_executable: bool) -> Self {
        let rust = path.ends_with(".rs").then(|| Rust::parse(&text));
        Self { text, is_executable, rust }
    }
}

/// What the Rust file at `path` is for.
fn kind(path: &str) -> Kind {
    let has_folder =
        |name: &str| path.starts_with(&format!("{name}/")) || path.contains(&format!("/{name}/"));
    if has_folder("benches") || has_folder("examples") {
        Kind::Demonstration
    } else if has_folder("tests") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
        Kind::Test
    } else {
        Kind::Product
    }
}

/// Folders that hold nothing of ours: what is built, what a node keeps, what a package client fetched.
const FOREIGN_FOLDERS: &[&str] = &["target", "state", "node_modules", "__pycache__", "shared"];

/// The only folders with a dot in front that are ours.
const DOT_FOLDERS: &[&str] = &[".ci", ".config", ".github"];

fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap_or_else(|error| panic!("{path}: {error}"));
        if kind.is_dir() {
            let is_ours = !FOREIGN_FOLDERS.contains(&name.as_str())
                && (!name.starts_with('.') || DOT_FOLDERS.contains(&name.as_str()))
                // A build folder under another name says so itself.
                && !entry.path().join("CACHEDIR.TAG").exists();
            if is_ours {
                walk(&entry.path(), &format!("{path}/"), files);
            }
        } else if kind.is_file() && name != ".git" {
            // What is not text (a model, a picture) has no lines to check.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                let file = File::new(&path, text, is_executable(&entry.path()));
                files.insert(path, file);
            }
        }
    }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_path: &Path) -> bool {
    true
}
