//! The bytes of an import: from a source that may misbehave into a file of ours, hashed on the way.
//!
//! Owns the unfinished file, the copying and the hashing. Refuses to know about names and manifests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use sha2::{Digest, Sha256};

use super::super::record::ModelHash;
use super::import::ImportError;
use super::source::Source;

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// What it is doing.
    pub phase: ImportPhase,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes to do in this phase: the file's length.
    pub total_bytes: u64,
}

/// What an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportPhase {
    /// Hashing the source, because a model of the same length is in the store already.
    Comparing,
    /// Copying and hashing, or hashing a copy that the file system made without moving bytes.
    Copying,
    /// Waiting until the disk has everything: `done_bytes` is the length.
    Flushing,
}

/// Asked for every chunk; `Break` cancels the import.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(ImportProgress) -> ControlFlow<()>;

/// Read, hashed and written at once: large enough that system calls vanish, small enough that a cancel is
/// heard at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks between the reader and the writer: the writer may fall this far behind.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Bytes after which the disk is made to start: it then works while the rest is hashed, and a large import
/// does not fill the page cache with what is still to be written.
const FLUSH_EVERY_BYTES: u64 = 16 << 20;

/// Left free besides the model: the node's database and logs live on the same disk.
pub(super) const SPACE_MARGIN_BYTES: u64 = 64 << 20;

/// A file of the store that has no name yet. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct PartFile {
    path: PathBuf,
    file: File,
    named: bool,
}

/// Begins the name of an unfinished file; the process id is for people who look into the folder.
const PART_PREFIX: &str = ".import-";

impl PartFile {
    /// Creates an unfinished file in `folder` and locks it, so that sweeps of other processes leave it alone.
    /// The caller holds the store's lock: between creation and lock a sweep would take it for abandoned.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let unique = base16ct::lower::encode_string(&random);
        let path = folder.join(format!("{PART_PREFIX}{}-{unique}.part", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let part = Self { path, file, named: false };
        part.file.lock()?;
        Ok(part)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From the start.
    pub(super) fn reader(&mut self) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }

    /// Brings the source's content in and returns its hash: by sharing its blocks where the file system can,
    /// else by copying.
    pub(super) fn fill(
        &mut self,
        source: &mut Source,
        on_progress: OnProgress<'_>,
    ) -> Result<ModelHash, ImportError> {
        source.rewind()?;
        let hash = if self.share_blocks(source) {
            self.hash(source, on_progress)?
        } else {
            check_space(&self.path, source.len())?;
            self.copy(source, on_progress)?
        };
        source.check_unchanged()?;
        Ok(hash)
    }

    /// Asks the file system for a copy that shares its blocks (XFS, btrfs, bcachefs): it takes no time and no
    /// space.
    #[cfg(target_os = "linux")]
    fn share_blocks(&mut self, source: &Source) -> bool {
        // Any refusal (other file system, other mount, not supported) leads to the copy, which reports real
        // trouble.
        rustix::fs::ioctl_ficlone(&self.file, source.file()).is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn share_blocks(&mut self, _source: &Source) -> bool {
        false
    }

    fn hash(&mut self, source: &Source, on_progress: OnProgress<'_>) -> Result<ModelHash, ImportError> {
        let path = self.path.clone();
        let unreadable = |source| ImportError::Write { path: path.clone(), source };
        let found = self.file.metadata().map_err(unreadable)?.len();
        if found != source.len() {
            return Err(source.changed(found));
        }
        let progress =
            ImportProgress { phase: ImportPhase::Copying, done_bytes: 0, total_bytes: source.len() };
        hash_reader(&mut self.file, progress, on_progress, unreadable)
    }

    /// Reads and hashes here, writes on a second thread and flushes on a third: the slowest of them sets the
    /// pace.
    fn copy(&mut self, source: &mut Source, on_progress: OnProgress<'_>) -> Result<ModelHash, ImportError> {
        let output = &self.file;
        let (to_writer, filled) = mpsc::sync_channel::<Vec<u8>>(CHUNKS_IN_FLIGHT);
        let (to_reader, emptied) = mpsc::sync_channel::<Vec<u8>>(CHUNKS_IN_FLIGHT + 2);
        // One request may wait: more would ask for the same.
        let (to_flusher, flushes) = mpsc::sync_channel::<()>(1);
        let copied = std::thread::scope(|scope| {
            let thread = || std::thread::Builder::new().name("model-import".to_owned());
            let flusher = thread().spawn_scoped(scope, move || flush_when_asked(output, &flushes))?;
            let writer = thread()
                .spawn_scoped(scope, move || write_chunks(output, &filled, &to_reader, &to_flusher))?;
            let read = read_chunks(source, &emptied, &to_writer, on_progress);
            // The writer ends when nobody can send it anything, and the flusher with the writer.
            drop(to_writer);
            // A panic there would be a defect of ours; the import fails and leaves nothing.
            let panicked = |_| Err(io::Error::other("a thread of the import panicked"));
            // Their errors come first: the reader only noticed that nobody takes its chunks.
            writer.join().unwrap_or_else(panicked)?;
            flusher.join().unwrap_or_else(panicked)?;
            Ok(read)
        });
        copied.map_err(|e| write_error(&self.path, e)).flatten()
    }

    /// Waits until the disk has everything, and makes the file read-only.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut permissions = self.file.metadata()?.permissions();
        permissions.set_readonly(true);
        self.file.set_permissions(permissions)?;
        self.file.sync_all()
    }

    /// Gives it its final name.
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: what stays is swept when the store is opened next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read_chunks(
    source: &mut Source,
    emptied: &mpsc::Receiver<Vec<u8>>,
    to_writer: &mpsc::SyncSender<Vec<u8>>,
    on_progress: OnProgress<'_>,
) -> Result<ModelHash, ImportError> {
    let total_bytes = source.len();
    let mut hasher = Sha256::new();
    let mut done_bytes = 0;
    while done_bytes < total_bytes {
        report(on_progress, ImportProgress { phase: ImportPhase::Copying, done_bytes, total_bytes })?;
        let mut chunk = emptied.try_recv().unwrap_or_default();
        let length = (total_bytes - done_bytes).min(CHUNK_BYTES as u64);
        chunk.clear();
        chunk.reserve(CHUNK_BYTES);
        let got = source.file().take(length).read_to_end(&mut chunk).map_err(|e| source.unreadable(e))?;
        if got as u64 != length {
            return Err(source.changed(done_bytes + got as u64));
        }
        hasher.update(&chunk);
        done_bytes += length;
        if to_writer.send(chunk).is_err() {
            // The writer has failed and says why itself.
            return Err(ImportError::Cancelled);
        }
    }
    report(on_progress, ImportProgress { phase: ImportPhase::Copying, done_bytes, total_bytes })?;
    Ok(ModelHash::from_digest(&hasher.finalize().into()))
}

fn write_chunks(
    mut output: &File,
    filled: &mpsc::Receiver<Vec<u8>>,
    to_reader: &mpsc::SyncSender<Vec<u8>>,
    to_flusher: &mpsc::SyncSender<()>,
) -> io::Result<()> {
    let mut unflushed = 0;
    for chunk in filled {
        output.write_all(&chunk)?;
        unflushed += chunk.len() as u64;
        if unflushed >= FLUSH_EVERY_BYTES {
            // When a request waits already, this one is part of it.
            let _ = to_flusher.try_send(());
            unflushed = 0;
        }
        // Nobody may take it any more: then it is dropped.
        let _ = to_reader.try_send(chunk);
    }
    Ok(())
}

/// An error must come from here: the system reports a failed write of an open file only once.
fn flush_when_asked(output: &File, flushes: &mpsc::Receiver<()>) -> io::Result<()> {
    for () in flushes {
        output.sync_data()?;
    }
    Ok(())
}

/// Hashes with progress. The caller knows whose file it is, and says so by `failed`.
pub(super) fn hash_reader(
    reader: &mut impl Read,
    mut progress: ImportProgress,
    on_progress: OnProgress<'_>,
    failed: impl FnOnce(io::Error) -> ImportError,
) -> Result<ModelHash, ImportError> {
    let hashed = digest(reader, |done_bytes| {
        progress.done_bytes = done_bytes;
        report(on_progress, progress).map_err(|_| Interrupted::Cancelled)
    });
    hashed.map_err(|e| match e {
        Interrupted::Cancelled => ImportError::Cancelled,
        Interrupted::Failed(e) => failed(e),
    })
}

/// Why hashing ended early.
enum Interrupted {
    Cancelled,
    Failed(io::Error),
}

impl From<io::Error> for Interrupted {
    fn from(e: io::Error) -> Self {
        Self::Failed(e)
    }
}

/// Hashes a whole file.
pub(super) fn hash_file(path: &Path) -> io::Result<ModelHash> {
    digest(&mut File::open(path)?, |_| Ok(()))
}

/// Hashes all that `reader` gives; `on_bytes` hears how much that is so far.
fn digest<E: From<io::Error>>(
    reader: &mut impl Read,
    mut on_bytes: impl FnMut(u64) -> Result<(), E>,
) -> Result<ModelHash, E> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut done = 0;
    loop {
        on_bytes(done)?;
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(ModelHash::from_digest(&hasher.finalize().into())),
            Ok(got) => {
                hasher.update(chunk.get(..got).unwrap_or_default());
                done += got as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Tells the caller, who may cancel.
pub(super) fn report(on_progress: OnProgress<'_>, progress: ImportProgress) -> Result<(), ImportError> {
    match on_progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ImportError::Cancelled),
    }
}

/// Tells a full disk from other trouble.
pub(super) fn write_error(path: &Path, source: io::Error) -> ImportError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ImportError::DiskFull { path: folder_of(path), source }
        }
        _ => ImportError::Write { path: folder_of(path), source },
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// Refuses before the first byte when the disk cannot hold the file.
#[cfg(target_os = "linux")]
fn check_space(path: &Path, needed: u64) -> Result<(), ImportError> {
    let folder = folder_of(path);
    // A file system that does not answer is tried: a full disk then shows while writing.
    let Ok(disk) = rustix::fs::statvfs(&folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    enough_space(&folder, needed, free)
}

/// Where the free space cannot be asked for, a full disk shows while writing.
#[cfg(not(target_os = "linux"))]
fn check_space(_path: &Path, _needed: u64) -> Result<(), ImportError> {
    Ok(())
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux is asked for its free space"))]
pub(super) fn enough_space(folder: &Path, needed: u64, free: u64) -> Result<(), ImportError> {
    if free >= needed.saturating_add(SPACE_MARGIN_BYTES) {
        return Ok(());
    }
    Err(ImportError::NoSpace { path: folder.to_owned(), needed, free })
}

/// Whether a file name is that of an unfinished import.
pub(super) fn is_part(name: &str) -> bool {
    name.starts_with(PART_PREFIX)
}

/// Whether the importer of an unfinished file is dead: a living one holds its lock.
pub(super) fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}
