//! A blob's hash: its name, and the running one of what arrives.
//!
//! Owns the hashing and the thread on which it is done. Refuses to know whether the outcome is the right one.

use std::fmt;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::CHUNK_BYTES;

/// What names a blob: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// The blob with this hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = BlobHash::new();
        hash.update(bytes);
        hash.finish()
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

/// The hash of what there is so far.
#[derive(Clone)]
struct BlobHash {
    context: Context,
    bytes: u64,
}

impl BlobHash {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), bytes: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn finish(self) -> BlobId {
        let mut id = [0; 32];
        id.copy_from_slice(self.context.finish().as_ref());
        BlobId(id)
    }
}

/// The first part of a blob, from an earlier attempt, as it lies here now. BLOB-5: it can only be had by reading it again, so that what was changed meanwhile is noticed.
#[derive(Clone)]
pub struct KeptPart {
    hash: BlobHash,
}

impl KeptPart {
    /// There is none.
    #[must_use]
    pub fn none() -> Self {
        Self { hash: BlobHash::new() }
    }

    /// Everything that `reader` gives, read on a thread that may wait.
    ///
    /// # Errors
    /// What the reader says.
    pub async fn read(mut reader: impl Read + Send + 'static) -> io::Result<Self> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut hash = BlobHash::new();
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return Ok(Self { hash }),
                    Ok(count) => hash.update(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        reading.await.map_err(io::Error::other)?
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.hash.bytes
    }
}

impl fmt::Debug for KeptPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptPart").field("bytes", &self.bytes()).finish()
    }
}

/// Waking another thread takes as long as hashing so many bytes.
const INLINE_BYTES: usize = 16 * 1024;

/// Buffers of one blob: one is filled, and as many wait to be hashed as bridge the moments in which the other thread gets no core.
const BUFFERS_MAX: usize = 4;

/// Hashes what arrives on another thread, while more is read. It is begun with the first large buffer.
pub(super) struct Hasher {
    state: State,
}

enum State {
    Idle(BlobHash),
    Busy(Worker),
    /// The thread was lost.
    Lost,
}

/// A thread that hashes full buffers, and gives them back.
struct Worker {
    full: mpsc::Sender<(Vec<u8>, usize)>,
    free: mpsc::Receiver<Vec<u8>>,
    /// Buffers that were made.
    buffers: usize,
    job: JoinHandle<BlobHash>,
}

/// The thread on which the hash was computed is gone: the runtime ends.
#[derive(Debug)]
pub(super) struct HashLost;

impl Hasher {
    pub(super) fn new(kept: KeptPart) -> Self {
        Self { state: State::Idle(kept.hash) }
    }

    /// Hashes the first `filled` bytes of `buffer`, and gives back a buffer of the same length for the next ones.
    pub(super) async fn hash(&mut self, buffer: Vec<u8>, filled: usize) -> Result<Vec<u8>, HashLost> {
        let mut worker = match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(mut hash) if filled <= INLINE_BYTES => {
                hash.update(&buffer[..filled]);
                self.state = State::Idle(hash);
                return Ok(buffer);
            }
            State::Idle(hash) => Worker::start(hash),
            State::Busy(worker) => worker,
            State::Lost => return Err(HashLost),
        };
        let next = worker.swap(buffer, filled).await?;
        self.state = State::Busy(worker);
        Ok(next)
    }

    pub(super) async fn finish(self) -> Result<BlobId, HashLost> {
        let hash = match self.state {
            State::Idle(hash) => hash,
            State::Busy(Worker { full, job, .. }) => {
                drop(full);
                job.await.map_err(|_| HashLost)?
            }
            State::Lost => return Err(HashLost),
        };
        Ok(hash.finish())
    }
}

impl Worker {
    fn start(mut hash: BlobHash) -> Self {
        let (full, mut to_hash) = mpsc::channel::<(Vec<u8>, usize)>(BUFFERS_MAX);
        let (freed, free) = mpsc::channel(BUFFERS_MAX);
        let job = tokio::task::spawn_blocking(move || {
            while let Some((buffer, filled)) = to_hash.blocking_recv() {
                hash.update(&buffer[..filled]);
                // There is room for all of them, unless nobody wants them any more.
                drop(freed.try_send(buffer));
            }
            hash
        });
        Self { full, free, buffers: 1, job }
    }

    async fn swap(&mut self, buffer: Vec<u8>, filled: usize) -> Result<Vec<u8>, HashLost> {
        let length = buffer.len();
        self.full.send((buffer, filled)).await.map_err(|_| HashLost)?;
        if let Ok(free) = self.free.try_recv() {
            return Ok(free);
        }
        if self.buffers < BUFFERS_MAX {
            self.buffers += 1;
            return Ok(vec![0; length]);
        }
        self.free.recv().await.ok_or(HashLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_by_its_sha_256() {
        // BLOB-2: the hash of `abc` in FIPS 180-2.
        let id = BlobId::of(b"abc");
        assert_eq!(id.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(BlobId::from_bytes(id.as_bytes()), id);
    }

    #[tokio::test]
    async fn the_hash_of_many_buffers_is_that_of_their_bytes() {
        // BLOB-5
        let body: Vec<u8> = (0..700_000_u32).map(|index| (index / 7) as u8).collect();
        let mut hasher =
            Hasher::new(KeptPart::read(io::Cursor::new(body[..123_456].to_vec())).await.unwrap());
        let mut buffer = vec![0; 100_000];
        for part in body[123_456..].chunks(100_000) {
            buffer[..part.len()].copy_from_slice(part);
            buffer = hasher.hash(buffer, part.len()).await.unwrap();
            assert_eq!(buffer.len(), 100_000);
        }
        assert_eq!(hasher.finish().await.unwrap(), BlobId::of(&body));
    }
}
