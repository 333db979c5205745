//! Message lanes: a few long-lived streams on which small messages of many actors share one connection.
//!
//! Owns which lane a message takes, how much may wait in each, when a lane is opened, and how its bytes
//! become frames again. Refuses to know what a frame means: that is told to whoever receives.
//!
//! ```text
//! sender ──encodes into──► Outlet (one buffer per lane, bounded) ──swapped by──► writer task ──► QUIC stream
//! QUIC stream ──► reader task ──► Assembler (frames in place) ──► Receive
//! ```
//!
//! Each side opens its own lanes, at the first message that takes them. LANE-1: a lane is a unidirectional
//! stream that begins with the byte of [`StreamPurpose::Lane`] and the start of the node that its frames go
//! to (8 bytes, little-endian).

mod assembler;
mod outlet;
mod promises;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arw_kit::clock::Clock;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use assembler::{Assembler, Incoming};
use outlet::Outlet;
pub(crate) use outlet::{PushError, Room};
use promises::Promises;
pub(crate) use window::Tells;
#[cfg(test)]
pub(crate) use window::{TELL_BYTES_MAX, TELLS_MAX};

use crate::endpoint::StreamPurpose;
use crate::frame::{FrameRefusal, Header, TargetActor};
use crate::wire::{CloseCode, GoodbyeReason};

/// How many lanes there are and how much waits in them.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// Lanes that this side opens. More of them let a lost packet hold fewer actors up, and make smaller
    /// batches.
    pub lanes: u8,
    /// Bytes of messages that wait in one lane for the connection to take them. One message beyond it may
    /// still be let in.
    pub waiting_bytes_max: usize,
    /// Bytes of answers that wait in all lanes together. An actor answers a thousand asks faster than the
    /// connection's task is woken.
    pub answer_bytes_max: usize,
    /// Lanes that the peer may have open. A newer version may use more than this one.
    pub incoming_max: usize,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self { lanes: 4, waiting_bytes_max: 256 * 1024, answer_bytes_max: 8 * 1024 * 1024, incoming_max: 16 }
    }
}

/// What the frames of a lane are told to, one after the other, in the order in which they were sent. It must
/// not block.
pub(crate) trait Receive: Send + Sync + 'static {
    /// What it remembers from one frame of a lane to the next.
    type Lane: Send;
    /// A lane begins, whose frames are for this start of the node.
    fn lane(&self, incarnation: u64) -> Self::Lane;
    /// Whether anything is told still. It is read-locked while frames are told, so that closing it waits for
    /// those.
    fn gate(&self) -> &RwLock<Gate>;
    /// Frames follow that have come together.
    fn begin(&self, lane: &mut Self::Lane);
    fn frame(&self, lane: &mut Self::Lane, header: &Header, body: &[u8]);
    fn refused(&self, refusal: FrameRefusal);
}

/// Whether a connection's frames are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Closed,
}

/// The lanes of one connection.
pub(crate) struct Lanes {
    outlets: Box<[Arc<Outlet>]>,
    /// LANE-10: what this node owes the other one.
    pub(crate) promises: Arc<Promises>,
    /// Taken away at the end: whoever still holds lanes must not keep the socket open.
    connection: Mutex<Option<Connection>>,
    runtime: Handle,
    /// Tasks that hold the connection, too.
    tasks: Mutex<Vec<AbortHandle>>,
    incoming: Arc<AtomicUsize>,
    /// Which start of the peer this is a connection to.
    incarnation: u64,
    clock: Clock,
    options: LaneOptions,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Lanes {
    /// Lanes of `connection` to the start `incarnation` of a node, whose tasks run in `runtime`.
    pub(crate) fn new(
        (connection, incarnation): (Connection, u64),
        runtime: Handle,
        clock: Clock,
        options: LaneOptions,
    ) -> Arc<Self> {
        let promises = Arc::new(Promises::new(options.answer_bytes_max));
        let outlet = || Arc::new(Outlet::new(options.waiting_bytes_max, Arc::clone(&promises)));
        Arc::new(Self {
            outlets: (0..options.lanes.max(1)).map(|_| outlet()).collect(),
            promises,
            connection: Mutex::new(Some(connection)),
            runtime,
            tasks: Mutex::default(),
            incoming: Arc::default(),
            incarnation,
            clock,
            options,
        })
    }

    /// Puts a frame with `value` as its body into the lane of `actor`, and returns the body's bytes.
    #[inline]
    pub(crate) fn push<T: Serialize + ?Sized>(
        &self,
        actor: TargetActor,
        header: &Header,
        value: &T,
        room: Room,
    ) -> Result<usize, PushError> {
        let outlet = self.outlet(actor);
        let (bytes, is_first) = outlet.push(header, value, room)?;
        if is_first {
            self.open(outlet);
        }
        Ok(bytes)
    }

    /// [`Lanes::push`], waiting for room for at most `patience`. `header` gets the time that is left.
    pub(crate) async fn push_within<T: Serialize + ?Sized>(
        &self,
        actor: TargetActor,
        header: impl Fn(Duration) -> Header,
        value: &T,
        patience: Duration,
    ) -> Result<(), PushError> {
        let deadline = self.clock.now() + patience;
        let outlet = self.outlet(actor);
        let waiter = outlet.waiter();
        loop {
            // Registered before the push, or a write that ends in between would not be noticed.
            let mut room = std::pin::pin!(waiter.notified());
            room.as_mut().enable();
            let left = deadline.since(self.clock.now());
            match self.push(actor, &header(left), value, Room::Message) {
                Err(PushError::Full) => {}
                done => return done.map(drop),
            }
            if tokio::time::timeout_at(self.clock.instant(deadline), room).await.is_err() {
                return Err(PushError::Full);
            }
        }
    }

    /// The other node has taken so much of what was sent to this actor.
    pub(crate) fn taken(&self, actor: TargetActor, taken: Tells) {
        self.outlet(actor).taken(actor, taken);
    }

    /// Says to the other node what was taken of its tells to an actor. It must be said, or it would wait for
    /// ever: where it cannot be, the other side reads nothing at all, and the connection ends.
    pub(crate) fn tell_taken(&self, actor: TargetActor, taken: Tells) {
        let bytes = u32::try_from(taken.bytes).unwrap_or(u32::MAX);
        let header = Header::Taken { actor, tells: taken.count, bytes };
        if self.push(actor, &header, &(), Room::Taken) == Err(PushError::Full) {
            self.nothing_is_read();
        }
    }

    /// LANE-10: where not even a refusal finds room, the other side has asked on and on and read nothing.
    pub(crate) fn nothing_is_read(&self) {
        if let Some(connection) = self.connection.lock().as_ref() {
            connection.close(CloseCode::Goodbye(GoodbyeReason::Stalled).into(), b"nothing is read");
        }
    }

    /// Bytes that wait in all lanes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outlets.iter().map(|outlet| outlet.waiting_bytes()).sum()
    }

    /// Opens a stream in both directions. `None`: the connection is gone. It may wait for others to end.
    pub(crate) async fn open_two_way(&self) -> Option<(SendStream, RecvStream)> {
        let connection = self.connection.lock().clone()?;
        connection.open_bi().await.ok()
    }

    /// Reads a stream that the peer opened as a lane, after its first byte.
    pub(crate) fn accept<R: Receive>(&self, mut stream: RecvStream, receiver: &Arc<R>) {
        let Some(connection) = self.connection.lock().clone() else { return };
        // LANE-2: a peer has a bounded number of lanes.
        if self.incoming.fetch_add(1, Ordering::Relaxed) >= self.options.incoming_max {
            self.incoming.fetch_sub(1, Ordering::Relaxed);
            warn!("a peer opens more than {} message lanes", self.options.incoming_max);
            // An error says that the stream has ended by itself.
            let _ = stream.stop(CloseCode::Malformed.into());
            return;
        }
        let (incoming, receiver) = (Arc::clone(&self.incoming), Arc::clone(receiver));
        self.spawn(async move {
            if let Err(problem) = read(stream, &receiver).await {
                debug!(%problem, "a message lane ends");
                if matches!(problem, LaneEnd::Malformed(_)) {
                    connection.close(CloseCode::Malformed.into(), b"malformed frame");
                }
            }
            incoming.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Nothing goes out any more; what waits is thrown away. The connection is closed by who gave it.
    pub(crate) fn close(&self) {
        drop(self.connection.lock().take());
        for outlet in &self.outlets {
            outlet.close();
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// Runs a task that ends with the lanes.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.runtime.spawn(work).abort_handle();
        let mut tasks = self.tasks.lock();
        tasks.retain(|known| !known.is_finished());
        tasks.push(task.clone());
        drop(tasks);
        // Closed meanwhile: nobody else would end it.
        if self.connection.lock().is_none() {
            task.abort();
        }
    }

    /// LANE-3: everything that one node sends to one actor takes the same lane, so it stays in order.
    fn outlet(&self, target: TargetActor) -> &Arc<Outlet> {
        let lanes = self.outlets.len();
        // Less than the number of lanes.
        &self.outlets[usize::try_from(target.0 % lanes as u64).unwrap_or(0)]
    }

    fn open(&self, outlet: &Arc<Outlet>) {
        let Some(connection) = self.connection.lock().clone() else {
            outlet.close();
            return;
        };
        let (outlet, incarnation) = (Arc::clone(outlet), self.incarnation);
        self.spawn(async move {
            let outcome = write(&connection, incarnation, &outlet).await;
            outlet.close();
            if let Err(problem) = outcome {
                debug!(%problem, "a message lane ends");
                // Where the peer does not want one lane any more, the actors on it could not be reached, and
                // nobody would be told.
                connection.close(CloseCode::Malformed.into(), b"message lane lost");
            }
        });
    }
}

/// Why a lane that is read ends before it is finished.
#[derive(Debug, thiserror::Error)]
enum LaneEnd {
    #[error(transparent)]
    Malformed(#[from] crate::frame::FrameError),
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
}

/// Pieces taken from the stream at once: a lock of the connection each time.
const PIECES: usize = 32;

async fn read<R: Receive>(mut stream: RecvStream, receiver: &Arc<R>) -> Result<(), LaneEnd> {
    let mut incarnation = [0; 8];
    match stream.read_exact(&mut incarnation).await {
        Ok(()) => {}
        // A lane that ends before it begins is none.
        Err(ReadExactError::FinishedEarly(_)) => return Ok(()),
        Err(ReadExactError::ReadError(problem)) => return Err(problem.into()),
    }
    let mut lane = receiver.lane(u64::from_le_bytes(incarnation));
    let mut assembler = Assembler::default();
    let mut pieces = [const { Bytes::new() }; PIECES];
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        if tell(&mut assembler, &mut pieces[..count], (receiver.as_ref(), &mut lane))? == Gate::Closed {
            return Ok(());
        }
        if count == PIECES {
            // More waits, and others of this thread have something to do: first of all the actors that were
            // just told something.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Tells the frames that these pieces complete, if the gate is open.
fn tell<R: Receive>(
    assembler: &mut Assembler,
    pieces: &mut [Bytes],
    (receiver, lane): (&R, &mut R::Lane),
) -> Result<Gate, LaneEnd> {
    let gate = receiver.gate().read();
    // LANE-14: what a connection that was given up still brings would come after what its successor brought.
    if *gate == Gate::Closed {
        return Ok(Gate::Closed);
    }
    receiver.begin(lane);
    for piece in pieces {
        let piece = std::mem::take(piece);
        assembler.feed(&piece, &mut |incoming| match incoming {
            Incoming::Frame { header, body } => receiver.frame(lane, &header, body),
            Incoming::Refused(refusal) => receiver.refused(refusal),
        })?;
    }
    Ok(Gate::Open)
}

/// The first bytes of a stream of frames to this start of a node.
pub(crate) fn stream_start(purpose: StreamPurpose, incarnation: u64) -> [u8; 9] {
    let mut start = [purpose.byte(); 9];
    start[1..].copy_from_slice(&incarnation.to_le_bytes());
    start
}

async fn write(connection: &Connection, incarnation: u64, outlet: &Outlet) -> Result<(), quinn::WriteError> {
    let mut stream = connection.open_uni().await?;
    // LANE-1
    stream.write_all(&stream_start(StreamPurpose::Lane, incarnation)).await?;
    while let Some(frames) = outlet.take().await {
        stream.write_chunk(frames).await?;
        outlet.written();
    }
    Ok(())
}
