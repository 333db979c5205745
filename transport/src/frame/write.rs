//! Writing frames.
//!
//! Owns one buffer that many frames are written into before it is sent, and what the last of them was
//! addressed to. Refuses to know when it is sent.

use bytes::Bytes;
use serde::Serialize;

use super::{
    ADDRESS_BYTES, ASK, AT_CALL, AT_LENGTH, Address, CALL_BYTES, CANCEL, CallId, DEADLINE_BYTES, HAS_TRACE,
    HEADER_BYTES_MAX, Header, MARK, MINOR, PREFIX_BYTES, REFUSAL, REPLY, SAME_ADDRESS, TAKEN, TAKEN_BYTES,
    TELL, TRACE_BYTES, Trace,
};
use crate::codec::{self, BODY_BYTES_MAX, EncodeError};

/// Collects the frames of one lane.
///
/// ```
/// use arw_transport::frame::{Address, FrameReader, FrameWriter, Header, MessageType, Parsed, TargetActor};
///
/// let to = Address { actor: TargetActor(7), message: MessageType(3) };
/// let header = Header::Tell { to, trace: None };
/// let mut writer = FrameWriter::with_capacity(4096);
/// writer.write(&header, b"hello").unwrap();
/// let bytes = writer.take();
/// let Ok(Parsed::Frame { header: read, body }) = FrameReader::default().read(&bytes) else { panic!() };
/// assert_eq!((read, &bytes[body]), (header, &b"hello"[..]));
/// ```
#[derive(Debug)]
pub struct FrameWriter {
    buffer: Vec<u8>,
    /// What the reader takes for the address of a frame that has none.
    last: Option<Address>,
}

/// What is shorter is copied when it is taken, which costs less than a new buffer and leaves no large one
/// with who sends it.
const COPIED_BYTES_MAX: usize = 2 * 1024;

impl FrameWriter {
    /// A writer with room for so many bytes before its buffer must grow.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), last: None }
    }

    /// Adds a frame with these bytes as its body.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing is added then.
    pub fn write(&mut self, header: &Header, body: &[u8]) -> Result<(), EncodeError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(EncodeError::TooLong { max: BODY_BYTES_MAX });
        }
        let start = self.begin(header);
        self.buffer.extend_from_slice(body);
        self.end(start, header);
        Ok(())
    }

    /// Adds a frame with `value`, encoded, as its body, and returns how many bytes that takes.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing is added then.
    #[inline]
    pub fn write_value<T: Serialize + ?Sized>(
        &mut self,
        header: &Header,
        value: &T,
    ) -> Result<usize, EncodeError> {
        let start = self.begin(header);
        let unfinished = Unfinished { buffer: &mut self.buffer, start };
        let bytes = codec::encode_into(value, &mut *unfinished.buffer)?;
        std::mem::forget(unfinished);
        self.end(start, header);
        Ok(bytes)
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

    /// All frames so far.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        if self.buffer.len() <= COPIED_BYTES_MAX {
            let taken = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
            return taken;
        }
        let next = Vec::with_capacity(self.buffer.capacity());
        std::mem::replace(&mut self.buffer, next).into()
    }

    #[inline]
    fn begin(&mut self, header: &Header) -> usize {
        let start = self.buffer.len();
        let mut fixed = [0; HEADER_BYTES_MAX];
        let bytes = self.put(header, &mut fixed);
        // The whole of it, and the rest away again: a length that the compiler knows is copied without a
        // call.
        self.buffer.extend_from_slice(&fixed);
        self.buffer.truncate(start + bytes);
        start
    }

    /// Everything but the length. Returns how many bytes the header takes.
    #[inline]
    fn put(&self, header: &Header, fixed: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        fixed[0] = MARK | MINOR;
        let mut at = PREFIX_BYTES;
        let (kind, to, trace) = match header {
            Header::Tell { to, trace } => (TELL, Some(to), trace.as_ref()),
            Header::Ask { to, trace, call, .. } => {
                at = put_call(*call, fixed);
                (ASK, Some(to), trace.as_ref())
            }
            Header::Reply { call } => {
                at = put_call(*call, fixed);
                (REPLY, None, None)
            }
            Header::Refusal { call } => {
                at = put_call(*call, fixed);
                (REFUSAL, None, None)
            }
            Header::Cancel { call } => {
                at = put_call(*call, fixed);
                (CANCEL, None, None)
            }
            Header::Taken { actor, tells, bytes } => {
                fixed[at..at + 8].copy_from_slice(&actor.0.to_le_bytes());
                fixed[at + 8..at + 12].copy_from_slice(&tells.to_le_bytes());
                fixed[at + 12..at + TAKEN_BYTES].copy_from_slice(&bytes.to_le_bytes());
                at += TAKEN_BYTES;
                (TAKEN, None, None)
            }
        };
        let mut flags = 0;
        match to {
            Some(to) if self.last == Some(*to) => flags |= SAME_ADDRESS,
            Some(Address { actor, message }) => {
                fixed[at..at + 8].copy_from_slice(&actor.0.to_le_bytes());
                fixed[at + 8..at + ADDRESS_BYTES].copy_from_slice(&message.0.to_le_bytes());
                at += ADDRESS_BYTES;
            }
            None => {}
        }
        if let Header::Ask { deadline_ms, .. } = header {
            fixed[at..at + DEADLINE_BYTES].copy_from_slice(&deadline_ms.to_le_bytes());
            at += DEADLINE_BYTES;
        }
        if let Some(Trace { trace_id, span_id, flags: trace_flags }) = trace {
            flags |= HAS_TRACE;
            fixed[at..at + 16].copy_from_slice(trace_id);
            fixed[at + 16..at + 24].copy_from_slice(span_id);
            fixed[at + 24] = *trace_flags;
            at += TRACE_BYTES;
        }
        fixed[super::AT_KIND] = kind | flags;
        at
    }

    #[inline]
    fn end(&mut self, start: usize, header: &Header) {
        let length = self.buffer.len() - start - PREFIX_BYTES;
        // At most `FRAME_BYTES_MAX`, which fits into three bytes by far.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let at = start + AT_LENGTH;
        self.buffer[at..at + 3].copy_from_slice(&length[..3]);
        if let Header::Tell { to, .. } | Header::Ask { to, .. } = header {
            self.last = Some(*to);
        }
    }
}

#[inline]
fn put_call(call: CallId, fixed: &mut [u8; HEADER_BYTES_MAX]) -> usize {
    fixed[AT_CALL..AT_CALL + 4].copy_from_slice(&call.slot.to_le_bytes());
    fixed[AT_CALL + 4..AT_CALL + CALL_BYTES].copy_from_slice(&call.generation.get().to_le_bytes());
    AT_CALL + CALL_BYTES
}

/// Takes a frame away that was not written to its end, even where a panic ends it: half a frame would make
/// all that follow unreadable.
struct Unfinished<'buffer> {
    buffer: &'buffer mut Vec<u8>,
    start: usize,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn short_batches_leave_the_buffer_where_it_is_and_long_ones_take_it_along() {
        let mut writer = FrameWriter::with_capacity(16 * 1024);
        let header = Header::Reply { call: CallId { slot: 1, generation: NonZeroU32::MIN } };
        let place = writer.buffer.as_ptr();
        for _ in 0..1000 {
            writer.write(&header, &[7; 100]).unwrap();
            assert_eq!(writer.take().len(), 113);
            assert_eq!(writer.buffer.as_ptr(), place);
        }
        writer.write(&header, &[7; COPIED_BYTES_MAX]).unwrap();
        assert_eq!(writer.take().as_ptr(), place);
        assert!(writer.buffer.capacity() >= 16 * 1024);
    }
}
