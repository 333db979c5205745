//! Sending blobs to other nodes.
//!
//! Owns a stream from its request to its last byte, and the reading ahead on another thread. Who may have how
//! much is decided in [`Admission`]. Refuses to know what is offered: that is the [`BlobSource`]'s.

use std::fmt;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::CHUNK_BYTES;
use super::admission::{Admission, ServeLimits};
use super::protocol::{Answer, REQUEST_BYTES, Request};
use super::source::{BlobContent, BlobSource};
use crate::endpoint::PeerStream;
use crate::identity::NodeId;
use crate::join::FIRST_MESSAGE_WITHIN;
use crate::wire::{BlobRefusal, StreamRefusal};

/// What a [`BlobServer`] has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeCounters {
    /// Blobs that are being sent now.
    pub running: usize,
    /// Blobs that were sent to the end.
    pub sent: u64,
    /// Bytes that were given to connections.
    pub sent_bytes: u64,
    /// Requests for blobs that are not offered.
    pub unknown: u64,
    /// Requests that were refused because as many were running as may.
    pub busy: u64,
    /// Requests that were refused for anything else.
    pub refused: u64,
    /// Blobs that the peer did not want any more, or whose connection ended.
    pub cancelled: u64,
    /// Blobs that could not be read to their end.
    pub failed: u64,
    /// Peers that did not go on in time.
    pub stalled: u64,
}

/// Sends what a [`BlobSource`] offers.
#[derive(Clone)]
pub struct BlobServer {
    shared: Arc<Shared>,
    runtime: Handle,
}

pub(super) struct Shared {
    source: Arc<dyn BlobSource>,
    limits: ServeLimits,
    state: Mutex<State>,
}

struct State {
    admission: Admission,
    counters: ServeCounters,
}

impl BlobServer {
    /// Tasks and blocking reads run on `runtime`. It must not be the network's own, whose few blocking
    /// threads write the ledger.
    #[must_use]
    pub fn new(source: Arc<dyn BlobSource>, limits: ServeLimits, runtime: Handle) -> Self {
        Self { shared: Arc::new(Shared::new(source, limits)), runtime }
    }

    /// Answers the request on a stream that a peer opened for a blob. Never waits.
    pub fn serve(&self, stream: PeerStream) {
        self.runtime.spawn(serve(Arc::clone(&self.shared), stream));
    }

    /// What was done since the start.
    #[must_use]
    pub fn counters(&self) -> ServeCounters {
        self.shared.counters()
    }
}

impl fmt::Debug for BlobServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobServer").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(source: Arc<dyn BlobSource>, limits: ServeLimits) -> Self {
        let state = State { admission: Admission::new(limits), counters: ServeCounters::default() };
        Self { source, limits, state: Mutex::new(state) }
    }

    pub(super) fn counters(&self) -> ServeCounters {
        let state = self.state.lock();
        ServeCounters { running: state.admission.total(), ..state.counters }
    }

    fn count(&self, count: impl FnOnce(&mut ServeCounters)) {
        count(&mut self.state.lock().counters);
    }
}

/// A stream that a blob is sent on.
pub(super) trait BlobStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Writes all of it, without a copy where that can be.
    fn write_chunk(&mut self, chunk: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits, after the end was written, until everything has arrived.
    fn arrived(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl BlobStream for PeerStream {
    fn write_chunk(&mut self, chunk: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        PeerStream::write_chunk(self, chunk)
    }

    async fn arrived(&mut self) -> io::Result<()> {
        if self.stopped().await { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) }
    }
}

async fn serve(shared: Arc<Shared>, mut stream: PeerStream) {
    let (node, stopped) = (stream.node(), stream.stopped());
    let outcome = tokio::select! {
        // The answer first: its end is heard as the stream's.
        biased;
        outcome = answer(&shared, node, &mut stream) => outcome,
        // BLOB-7: heard also while nothing is being written.
        _ = stopped => Err(StreamRefusal::Cancelled),
    };
    let Err(reason) = outcome else { return };
    shared.count(|counters| match reason {
        StreamRefusal::Failed => counters.failed += 1,
        StreamRefusal::TooSlow | StreamRefusal::Stalled => counters.stalled += 1,
        _ => counters.cancelled += 1,
    });
    tracing::debug!(%node, %reason, "a blob was not sent to its end");
    stream.refuse(reason);
}

/// Reads the request and does what it says. An error is for whoever resets the stream.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    node: NodeId,
    stream: &mut impl BlobStream,
) -> Result<(), StreamRefusal> {
    let mut request = [0; REQUEST_BYTES];
    match timeout(FIRST_MESSAGE_WITHIN, stream.read_exact(&mut request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(StreamRefusal::Cancelled),
        // BLOB-1
        Err(_) => return Err(StreamRefusal::TooSlow),
    }
    let opened = match Request::parse(&request) {
        Ok(request) => open(shared, node, request).await,
        Err(reason) => Err((reason, 0)),
    };
    match opened {
        Ok(reader) => send(shared, reader, stream).await,
        Err((reason, length)) => {
            shared.count(|counters| match reason {
                BlobRefusal::Unknown => counters.unknown += 1,
                BlobRefusal::Busy => counters.busy += 1,
                _ => counters.refused += 1,
            });
            tracing::debug!(%node, %reason, "a blob was refused");
            refuse(shared, Answer::Refused { reason, length }, stream).await
        }
    }
}

async fn refuse(shared: &Shared, answer: Answer, stream: &mut impl BlobStream) -> Result<(), StreamRefusal> {
    within(shared.limits.stall_within, stream.write_all(&answer.encode())).await?;
    stream.shutdown().await.map_err(|_| StreamRefusal::Cancelled)
}

/// The right to send one blob. It lies with the reader, so that a read that hangs keeps it.
struct Slot {
    shared: Arc<Shared>,
    node: NodeId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.state.lock().admission.release(self.node);
    }
}

/// Why a blob is not sent, and its length where that is why.
type Refused = (BlobRefusal, u64);

async fn open(shared: &Arc<Shared>, node: NodeId, request: Request) -> Result<Reader, Refused> {
    // BLOB-3
    if !shared.state.lock().admission.admit(node) {
        return Err((BlobRefusal::Busy, 0));
    }
    let slot = Slot { shared: Arc::clone(shared), node };
    let opening = tokio::task::spawn_blocking(move || Reader::open(slot, request));
    match timeout(shared.limits.stall_within, opening).await {
        Ok(Ok(opened)) => opened,
        // A source that hangs, or panicked.
        Ok(Err(_)) | Err(_) => Err((BlobRefusal::Failed, 0)),
    }
}

/// A blob that is read in chunks, on a thread that may wait.
struct Reader {
    content: Box<dyn BlobContent>,
    length: u64,
    from_offset: u64,
    remaining: u64,
    _slot: Slot,
}

impl Reader {
    fn open(slot: Slot, request: Request) -> Result<Self, Refused> {
        // BLOB-2
        let blob = slot.shared.source.open(request.id).ok_or((BlobRefusal::Unknown, 0))?;
        let (length, mut content) = (blob.length, blob.content);
        // BLOB-4
        if length > request.limit_bytes {
            return Err((BlobRefusal::TooLarge, length));
        }
        let Some(remaining) = length.checked_sub(request.from_offset) else {
            return Err((BlobRefusal::BadRange, length));
        };
        content.seek(SeekFrom::Start(request.from_offset)).map_err(|_| (BlobRefusal::Failed, 0))?;
        Ok(Self { content, length, from_offset: request.from_offset, remaining, _slot: slot })
    }

    /// The next bytes: none only at the end.
    fn read(mut self) -> io::Result<(Self, Bytes)> {
        let count = usize::try_from(self.remaining).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        let mut chunk = vec![0; count];
        self.content.read_exact(&mut chunk)?;
        self.remaining -= count as u64;
        Ok((self, chunk.into()))
    }

    fn read_ahead(self) -> JoinHandle<io::Result<(Self, Bytes)>> {
        tokio::task::spawn_blocking(move || self.read())
    }
}

async fn send(shared: &Shared, reader: Reader, stream: &mut impl BlobStream) -> Result<(), StreamRefusal> {
    let stall_within = shared.limits.stall_within;
    let Reader { length, from_offset, .. } = reader;
    let mut is_done = reader.remaining == 0;
    let mut reading = reader.read_ahead();
    within(stall_within, stream.write_all(&Answer::Follows { length, from_offset }.encode())).await?;
    while !is_done {
        let read = timeout(stall_within, &mut reading).await;
        // BLOB-7: what cannot be read to its end is never finished.
        let Ok(Ok(Ok((reader, chunk)))) = read else { return Err(StreamRefusal::Failed) };
        is_done = reader.remaining == 0;
        reading = reader.read_ahead();
        let count = chunk.len() as u64;
        within(stall_within, stream.write_chunk(chunk)).await?;
        shared.count(|counters| counters.sent_bytes += count);
    }
    stream.shutdown().await.map_err(|_| StreamRefusal::Cancelled)?;
    // The slot is kept until then: what has not arrived still takes memory.
    within(stall_within, stream.arrived()).await?;
    shared.count(|counters| counters.sent += 1);
    drop(reading);
    Ok(())
}

/// BLOB-6: the peer must take what is written in time, and in whole: so that a byte now and then does not
/// keep a slot.
async fn within(
    stall_within: Duration,
    writing: impl Future<Output = io::Result<()>>,
) -> Result<(), StreamRefusal> {
    match timeout(stall_within, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamRefusal::Cancelled),
        Err(_) => Err(StreamRefusal::Stalled),
    }
}
