//! Manifests: one small JSON file per model.
//!
//! Owns their form and the checks that make a record trustworthy. Refuses to know about names across models.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use arw_kit::ids::check_name;
use serde::{Deserialize, Serialize};

use super::super::record::{ModelHash, ModelRecord};

/// The form of manifests that this program writes. A newer program that changes the meaning of a field counts
/// it up; new fields alone do not, because unknown ones are ignored.
const SCHEMA: u32 = 1;

/// A manifest is under 2 KB; more is not a manifest.
const BYTES_MAX: u64 = 64 << 10;

/// Ends the name of a manifest that is being written.
const UNFINISHED: &str = ".json.new";

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    #[serde(flatten)]
    record: &'a ModelRecord,
}

#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

/// A manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("it was removed meanwhile")]
    Gone,
    #[error("the manifest cannot be read: {0}")]
    Read(io::Error),
    #[error("the manifest is damaged ({0}); remove the model by its hash and import it again")]
    Malformed(String),
    #[error("the manifest has schema {0}, this arw knows {SCHEMA}: a newer arw wrote it; use that one")]
    Newer(u32),
    #[error("the manifest is about {found}; remove the model by its hash and import it again")]
    OtherHash { found: ModelHash },
    #[error("the model file is missing; remove the model by its hash and import it again")]
    FileMissing,
    #[error(
        "the model file has {found} bytes instead of {expected}; remove the model by its hash and import it again"
    )]
    FileLength { expected: u64, found: u64 },
}

/// Reads and checks the manifest at `path` of the file at `file`.
pub(super) fn read(path: &Path, hash: &ModelHash, file: &Path) -> Result<ModelRecord, ManifestError> {
    let open = match File::open(path) {
        Ok(open) => open,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ManifestError::Gone),
        Err(e) => return Err(ManifestError::Read(e)),
    };
    let mut bytes = Vec::new();
    open.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ManifestError::Read)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ManifestError::Malformed(format!("longer than {BYTES_MAX} bytes")));
    }
    let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
    let schema: Schema = serde_json::from_slice(&bytes).map_err(malformed)?;
    match schema.schema {
        SCHEMA => {}
        newer if newer > SCHEMA => return Err(ManifestError::Newer(newer)),
        older => return Err(ManifestError::Malformed(format!("schema {older}"))),
    }
    let record: ModelRecord = serde_json::from_slice(&bytes).map_err(malformed)?;
    for name in std::iter::once(&record.name).chain(&record.aliases) {
        check_name(name).map_err(|e| ManifestError::Malformed(e.to_string()))?;
    }
    if record.sha256 != *hash {
        return Err(ManifestError::OtherHash { found: record.sha256 });
    }
    // A removal takes the manifest first, so this order never sees a file vanish under a manifest that stays.
    let found = fs::metadata(file).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound if !path.exists() => ManifestError::Gone,
        io::ErrorKind::NotFound => ManifestError::FileMissing,
        _ => ManifestError::Read(e),
    })?;
    if found.len() != record.size_bytes || !found.is_file() {
        return Err(ManifestError::FileLength { expected: record.size_bytes, found: found.len() });
    }
    Ok(record)
}

/// Writes a manifest, or replaces one, in one step. The caller holds the store's lock and syncs the folder.
pub(super) fn write(path: &Path, record: &ModelRecord) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
    let result = write_and_rename(&unfinished, path, record);
    if result.is_err() {
        // Best effort: the sweep at the next start removes it otherwise.
        let _ = fs::remove_file(&unfinished);
    }
    result
}

fn write_and_rename(unfinished: &Path, path: &Path, record: &ModelRecord) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(&Written { schema: SCHEMA, record })?;
    text.push(b'\n');
    let mut file = File::create(unfinished)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// Whether a file name is that of a manifest whose writer died. Only meaningful under the store's lock.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}
