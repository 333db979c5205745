//! Reads the bytes of a header in order, and never more than there are.
//!
//! Owns the position, the limits on what a header may claim, and the words for a file that ends too early.
//! Refuses to know what the bytes mean. Skipping allocates nothing, whatever length a file claims.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use super::GgufError;

/// A header is at most this long: the largest known (a vocabulary of 262,144 tokens with merges) takes under
/// 20 MB, so a file that claims more is damaged, and reading on would only waste time.
pub(super) const HEADER_BYTES_MAX: u64 = 256 << 20;

/// Bytes fetched at once: large enough that a 10 MB vocabulary costs few system calls.
const BUFFER_BYTES: usize = 64 << 10;

/// A file being read from its start.
#[derive(Debug)]
pub(super) struct Input<R> {
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R, len: u64) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER_BYTES, inner), at: 0, len }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// How long the file is.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Refuses when fewer than `count` items of at least `item_bytes` each can follow: a wrong count is found
    /// before the loop over it starts.
    pub(super) fn expect(&self, count: u64, item_bytes: u64, what: &str) -> Result<(), GgufError> {
        let needed = count.checked_mul(item_bytes).and_then(|n| n.checked_add(self.at));
        match needed {
            Some(end) if end <= self.len && end <= HEADER_BYTES_MAX => Ok(()),
            Some(end) if end <= self.len => {
                Err(GgufError::TooLarge { what: "a header".to_owned(), value: end, limit: HEADER_BYTES_MAX })
            }
            Some(_) | None => Err(GgufError::Truncated {
                what: what.to_owned(),
                needed: needed.unwrap_or(u64::MAX),
                len: self.len,
            }),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0_u8; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads `count` bytes into memory. The caller has bounded `count`.
    pub(super) fn bytes(&mut self, count: usize, what: &str) -> Result<Vec<u8>, GgufError> {
        self.expect(count as u64, 1, what)?;
        let mut bytes = vec![0_u8; count];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: u64, what: &str) -> Result<(), GgufError> {
        self.expect(count, 1, what)?;
        let mut left = count;
        while left > 0 {
            let had = match self.inner.fill_buf() {
                Ok(had) => had.len(),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(GgufError::Read(e)),
            };
            if had == 0 {
                return Err(self.got_shorter(what));
            }
            let step = had.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.inner.consume(step);
            self.at += step as u64;
            left -= step as u64;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), GgufError> {
        self.expect(bytes.len() as u64, 1, what)?;
        match self.inner.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(self.got_shorter(what)),
            Err(e) => Err(GgufError::Read(e)),
        }
    }

    /// The reader ended before the length it was announced with.
    fn got_shorter(&self, what: &str) -> GgufError {
        GgufError::Truncated { what: what.to_owned(), needed: self.len, len: self.at }
    }
}
