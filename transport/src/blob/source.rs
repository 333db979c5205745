//! Where blobs come from.
//!
//! Owns the port. Refuses to know what stands behind it.

use std::fmt;
use std::io::{Read, Seek};

use super::hash::BlobId;

/// The bytes of a blob.
pub trait BlobContent: Read + Seek + Send {}

impl<T: Read + Seek + Send> BlobContent for T {}

/// A blob that is offered.
pub struct Blob {
    /// How many bytes it has.
    pub length: u64,
    /// The bytes, from the first on. They need not be hashed: whoever gets them does that.
    pub content: Box<dyn BlobContent>,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("length", &self.length).finish_non_exhaustive()
    }
}

/// The blobs that a node offers to every member of its cluster.
///
/// It is asked and read on threads that may wait. Dropping the content ends the reading.
pub trait BlobSource: Send + Sync + 'static {
    /// The blob with this hash. `None`: it is not offered, whether it is here or not.
    fn open(&self, id: BlobId) -> Option<Blob>;
}

/// Offers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBlobs;

impl BlobSource for NoBlobs {
    fn open(&self, _id: BlobId) -> Option<Blob> {
        None
    }
}
