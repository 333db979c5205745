//! A blob's hash: its name, and the running one of what arrives.
//!
//! Owns the hashing and the thread on which it is done. Refuses to know whether the outcome is the right one.

use std::fmt;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};
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

/// The first part of a blob, from an earlier attempt, as it lies here now. BLOB-5: it can only be had by
/// reading it again, so that what was changed meanwhile is noticed.
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

/// Buffers of one blob: one is filled, and as many wait to be hashed as bridge the moments in which the other
/// thread gets no core. They are up to 1 MiB.
const BUFFERS_MAX: usize = 4;

/// A buffer, and how much of it is filled.
type Filled = (Vec<u8>, usize);

/// Hashes buffers on another thread while the next one is filled. A job ends with what there is for it: it
/// waits for nobody, and so keeps no thread from others.
pub(super) struct Hasher {
    /// `None` while a job has it, and after one was lost.
    hash: Option<BlobHash>,
    job: Option<JoinHandle<(BlobHash, Vec<Filled>)>>,
    /// Wait for the next job.
    waiting: Vec<Filled>,
    free: Vec<Vec<u8>>,
    /// Buffers that there are, the one that is filled included.
    buffers: usize,
}

/// The thread on which the hash was computed is gone: the runtime ends.
#[derive(Debug)]
pub(super) struct HashLost;

impl Hasher {
    pub(super) fn new(kept: KeptPart) -> Self {
        Self { hash: Some(kept.hash), job: None, waiting: Vec::new(), free: Vec::new(), buffers: 1 }
    }

    /// Hashes the first `filled` bytes of `buffer`, which is this one's from then on.
    pub(super) async fn hash(&mut self, buffer: Vec<u8>, filled: usize) -> Result<(), HashLost> {
        if let Some(hash) = &mut self.hash
            && filled <= INLINE_BYTES
        {
            hash.update(&buffer[..filled]);
            self.free.push(buffer);
            return Ok(());
        }
        self.waiting.push((buffer, filled));
        if self.job.as_ref().is_none_or(JoinHandle::is_finished) {
            self.next_job().await?;
        }
        Ok(())
    }

    /// A buffer to be filled next: of `length` bytes, which never grows, or longer where one is used again.
    pub(super) async fn buffer(&mut self, length: usize) -> Result<Vec<u8>, HashLost> {
        if self.free.is_empty() && self.buffers >= BUFFERS_MAX {
            self.next_job().await?;
        }
        if let Some(free) = self.free.pop() {
            return Ok(free);
        }
        self.buffers += 1;
        Ok(vec![0; length])
    }

    pub(super) async fn finish(mut self) -> Result<BlobId, HashLost> {
        while self.job.is_some() || !self.waiting.is_empty() {
            self.next_job().await?;
        }
        Ok(self.hash.ok_or(HashLost)?.finish())
    }

    /// Waits for the job that runs, and begins one with all that waits.
    async fn next_job(&mut self) -> Result<(), HashLost> {
        if let Some(job) = self.job.take() {
            let (hash, done) = job.await.map_err(|_| HashLost)?;
            self.hash = Some(hash);
            self.free.extend(done.into_iter().map(|(buffer, _)| buffer));
        }
        if !self.waiting.is_empty() {
            let mut hash = self.hash.take().ok_or(HashLost)?;
            let filled = std::mem::take(&mut self.waiting);
            self.job = Some(tokio::task::spawn_blocking(move || {
                for (buffer, filled) in &filled {
                    hash.update(&buffer[..*filled]);
                }
                (hash, filled)
            }));
        }
        Ok(())
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
            hasher.hash(buffer, part.len()).await.unwrap();
            buffer = hasher.buffer(100_000).await.unwrap();
            assert_eq!(buffer.len(), 100_000);
            assert!(hasher.buffers <= BUFFERS_MAX);
        }
        assert_eq!(hasher.finish().await.unwrap(), BlobId::of(&body));
    }
}
