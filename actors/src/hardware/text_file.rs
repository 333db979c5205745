//! Reads the small text files of the kernel, and never more than a bound.
//!
//! Owns the limits and the words for what cannot be read. Refuses to know what the text means.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Files with one value have at most one page.
const VALUE_BYTES_MAX: u64 = 4 << 10;

/// Files with a value per line; a `cpuinfo` of 1,024 processors takes some 2 MB.
const TABLE_BYTES_MAX: u64 = 8 << 20;

/// A file with one value: its text without white space around it. The error says what is wrong, with the
/// path.
pub(super) fn line(path: &Path) -> Result<String, String> {
    let text = read(path, VALUE_BYTES_MAX)?;
    let text = text.trim();
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.to_owned()) }
}

/// A file with one whole number.
pub(super) fn number(path: &Path) -> Result<u64, String> {
    let text = line(path)?;
    text.parse().map_err(|_| format!("{} holds `{}` instead of a number", path.display(), shown(&text)))
}

/// A file with many lines.
pub(super) fn table(path: &Path) -> Result<String, String> {
    read(path, TABLE_BYTES_MAX)
}

/// Text from a file, safe to print and not too long.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn read(path: &Path, limit: u64) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    // Looked at first: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{} is longer than {limit} bytes", path.display()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
