//! Blobs between nodes: large bodies that are named by their hash.
//!
//! Owns how one is asked for, sent and checked; `spec/blobs.md` has the rules. Refuses to know what a blob
//! is, where it lies and where it goes: that is behind [`BlobSource`] and the sink of [`fetch`].
//!
//! ```text
//! fetch ── request ──────────────────────────────► BlobServer ── admission ── BlobSource
//!   │  ◄── answer, then the bytes (low priority) ──── read ahead on another thread
//!   ├── sink
//!   └── hash, on another thread
//! ```
//!
//! On a node a [`BlobServer`] gets the streams of
//! [`StreamPurpose::Blob`](crate::endpoint::StreamPurpose::Blob) from its
//! [`PeerServices`](crate::endpoint::PeerServices), and [`fetch`] one from
//! [`EndpointHandle::open`](crate::endpoint::EndpointHandle::open).

mod admission;
mod protocol;
mod reception;

mod fetch;
mod hash;

mod serve;
mod source;

pub use admission::ServeLimits;
pub use fetch::{FetchError, Progress, WantedBlob, fetch};
pub use hash::{BlobId, KeptPart};
pub use protocol::{ANSWER_BYTES, Answer, AnswerError, REQUEST_BYTES, Request};
pub use reception::{Fetched, Reception};
pub use serve::{BlobServer, ServeCounters};
pub use source::{Blob, BlobContent, BlobSource, NoBlobs};

use std::time::Duration;

/// Read, sent, hashed and written at once: large enough that the hand-over between threads vanishes, small
/// enough to stay in a core's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// BLOB-6: how long either side waits for the other one to go on. A connection that is gone is noticed after
/// 3 s; this is for a peer that is there and does nothing.
pub const STALL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
