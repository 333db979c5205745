//! One message of another node, and the many answers of an actor of this one.
//!
//! Owns the stream on which they go, and how many such streams there are. Refuses to hold answers: a peer
//! that does not read holds up only the actor's next answer, which that decides about.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arw_kit::mailbox::{RepliesEnd, RepliesIn};
use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use super::exports::Deliver;
use super::serve::{Ask, ServedLane, Server, Undelivered};
use crate::codec::EncodeError;
use crate::endpoint::PeerStream;
use crate::frame::{CallId, FRAME_BYTES_MAX, FrameReader, FrameWriter, Header, Parsed};
use crate::lanes::Gate;
use crate::wire::{Refused, ReplyRefusal, StreamRefusal};

/// Streams of answers that a peer has open at most. Each holds what an actor has answered and the connection
/// has not taken: some dozens of answers.
pub(super) const ANSWERED_MAX: usize = 64;

/// Answers of an actor that wait to be written. A few, so that its task is woken for several at once.
pub(super) const ANSWERS_WAITING_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// How long the message may take to come, once its stream was opened.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// As much is written at once, and one answer more.
const BATCH_BYTES: usize = 16 * 1024;

/// One byte from who reads says that so many were read.
pub(super) const ACKNOWLEDGED_BYTES: usize = 16 * 1024;

/// Nothing is written while more than this has not been acknowledged. Bytes that nobody reads take from the
/// window that all streams of a connection share: so [`ANSWERED_MAX`] such streams leave nearly half of it.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// What an actor answers, to be written.
pub(super) trait Answers: Send {
    /// Writes the next answer.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        out: &mut FrameWriter,
    ) -> Poll<Result<(), AnswersEnd>>;
}

/// No answer follows.
#[derive(Debug)]
pub(super) enum AnswersEnd {
    Replies(RepliesEnd),
    /// One cannot be sent.
    Write(EncodeError),
    /// What makes of it what crosses panicked.
    Crashed,
}

/// [`Answers`] out of what an actor gives.
pub(super) struct Converted<T, F> {
    pub(super) from: RepliesIn<T>,
    pub(super) into_item: Arc<F>,
}

impl<T: Send, I: Serialize, F: Fn(T) -> I + Send + Sync> Answers for Converted<T, F> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        out: &mut FrameWriter,
    ) -> Poll<Result<(), AnswersEnd>> {
        self.from.poll_next(cx).map(|next| {
            let next = next.map_err(AnswersEnd::Replies)?;
            // LANE-19
            let item = catch_unwind(AssertUnwindSafe(|| (self.into_item)(next)));
            let item = item.map_err(|_| AnswersEnd::Crashed)?;
            out.write_value(&Header::Reply { call }, &item).map_err(AnswersEnd::Write)?;
            Ok(())
        })
    }
}

/// Counts a stream for as long as it is served.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// LANE-16: `None`: the peer has as many as it may.
    pub(super) fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        if open.fetch_add(1, Ordering::Relaxed) >= ANSWERED_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one stream, after its first byte, until there is nothing more to answer or nobody reads.
pub(super) async fn serve(server: Arc<Server>, mut stream: PeerStream, _place: Place) {
    let (mut lane, ask, body) = match tokio::time::timeout(ASK_WITHIN, read_ask(&mut stream)).await {
        Ok(Ok(read)) => read,
        Ok(Err(refusal)) => return stream.refuse(refusal),
        Err(_) => return stream.refuse(StreamRefusal::TooSlow),
    };
    let delivered = {
        let gate = server.gate.read();
        // LANE-14
        if *gate == Gate::Closed {
            return;
        }
        deliver(&server, &mut lane, &ask, &body)
    };
    let mut frames = FrameWriter::with_capacity(0);
    let refused = match delivered {
        Ok(answers) => match write_all(answers, ask.call, &mut frames, &mut stream).await {
            Written::All => None,
            Written::Refused(refused) => Some(refused),
            // Dropped, which tells the peer and the actor.
            Written::NobodyReads => return,
        },
        Err(why) => Some(why.refusal()),
    };
    if let Some(refused) = refused {
        server.counters.refused_asks.fetch_add(1, Ordering::Relaxed);
        // It always fits.
        let _ = frames.write_value(&Header::Refusal { call: ask.call }, &refused);
    }
    // What fails here has no other end to tell.
    let _ = stream.write_chunk(frames.take()).await;
    let _ = stream.shutdown().await;
}

/// LANE-15: a stream of answers begins as a lane does, and has one ask.
async fn read_ask(stream: &mut PeerStream) -> Result<(ServedLane, Ask, BytesMut), StreamRefusal> {
    let incarnation = stream.read_u64_le().await.map_err(|_| StreamRefusal::Cancelled)?;
    let mut bytes = BytesMut::new();
    loop {
        match FrameReader::default().read(&bytes).map_err(|_| StreamRefusal::Malformed)? {
            Parsed::Frame { header: Header::Ask { to, trace, call, deadline_ms }, body } => {
                let ask = Ask { to, trace, call, deadline_ms };
                bytes.truncate(body.end);
                return Ok((ServedLane::new(incarnation), ask, bytes.split_off(body.start)));
            }
            Parsed::Frame { .. } => return Err(StreamRefusal::Malformed),
            Parsed::Refused { .. } => return Err(StreamRefusal::UnknownPurpose),
            Parsed::Need(missing) => {
                bytes.reserve(missing.min(FRAME_BYTES_MAX));
                let read = stream.read_buf(&mut bytes).await.map_err(|_| StreamRefusal::Cancelled)?;
                if read == 0 {
                    return Err(StreamRefusal::Malformed);
                }
            }
        }
    }
}

fn deliver(
    server: &Server,
    lane: &mut ServedLane,
    ask: &Ask,
    body: &[u8],
) -> Result<Box<dyn Answers>, Undelivered> {
    server.judge(lane)?;
    match server.find(lane, ask.to)? {
        Deliver::Stream(deliver) => {
            let origin = server.origin(ask.trace);
            // LANE-19
            catch_unwind(AssertUnwindSafe(|| deliver(body, &origin))).unwrap_or_else(|_| {
                server.note_crash(ask.to);
                Err(Undelivered::Crashed)
            })
        }
        Deliver::Tell(_) | Deliver::Call(_) => Err(Undelivered::UnknownMessage(ask.to.message)),
    }
}

enum Written {
    All,
    Refused(Refused),
    NobodyReads,
}

async fn write_all(
    mut answers: Box<dyn Answers>,
    call: CallId,
    frames: &mut FrameWriter,
    stream: &mut PeerStream,
) -> Written {
    let mut stopped = pin!(stream.stopped());
    let mut unread = 0_usize;
    loop {
        // As many answers as there are, and then one write.
        let end = std::future::poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Written::NobodyReads));
            }
            // LANE-16
            unread = unread.saturating_sub(acknowledged(stream, cx));
            if unread > UNREAD_BYTES_MAX {
                return Poll::Pending;
            }
            while frames.len() < BATCH_BYTES {
                match answers.poll_write(cx, call, frames) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(Some(written(&end))),
                    Poll::Pending if frames.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(None)
        });
        if let Some(end) = end.await {
            return end;
        }
        let batch = frames.take();
        unread += batch.len();
        if stream.write_chunk(batch).await.is_err() {
            return Written::NobodyReads;
        }
    }
}

/// Bytes that were read since the last time. Who waits is woken when there are more.
fn acknowledged(stream: &mut PeerStream, cx: &mut Context<'_>) -> usize {
    let mut bytes = 0;
    loop {
        let mut space = [0; 16];
        let mut read = ReadBuf::new(&mut space);
        match Pin::new(&mut *stream).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                bytes += read.filled().len() * ACKNOWLEDGED_BYTES;
            }
            // No more will come: whether it is read shows in `stopped`.
            Poll::Ready(_) | Poll::Pending => return bytes,
        }
    }
}

fn written(end: &AnswersEnd) -> Written {
    let (reason, detail) = match end {
        AnswersEnd::Replies(RepliesEnd::Finished) => return Written::All,
        AnswersEnd::Replies(RepliesEnd::Crashed) => (ReplyRefusal::Crashed, String::new()),
        AnswersEnd::Replies(end @ RepliesEnd::Dropped) => (ReplyRefusal::Unanswerable, end.to_string()),
        AnswersEnd::Write(problem) => (ReplyRefusal::Unanswerable, problem.to_string()),
        AnswersEnd::Crashed => (ReplyRefusal::Unanswerable, "what converts an answer panicked".to_owned()),
    };
    Written::Refused(Refused::new(reason, &detail))
}
