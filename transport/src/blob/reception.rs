//! What a node takes for the blob that it asked for.
//!
//! Owns every check but the hashing itself. Refuses to read, write and wait.

use super::fetch::FetchError;
use super::hash::BlobId;
use super::protocol::{Answer, AnswerError, Request};

/// A blob that arrived in full, with the right hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the whole blob.
    pub length: u64,
    /// Bytes of it that were there before.
    pub kept: u64,
}

/// A blob on its way in.
///
/// Invariant: `received` never exceeds what the answer promised, which never exceeds the request's limit.
#[derive(Clone, Debug)]
pub struct Reception {
    id: BlobId,
    length: u64,
    from_offset: u64,
    received: u64,
}

impl Reception {
    /// The answer to a request.
    ///
    /// # Errors
    /// [`FetchError::Refused`], [`FetchError::TooLarge`] and [`FetchError::Answer`].
    pub fn begin(request: &Request, answer: Answer) -> Result<Self, FetchError> {
        let (length, from_offset) = match answer {
            Answer::Follows { length, from_offset } => (length, from_offset),
            Answer::Refused { reason, .. } => return Err(FetchError::Refused(reason)),
        };
        // BLOB-4: checked here as well, because the peer may not keep to what it was told.
        if length > request.limit_bytes {
            return Err(FetchError::TooLarge { length, limit: request.limit_bytes });
        }
        if from_offset != request.from_offset || from_offset > length {
            let asked = request.from_offset;
            return Err(FetchError::Answer(AnswerError::Offset { from_offset, asked, length }));
        }
        Ok(Self { id: request.id, length, from_offset, received: 0 })
    }

    /// Bytes of the whole blob.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of it that are there, with those from before.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.from_offset + self.received
    }

    /// Bytes that are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.length - self.present()
    }

    /// So many bytes came. They may be written only when this says so.
    ///
    /// # Errors
    /// [`FetchError::Longer`].
    pub fn take(&mut self, count: usize) -> Result<(), FetchError> {
        let count = count as u64;
        // BLOB-4
        if count > self.remaining() {
            return Err(FetchError::Longer { length: self.length });
        }
        self.received += count;
        Ok(())
    }

    /// The peer has said all.
    ///
    /// # Errors
    /// [`FetchError::Shorter`].
    pub fn end(&self) -> Result<(), FetchError> {
        // BLOB-4
        if self.remaining() == 0 {
            return Ok(());
        }
        Err(FetchError::Shorter { length: self.length, present: self.present() })
    }

    /// Everything is there and has this hash.
    ///
    /// # Errors
    /// [`FetchError::WrongHash`].
    pub fn judge(&self, found: BlobId) -> Result<Fetched, FetchError> {
        // BLOB-5
        if found != self.id {
            return Err(FetchError::WrongHash { wanted: self.id, found, kept: self.from_offset });
        }
        Ok(Fetched { length: self.length, kept: self.from_offset })
    }
}
