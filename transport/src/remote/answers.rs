//! The many answers to one message, as they are read on the node that asked.
//!
//! Owns one stream, and what is left behind when reading ends: nothing; dropping [`RemoteAnswers`] resets the
//! stream, which tells the actor that nobody reads any more. Refuses to know the actor.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::links::Peer;
use super::protocol::{RemoteAskError, RemoteStream};
use super::serve_answers::ACKNOWLEDGED_BYTES;
use crate::codec;
use crate::endpoint::PeerStream;
use crate::frame::{FrameReader, FrameWriter, Header, Parsed};
use crate::wire::{Refused, ReplyRefusal, StreamRefusal};

/// Reads the answers to one message, see [`RemoteHandle::stream`](super::RemoteHandle::stream).
pub struct RemoteAnswers<S> {
    stream: PeerStream,
    reader: FrameReader,
    bytes: BytesMut,
    /// Bytes of answers that were read and not acknowledged.
    unacknowledged: usize,
    is_over: bool,
    peer: Arc<Peer>,
    incarnation: u64,
    message: PhantomData<fn() -> S>,
}

impl<S> fmt::Debug for RemoteAnswers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAnswers").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Bytes that are read at once.
const PIECE_BYTES: usize = 4 * 1024;

impl<S: RemoteStream> RemoteAnswers<S> {
    /// Asks on a stream of its own, before `deadline`.
    pub(super) async fn ask(
        (mut stream, start): (PeerStream, &[u8]),
        (header, message): (Header, &S),
        (peer, incarnation): (Arc<Peer>, u64),
        deadline: (Instant, Duration),
    ) -> Result<Self, RemoteAskError> {
        let mut frames = FrameWriter::with_capacity(0);
        frames.write_value(&header, message).map_err(RemoteAskError::Write)?;
        let frame = frames.take();
        let asked = timeout_at(deadline.0, async {
            stream.write_all(start).await?;
            stream.write_all(&frame).await
        });
        let asked = asked.await.map_err(|_| RemoteAskError::Expired(deadline.1))?;
        let answers = Self {
            stream,
            reader: FrameReader::default(),
            bytes: BytesMut::new(),
            unacknowledged: 0,
            is_over: false,
            peer,
            incarnation,
            message: PhantomData,
        };
        asked.map_err(|error| answers.lost(&error))?;
        Ok(answers)
    }

    /// The next answer, for which it waits at most `patience`; `None` after the last one, and after an error
    /// other than [`RemoteAskError::Expired`]. Dropped half-way, it loses nothing.
    pub async fn next(&mut self, patience: Duration) -> Option<Result<S::Item, RemoteAskError>> {
        if self.is_over {
            return None;
        }
        let outcome = match tokio::time::timeout(patience, self.read()).await {
            Ok(outcome) => outcome,
            Err(_) => return Some(Err(RemoteAskError::Expired(patience))),
        };
        match outcome {
            Ok(Some(item)) => Some(Ok(item)),
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(error))
            }
        }
    }

    async fn read(&mut self) -> Result<Option<S::Item>, RemoteAskError> {
        self.acknowledge().await;
        loop {
            let missing = match self.reader.read(&self.bytes).map_err(|error| unreadable(&error))? {
                Parsed::Frame { header: Header::Reply { .. }, body } => {
                    let frame = self.bytes.split_to(body.end);
                    self.unacknowledged += frame.len();
                    return codec::decode(&frame[body]).map(Some).map_err(RemoteAskError::Answer);
                }
                Parsed::Frame { header: Header::Refusal { .. }, body } => {
                    let refused = Refused::from_body(&self.bytes[body]).map_err(RemoteAskError::Answer)?;
                    return Err(RemoteAskError::Refused { reason: refused.reason, detail: refused.detail });
                }
                Parsed::Frame {
                    header:
                        header @ (Header::Tell { .. }
                        | Header::Ask { .. }
                        | Header::Cancel { .. }
                        | Header::Taken { .. }),
                    ..
                } => return Err(unreadable(&format!("{header:?}"))),
                Parsed::Refused { refusal, .. } => return Err(unreadable(&refusal)),
                Parsed::Need(missing) => missing,
            };
            self.bytes.reserve(missing.max(PIECE_BYTES));
            let read = self.stream.read_buf(&mut self.bytes).await.map_err(|error| self.lost(&error))?;
            if read == 0 {
                // LANE-15: the end of the stream is the end of the answers.
                return if self.bytes.is_empty() {
                    Ok(None)
                } else {
                    Err(unreadable(&"it ends within an answer"))
                };
            }
        }
    }

    /// LANE-16: a byte for every so many that were read.
    async fn acknowledge(&mut self) {
        while self.unacknowledged >= ACKNOWLEDGED_BYTES {
            // Who has answered everything reads no more.
            let _ = self.stream.write_all(&[0]).await;
            self.unacknowledged -= ACKNOWLEDGED_BYTES;
        }
    }

    /// What it means that the stream can be read or written no further.
    fn lost(&self, error: &std::io::Error) -> RemoteAskError {
        let refusal = error.get_ref().and_then(|error| {
            let code = match error.downcast_ref::<quinn::ReadError>() {
                Some(quinn::ReadError::Reset(code)) => *code,
                _ => match error.downcast_ref::<quinn::WriteError>()? {
                    quinn::WriteError::Stopped(code) => *code,
                    _ => return None,
                },
            };
            StreamRefusal::from_stream_code(code.into_inner())
        });
        let refused =
            |reason, refusal: StreamRefusal| RemoteAskError::Refused { reason, detail: refusal.to_string() };
        match refusal {
            None => self.peer.why_down(self.incarnation).into(),
            Some(StreamRefusal::Busy) => RemoteAskError::Overloaded,
            Some(refusal @ StreamRefusal::UnknownPurpose) => refused(ReplyRefusal::Version, refusal),
            Some(refusal) => refused(ReplyRefusal::Unanswerable, refusal),
        }
    }
}

fn unreadable(problem: &impl fmt::Display) -> RemoteAskError {
    RemoteAskError::Answer(codec::DecodeError::Value(problem.to_string()))
}
