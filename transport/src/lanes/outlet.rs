//! What waits to be sent on one lane.
//!
//! Owns the buffer that all senders of a lane encode into, its bound, and who is woken when. Refuses to know the stream.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::window::{Tells, Windows};
use crate::codec::EncodeError;
use crate::frame::{FRAME_BYTES_MAX, FrameWriter, Header, TargetActor};

/// One lane's buffer.
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Bytes that wait, for who asks without the lock. Changed under it.
    waiting_bytes: AtomicUsize,
    /// Senders that wait for room.
    waiting: AtomicU32,
    room: Notify,
    bytes_max: usize,
}

struct State {
    frames: FrameWriter,
    windows: Windows,
    /// Bytes that the writer has taken and the connection has not.
    writing: usize,
    writer: Option<Waker>,
    is_open: bool,
    is_closed: bool,
}

/// How full the buffer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For what this node has to say by itself.
    Message,
    /// For what it was asked. Both sides of a connection may be full of messages and wait for answers: those need room of their own.
    Answer,
    /// For what lets the other side go on: it is short, and comes once for thousands of messages.
    Taken,
}

/// A frame was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// As much waits as may.
    Full,
    /// The lane is gone.
    Closed,
    /// The message cannot be written.
    Write(EncodeError),
}

/// A buffer's first size: a batch of some hundred messages.
const FIRST_BYTES: usize = 16 * 1024;

impl Outlet {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                frames: FrameWriter::with_capacity(0),
                windows: Windows::default(),
                writing: 0,
                writer: None,
                is_open: false,
                is_closed: false,
            }),
            waiting_bytes: AtomicUsize::new(0),
            waiting: AtomicU32::new(0),
            room: Notify::new(),
            bytes_max,
        }
    }

    /// Adds a frame. `true`: it is the first, the lane must be opened.
    pub(super) fn push<T: Serialize + ?Sized>(
        &self,
        header: &Header,
        value: &T,
        room: Room,
    ) -> Result<bool, PushError> {
        // LANE-4: what waits is bounded, however slowly the peer reads.
        let bytes_max = match room {
            Room::Message => self.bytes_max,
            Room::Answer => self.answer_bytes_max(),
            Room::Taken => self.answer_bytes_max() + 2 * FRAME_BYTES_MAX,
        };
        let told = match header {
            Header::Tell { to, .. } => Some(to.actor),
            Header::Ask { .. } | Header::Reply { .. } | Header::Refusal { .. } | Header::Taken { .. } => None,
        };
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(PushError::Closed);
        }
        if state.waiting_bytes() >= bytes_max || told.is_some_and(|actor| state.windows.is_full(actor)) {
            return Err(PushError::Full);
        }
        if !state.is_open {
            state.frames = FrameWriter::with_capacity(FIRST_BYTES);
        }
        let bytes = state.frames.write_value(header, value).map_err(PushError::Write)?;
        if let Some(actor) = told {
            state.windows.sent(actor, bytes);
        }
        self.waiting_bytes.store(state.waiting_bytes(), Ordering::Relaxed);
        let is_first = !std::mem::replace(&mut state.is_open, true);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(is_first)
    }

    pub(super) fn has_room_for_answer(&self) -> bool {
        self.waiting_bytes() + FRAME_BYTES_MAX <= self.answer_bytes_max()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// All frames so far, to be written; `None` once the lane is closed. Each must be followed by [`Outlet::written`].
    pub(super) async fn take(&self) -> Option<Bytes> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.is_closed {
                return Poll::Ready(None);
            }
            if state.frames.is_empty() {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.writing = state.frames.len();
            Poll::Ready(Some(state.frames.take()))
        })
        .await
    }

    /// The connection has taken what [`Outlet::take`] gave.
    pub(super) fn written(&self) {
        let mut state = self.state.lock();
        state.writing = 0;
        self.waiting_bytes.store(state.waiting_bytes(), Ordering::Relaxed);
        drop(state);
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.room.notify_waiters();
        }
    }

    /// The other node has taken so much of what was sent to this actor.
    pub(super) fn taken(&self, actor: TargetActor, taken: Tells) {
        self.state.lock().windows.taken(actor, taken);
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.room.notify_waiters();
        }
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.frames = FrameWriter::with_capacity(0);
        state.writing = 0;
        self.waiting_bytes.store(0, Ordering::Relaxed);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        self.room.notify_waiters();
    }

    /// Counts a sender that waits for room, for as long as it does.
    pub(super) fn waiter(&self) -> RoomWaiter<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        RoomWaiter { outlet: self }
    }

    fn answer_bytes_max(&self) -> usize {
        // At least one answer of any length must fit where few bytes may wait.
        self.bytes_max + self.bytes_max.max(2 * FRAME_BYTES_MAX)
    }
}

impl State {
    fn waiting_bytes(&self) -> usize {
        self.frames.len() + self.writing
    }
}

pub(super) struct RoomWaiter<'outlet> {
    outlet: &'outlet Outlet,
}

impl RoomWaiter<'_> {
    pub(super) fn notified(&self) -> Notified<'_> {
        self.outlet.room.notified()
    }
}

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.outlet.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Address, MessageType, TargetActor};

    fn header() -> Header {
        Header::Tell { to: Address { actor: TargetActor(1), message: MessageType(1) }, trace: None }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(usize, bool),
        Take,
        Written,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..1000_usize, any::<bool>()).prop_map(|(bytes, is_answer)| Step::Push(bytes, is_answer)),
            1 => Just(Step::Take),
            1 => Just(Step::Written),
        ];
        proptest::collection::vec(step, 0..100)
    }

    fn take(outlet: &Outlet) -> Option<Bytes> {
        let taken = std::pin::pin!(outlet.take());
        match taken.poll(&mut std::task::Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => None,
        }
    }

    proptest! {
        #[test]
        fn lane_4_no_more_than_the_bound_and_one_message_ever_waits(steps in steps()) {
            // LANE-4
            const BYTES_MAX: usize = 3_000;
            let outlet = Outlet::new(BYTES_MAX);
            let (mut pushed, mut came_out, mut writing) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Push(bytes, is_answer) => {
                        let room = if is_answer { Room::Answer } else { Room::Message };
                        let bound = if is_answer { outlet.answer_bytes_max() } else { BYTES_MAX };
                        let before = outlet.waiting_bytes();
                        let outcome = outlet.push(&header(), &vec![7_u8; bytes], room);
                        prop_assert_eq!(outcome.is_ok(), before < bound);
                        pushed += outlet.waiting_bytes() - before;
                        prop_assert!(outlet.waiting_bytes() < bound.max(before) + FRAME_BYTES_MAX);
                    }
                    Step::Take if writing == 0 => {
                        writing = take(&outlet).map_or(0, |bytes| bytes.len());
                        came_out += writing;
                    }
                    Step::Written => {
                        outlet.written();
                        writing = 0;
                    }
                    Step::Take => {}
                }
                prop_assert_eq!(outlet.waiting_bytes(), pushed - came_out + writing);
            }
            outlet.written();
            came_out += take(&outlet).map_or(0, |bytes| bytes.len());
            prop_assert_eq!(pushed, came_out, "nothing is lost or doubled");
        }
    }

    #[test]
    fn a_closed_lane_keeps_nothing_and_takes_nothing() {
        let outlet = Outlet::new(1000);
        assert_eq!(outlet.push(&header(), &[1_u8; 32], Room::Message), Ok(true));
        assert_eq!(outlet.push(&header(), &[1_u8; 32], Room::Message), Ok(false));
        outlet.close();
        assert_eq!(outlet.waiting_bytes(), 0);
        assert_eq!(outlet.push(&header(), &1_u8, Room::Answer), Err(PushError::Closed));
        assert_eq!(take(&outlet), None);
    }

    #[test]
    fn a_message_that_cannot_be_written_leaves_nothing_behind() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("boom")
            }
        }
        let outlet = Outlet::new(1000);
        let long = vec![1_u8; crate::codec::BODY_BYTES_MAX + 1];
        assert!(matches!(outlet.push(&header(), &long, Room::Message), Err(PushError::Write(_))));
        let push = std::panic::AssertUnwindSafe(|| outlet.push(&header(), &Panics, Room::Message));
        assert!(std::panic::catch_unwind(push).is_err());
        assert_eq!(outlet.waiting_bytes(), 0);
    }
}
