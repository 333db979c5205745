//! What waits to be sent on one lane.
//!
//! Owns the buffer that all senders of a lane encode into, its bound, and who is woken when. Refuses to know
//! the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::promises::Promises;
use super::window::{Tells, Windows};
use crate::codec::EncodeError;
use crate::frame::{FrameWriter, Header, TargetActor};

/// One lane's buffer.
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Bytes that wait, for who asks without the lock. Changed under it.
    waiting_bytes: AtomicUsize,
    /// Senders that wait for room.
    waiting: AtomicU32,
    room: Notify,
    bytes_max: usize,
    promises: Arc<Promises>,
}

struct State {
    frames: FrameWriter,
    windows: Windows,
    /// Of the bytes in `frames`, those of answers.
    answers: usize,
    /// Bytes that the writer has taken and the connection has not, and those of answers among them.
    writing: usize,
    writing_answers: usize,
    writer: Option<Waker>,
    is_open: bool,
    is_closed: bool,
}

/// How full the buffer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For what this node has to say by itself.
    Message,
    /// For what it was asked. Both sides of a connection may be full of messages and wait for answers: those
    /// need room of their own.
    Answer,
    /// For why an ask is not answered. It is short, and whoever asked must learn it.
    Refusal,
    /// For that an answer is waited for no more, which makes the other side send less.
    Cancel,
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

/// A cancel has 13 bytes: those of all asks that may be open (LANE-6) find room.
const CANCEL_BYTES_MAX: usize = 256 * 1024;

/// A buffer's first size: a batch of some hundred messages.
const FIRST_BYTES: usize = 16 * 1024;

impl Outlet {
    pub(super) fn new(bytes_max: usize, promises: Arc<Promises>) -> Self {
        Self {
            state: Mutex::new(State {
                frames: FrameWriter::with_capacity(0),
                windows: Windows::default(),
                answers: 0,
                writing: 0,
                writing_answers: 0,
                writer: None,
                is_open: false,
                is_closed: false,
            }),
            waiting_bytes: AtomicUsize::new(0),
            waiting: AtomicU32::new(0),
            room: Notify::new(),
            bytes_max,
            promises,
        }
    }

    /// Adds a frame, and returns the bytes of its body. `true`: it is the first, the lane must be opened.
    pub(super) fn push<T: Serialize + ?Sized>(
        &self,
        header: &Header,
        value: &T,
        room: Room,
    ) -> Result<(usize, bool), PushError> {
        let told = match header {
            Header::Tell { to, .. } => Some(to.actor),
            Header::Ask { .. }
            | Header::Reply { .. }
            | Header::Refusal { .. }
            | Header::Cancel { .. }
            | Header::Taken { .. } => None,
        };
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(PushError::Closed);
        }
        if !self.has_room(&state, room) || told.is_some_and(|actor| state.windows.is_full(actor)) {
            return Err(PushError::Full);
        }
        if !state.is_open {
            state.frames = FrameWriter::with_capacity(FIRST_BYTES);
        }
        let before = state.frames.len();
        let bytes = state.frames.write_value(header, value).map_err(PushError::Write)?;
        if !matches!(room, Room::Message | Room::Cancel) {
            let added = state.frames.len() - before;
            state.answers += added;
            self.promises.queued(added);
        }
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
        Ok((bytes, is_first))
    }

    /// LANE-4, LANE-10: what waits is bounded, however slowly the peer reads: messages by themselves, and
    /// what this node was asked for with that of all other lanes.
    fn has_room(&self, state: &State, room: Room) -> bool {
        match room {
            Room::Message => state.message_bytes() < self.bytes_max,
            // LANE-20
            Room::Cancel => state.message_bytes() < self.bytes_max + CANCEL_BYTES_MAX,
            Room::Answer => self.promises.has_room_for_answer(),
            Room::Refusal => self.promises.has_room_for_refusal(),
            Room::Taken => self.promises.has_room_for_taken(),
        }
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// All frames so far, to be written; `None` once the lane is closed. Each must be followed by
    /// [`Outlet::written`].
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
            state.writing_answers = std::mem::take(&mut state.answers);
            Poll::Ready(Some(state.frames.take()))
        })
        .await
    }

    /// The connection has taken what [`Outlet::take`] gave.
    pub(super) fn written(&self) {
        let mut state = self.state.lock();
        state.writing = 0;
        self.promises.written(std::mem::take(&mut state.writing_answers));
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
        let answers = std::mem::take(&mut state.answers) + std::mem::take(&mut state.writing_answers);
        self.promises.written(answers);
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
}

impl State {
    fn waiting_bytes(&self) -> usize {
        self.frames.len() + self.writing
    }

    fn message_bytes(&self) -> usize {
        self.waiting_bytes() - self.answers - self.writing_answers
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
    use crate::frame::{Address, CallId, FRAME_BYTES_MAX, MessageType, TargetActor};

    fn header() -> Header {
        Header::Tell { to: Address { actor: TargetActor(1), message: MessageType(1) }, trace: None }
    }

    fn reply() -> Header {
        Header::Reply { call: CALL }
    }

    const CALL: CallId = CallId { slot: 0, generation: std::num::NonZeroU32::MIN };

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

    fn outlet(bytes_max: usize) -> Outlet {
        Outlet::new(bytes_max, Arc::new(Promises::new(ANSWER_BYTES_MAX)))
    }

    /// The least that there is.
    const ANSWER_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

    proptest! {
        #[test]
        fn lane_4_no_more_than_the_bound_and_one_message_ever_waits(steps in steps()) {
            // LANE-4, LANE-10: messages and answers have each their own.
            const BYTES_MAX: usize = 3_000;
            let outlet = outlet(BYTES_MAX);
            let (mut waiting, mut taken) = ([0_usize; 2], [0_usize; 2]);
            for step in steps {
                match step {
                    Step::Push(bytes, is_answer) => {
                        let bytes = if is_answer { bytes * 50 } else { bytes };
                        let room = if is_answer { Room::Answer } else { Room::Message };
                        let bound = if is_answer { ANSWER_BYTES_MAX } else { BYTES_MAX };
                        let kind = usize::from(is_answer);
                        let before = outlet.waiting_bytes();
                        let header = if is_answer { reply() } else { header() };
                        let outcome = outlet.push(&header, &vec![7_u8; bytes], room);
                        prop_assert_eq!(outcome.is_ok(), waiting[kind] + taken[kind] < bound);
                        waiting[kind] += outlet.waiting_bytes() - before;
                    }
                    Step::Take if taken == [0, 0] => {
                        let bytes = take(&outlet).map_or(0, |bytes| bytes.len());
                        taken = std::mem::take(&mut waiting);
                        prop_assert_eq!(bytes, taken[0] + taken[1], "nothing is lost or doubled");
                    }
                    Step::Written => {
                        outlet.written();
                        taken = [0, 0];
                    }
                    Step::Take => {}
                }
                let all: usize = waiting.iter().chain(&taken).sum();
                prop_assert_eq!(outlet.waiting_bytes(), all);
                prop_assert_eq!(outlet.promises.waiting_bytes(), waiting[1] + taken[1]);
            }
            outlet.close();
            prop_assert_eq!(outlet.promises.waiting_bytes(), 0);
        }
    }

    #[test]
    fn lane_20_cancels_find_room_beside_the_messages_and_no_more_than_their_own() {
        // LANE-20
        let (outlet, cancel) = (outlet(1_000), Header::Cancel { call: CALL });
        while outlet.push(&header(), &[1_u8; 32], Room::Message).is_ok() {}
        let messages = outlet.waiting_bytes();
        while outlet.push(&cancel, &(), Room::Cancel).is_ok() {}
        assert!(outlet.waiting_bytes() - messages >= CANCEL_BYTES_MAX - 100);
        assert!(outlet.waiting_bytes() <= 1_000 + CANCEL_BYTES_MAX + FRAME_BYTES_MAX);
        assert_eq!(outlet.push(&reply(), &1_u8, Room::Answer), Ok((1, false)), "answers have their own");
        assert_eq!(outlet.push(&header(), &1_u8, Room::Message), Err(PushError::Full));
    }

    #[test]
    fn a_closed_lane_keeps_nothing_and_takes_nothing() {
        let outlet = outlet(1000);
        assert_eq!(outlet.push(&header(), &[1_u8; 32], Room::Message), Ok((32, true)));
        assert_eq!(outlet.push(&header(), &[1_u8; 32], Room::Message), Ok((32, false)));
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
        let outlet = outlet(1000);
        let long = vec![1_u8; crate::codec::BODY_BYTES_MAX + 1];
        assert!(matches!(outlet.push(&header(), &long, Room::Message), Err(PushError::Write(_))));
        let push = std::panic::AssertUnwindSafe(|| outlet.push(&header(), &Panics, Room::Message));
        assert!(std::panic::catch_unwind(push).is_err());
        assert_eq!(outlet.waiting_bytes(), 0);
    }
}
