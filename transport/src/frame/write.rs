//! Writing frames.
//!
//! Owns one buffer that many frames are written into before it is sent, and used again after. Refuses to know when it is sent.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use super::{
    AT_LENGTH, FLAG_TRACE, Header, MAGIC, MAJOR, MINOR, Malformed, NO_DEADLINE, PREFIX_BYTES, Trace,
};
use crate::codec::{self, BODY_BYTES_MAX, EncodeError};

/// A frame was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Its body does not fit or cannot be encoded.
    #[error(transparent)]
    Body(#[from] EncodeError),
    /// Its header would be refused by the peer.
    #[error("this frame cannot be written: {0}")]
    Header(Malformed),
}

/// Collects frames.
///
/// ```
/// use arw_transport::frame::{FrameWriter, Header, Kind, MessageType, Parsed, TargetActor, parse};
///
/// let header = Header {
///     kind: Kind::Tell, target: TargetActor(7), incarnation: 1, call: None,
///     message: MessageType(3), deadline_ms: None, trace: None,
/// };
/// let mut writer = FrameWriter::with_capacity(4096);
/// writer.write(&header, b"hello").unwrap();
/// let bytes = writer.take();
/// let Ok(Parsed::Frame { header: read, body }) = parse(&bytes, |_| true) else { panic!() };
/// assert_eq!((read, &bytes[body]), (header, &b"hello"[..]));
/// ```
#[derive(Debug)]
pub struct FrameWriter {
    buffer: BytesMut,
}

impl FrameWriter {
    /// A writer with room for so many bytes before its buffer must grow.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(bytes) }
    }

    /// Adds a frame with these bytes as its body.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is added then.
    pub fn write(&mut self, header: &Header, body: &[u8]) -> Result<(), WriteError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(EncodeError::TooLong { max: BODY_BYTES_MAX }.into());
        }
        let start = self.begin(header)?;
        self.buffer.put_slice(body);
        self.end(start);
        Ok(())
    }

    /// Adds a frame with `value`, encoded, as its body.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is added then.
    pub fn write_value<T: Serialize + ?Sized>(
        &mut self,
        header: &Header,
        value: &T,
    ) -> Result<(), WriteError> {
        let start = self.begin(header)?;
        let unfinished = Unfinished { buffer: &mut self.buffer, start };
        codec::encode_into(value, &mut *unfinished.buffer)?;
        std::mem::forget(unfinished);
        self.end(start);
        Ok(())
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// All frames so far. Their memory is used again for later ones once they are dropped.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn begin(&mut self, header: &Header) -> Result<usize, WriteError> {
        if let Some((_, what)) = header.fault() {
            return Err(WriteError::Header(what));
        }
        let start = self.buffer.len();
        let flags = if header.trace.is_some() { FLAG_TRACE } else { 0 };
        let (slot, generation) = header.call.map_or((0, 0), |call| (call.slot, call.generation.get()));
        // Put together first, so that the buffer grows once: about twice as fast as field by field.
        let mut fixed = [0; super::HEADER_BYTES];
        fixed[..4].copy_from_slice(&[MAGIC, MAJOR << 4 | MINOR, header.kind as u8, flags]);
        fixed[8..16].copy_from_slice(&header.target.0.to_le_bytes());
        fixed[16..24].copy_from_slice(&header.incarnation.to_le_bytes());
        fixed[24..28].copy_from_slice(&slot.to_le_bytes());
        fixed[28..32].copy_from_slice(&generation.to_le_bytes());
        fixed[32..36].copy_from_slice(&header.message.0.to_le_bytes());
        // The longest deadline that can be written is one less than the word for none: 49 days.
        let deadline = header.deadline_ms.map_or(NO_DEADLINE, |ms| ms.min(NO_DEADLINE - 1));
        fixed[36..40].copy_from_slice(&deadline.to_le_bytes());
        self.buffer.put_slice(&fixed);
        if let Some(Trace { trace_id, span_id, flags }) = header.trace {
            self.buffer.put_slice(&trace_id);
            self.buffer.put_slice(&span_id);
            self.buffer.put_u8(flags);
        }
        Ok(start)
    }

    fn end(&mut self, start: usize) {
        let length = self.buffer.len() - start - PREFIX_BYTES;
        // At most `FRAME_BYTES_MAX`, which fits by far.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let at = start + AT_LENGTH;
        self.buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Takes a frame away that was not written to its end, even where a panic ends it: half a frame would make all that follow unreadable.
struct Unfinished<'buffer> {
    buffer: &'buffer mut BytesMut,
    start: usize,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.start);
    }
}
