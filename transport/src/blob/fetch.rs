//! Getting a blob from another node.
//!
//! Owns the order of things: bytes are counted before they are written, and hashed on another thread while
//! the next ones come. What may be taken is decided in [`Reception`]. Refuses to know where the bytes go.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::hash::{BlobId, HashLost, Hasher, KeptPart};
use super::protocol::{ANSWER_BYTES, Answer, AnswerError, Request};
use super::reception::{Fetched, Reception};
use super::{CHUNK_BYTES, STALL_WITHIN};
use crate::wire::{BlobRefusal, StreamRefusal};

/// A blob that is wanted.
#[derive(Debug)]
pub struct WantedBlob {
    /// Which one.
    pub id: BlobId,
    /// What is there of it already: only the rest is sent.
    pub kept: KeptPart,
    /// The longest blob that is taken. Nothing of a longer one is written.
    pub limit_bytes: u64,
    /// How long the peer may send nothing.
    pub stall_within: Duration,
}

impl WantedBlob {
    /// The whole blob, if it has at most `limit_bytes`.
    #[must_use]
    pub fn new(id: BlobId, limit_bytes: u64) -> Self {
        Self { id, kept: KeptPart::none(), limit_bytes, stall_within: STALL_WITHIN }
    }

    /// The rest of it.
    #[must_use]
    pub fn after(self, kept: KeptPart) -> Self {
        Self { kept, ..self }
    }
}

/// How far a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are written, with those from before.
    pub present: u64,
    /// Bytes of the whole blob.
    pub length: u64,
}

/// The blob was not fetched. What was written before is whole as far as it goes, and can be kept for the next
/// attempt, except after [`FetchError::WrongHash`].
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The node does not send it.
    #[error("{0}")]
    Refused(BlobRefusal),
    /// It is longer than was allowed.
    #[error("the blob has {length} bytes, at most {limit} are taken")]
    TooLarge {
        /// Its length.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The node does not speak this protocol.
    #[error("the node answered with something else: {0}")]
    Answer(#[from] AnswerError),
    /// More bytes came than were promised.
    #[error("more than the promised {length} bytes came")]
    Longer {
        /// What was promised.
        length: u64,
    },
    /// Fewer bytes came than were promised.
    #[error("the blob has {length} bytes, but ended after {present}")]
    Shorter {
        /// What was promised.
        length: u64,
        /// What is there.
        present: u64,
    },
    /// The bytes are not those of the blob.
    #[error("the bytes have the hash {found}, not {wanted}{}", about_kept(*kept))]
    WrongHash {
        /// The blob that was wanted.
        wanted: BlobId,
        /// The hash of what came.
        found: BlobId,
        /// Bytes that were there before: they may be the wrong ones.
        kept: u64,
    },
    /// Nothing came for so long.
    #[error("the node sent nothing for {within:?}")]
    Stalled {
        /// How long.
        within: Duration,
    },
    /// The node gave the stream up.
    #[error("{0}")]
    GivenUp(StreamRefusal),
    /// The connection is gone.
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    /// The bytes cannot be written.
    #[error("cannot write the blob: {0}")]
    Sink(io::Error),
    /// The runtime ends.
    #[error("this node stops")]
    Stopping,
}

fn about_kept(kept: u64) -> String {
    if kept == 0 {
        return String::new();
    }
    format!(": throw the {kept} bytes from before away too, they may be the wrong ones")
}

impl From<HashLost> for FetchError {
    fn from(_: HashLost) -> Self {
        Self::Stopping
    }
}

/// Fetches a blob over a stream that was opened for it, and writes what is missing of it to `sink`. Tells its
/// `progress` after each 256 KiB.
///
/// The sink has everything when this returns, and may have wrong bytes when it fails: nothing may use them
/// before. Dropping the future gives the blob up, which the peer notices at once. The peer has a deadline,
/// the sink has none: it is this node's own.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch<T, S>(
    mut stream: T,
    wanted: WantedBlob,
    mut sink: S,
    mut progress: impl FnMut(Progress),
) -> Result<Fetched, FetchError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: AsyncWrite + Unpin,
{
    let WantedBlob { id, kept, limit_bytes, stall_within } = wanted;
    let request = Request { id, from_offset: kept.bytes(), limit_bytes };
    let mut reception = timeout(stall_within, ask(&mut stream, &request))
        .await
        .map_err(|_| FetchError::Stalled { within: stall_within })??;
    let mut hasher = Hasher::new(kept);
    let mut buffer = vec![0; buffer_bytes(reception.remaining())];
    loop {
        let (filled, step) = fill(&mut stream, &mut buffer, &mut reception, stall_within).await;
        // Also what came before a failure: the next attempt goes on from there.
        sink.write_all(&buffer[..filled]).await.map_err(FetchError::Sink)?;
        if filled > 0 {
            progress(Progress { present: reception.present(), length: reception.length() });
        }
        let is_end = match step {
            Ok(step) => step == Step::End,
            Err(error) => {
                sink.flush().await.map_err(FetchError::Sink)?;
                return Err(error);
            }
        };
        if filled > 0 {
            hasher.hash(buffer, filled).await?;
        }
        if is_end {
            break;
        }
        buffer = hasher.buffer(buffer_bytes(reception.remaining())).await?;
    }
    sink.flush().await.map_err(FetchError::Sink)?;
    reception.judge(hasher.finish().await?)
}

/// A small blob needs a small buffer, and one byte more than it should have is noticed.
fn buffer_bytes(remaining: u64) -> usize {
    usize::try_from(remaining).map_or(CHUNK_BYTES, |remaining| remaining.clamp(1, CHUNK_BYTES))
}

async fn ask<T>(stream: &mut T, request: &Request) -> Result<Reception, FetchError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&request.encode()).await.map_err(lost)?;
    stream.shutdown().await.map_err(lost)?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await.map_err(lost)?;
    Reception::begin(request, Answer::parse(&answer)?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    End,
}

/// Reads until the buffer is full or nothing more comes: how much of it may be written, and how it goes on.
async fn fill<T: AsyncRead + Unpin>(
    stream: &mut T,
    buffer: &mut [u8],
    reception: &mut Reception,
    stall_within: Duration,
) -> (usize, Result<Step, FetchError>) {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = timeout(stall_within, stream.read(&mut buffer[filled..])).await;
        let step = match read {
            // BLOB-6
            Err(_) => Err(FetchError::Stalled { within: stall_within }),
            Ok(Err(error)) => Err(lost(error)),
            Ok(Ok(0)) => reception.end().map(|()| Step::End),
            Ok(Ok(count)) => reception.take(count).map(|()| {
                filled += count;
                Step::More
            }),
        };
        if !matches!(step, Ok(Step::More)) {
            return (filled, step);
        }
    }
    (filled, Ok(Step::More))
}

/// What the peer meant when it reset or stopped the stream, or what else ended it.
fn lost(error: io::Error) -> FetchError {
    let cause = error.get_ref();
    let code = match (cause.and_then(|e| e.downcast_ref()), cause.and_then(|e| e.downcast_ref())) {
        (Some(quinn::ReadError::Reset(code)), _) | (_, Some(quinn::WriteError::Stopped(code))) => Some(*code),
        _ => None,
    };
    match code.and_then(|code| StreamRefusal::from_stream_code(code.into_inner())) {
        Some(reason) => FetchError::GivenUp(reason),
        None => FetchError::Lost(error),
    }
}
