//! The bounded queue behind a handle, which outlives the incarnations of its actor.
//!
//! Owns order, the bound, the control word (run, stop, killed), kept messages and wake-ups. Refuses to run handlers
//! (`driver.rs`) and to decide about restarts.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dead_letters::{DeadLetter, DeadLetterReason};
use super::handle::{Down, RefusedReason};
use super::message::Message;
use crate::supervision::{ExitReason, SystemShared};
use crate::tree::Record;

/// What never changes about a mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreOptions {
    /// Most messages that wait or are in the batch being handled.
    pub(crate) bound: u32,
}

/// A mailbox. Everyone holds it through a [`super::Handle`].
pub(crate) struct Core<M> {
    inbox: Mutex<Inbox<M>>,
    control: AtomicU8,
    pub(crate) record: Arc<Record>,
    pub(crate) system: Arc<SystemShared>,
    /// Senders that wait for space.
    waiting: AtomicU32,
    space: Notify,
    monitors: Mutex<Monitors>,
    bound: u32,
}

pub(crate) struct Envelope<M> {
    pub(crate) message: M,
    /// The tick of the asker's deadline; 0 for a message without one.
    pub(crate) due: u64,
}

struct Inbox<M> {
    queue: VecDeque<Envelope<M>>,
    consumer: Option<Waker>,
    closed: Option<RefusedReason>,
}

#[derive(Default)]
struct Monitors {
    next: u64,
    list: Vec<(u64, TellDown)>,
}

/// Runs in the supervisor: must not block.
pub(crate) type TellDown = Box<dyn Fn(&Down) + Send + Sync>;

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Run,
    /// Finish the message in hand, then end in order.
    Stop,
    /// The supervisor has killed this incarnation.
    Killed,
}

/// What [`Core::poll_take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Messages,
    YieldFirst,
    Ended,
}

/// What the tree and the supervisor may ask of a mailbox without knowing its message type.
pub(crate) trait Probe: Any + Send + Sync {
    /// Messages that wait or are in the batch being handled.
    fn depth(&self) -> u32;
    fn bound(&self) -> u32;
}

impl<M: Message> Core<M> {
    pub(crate) fn new(system: Arc<SystemShared>, record: Arc<Record>, options: CoreOptions) -> Self {
        Self {
            inbox: Mutex::new(Inbox { queue: VecDeque::new(), consumer: None, closed: None }),
            control: AtomicU8::new(Control::Run as u8),
            record,
            system,
            waiting: AtomicU32::new(0),
            space: Notify::new(),
            monitors: Mutex::default(),
            bound: options.bound.max(1),
        }
    }

    /// Appends a message, or gives it back with the reason.
    #[inline]
    pub(crate) fn push(&self, message: M, due: u64) -> Result<(), (M, RefusedReason)> {
        let mut inbox = self.inbox.lock();
        if let Some(reason) = inbox.closed {
            return Err((message, reason));
        }
        if inbox.queue.len() + self.record.in_batch() as usize >= self.bound as usize {
            return Err((message, RefusedReason::Overloaded));
        }
        inbox.queue.push_back(Envelope { message, due });
        let consumer = inbox.consumer.take();
        drop(inbox);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Ok(())
    }

    /// Waits until a message was taken out; to be called before the push that may fail.
    pub(crate) fn space(&self) -> SpaceWaiter<'_, M> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        SpaceWaiter { core: self }
    }

    /// Moves up to `most` messages into `batch`. Pending when there are none and nothing else is to be done. After a batch
    /// (`just_ran`) it asks for a yield instead, when more waits.
    pub(crate) fn poll_take(
        &self,
        batch: &mut VecDeque<Envelope<M>>,
        most: usize,
        just_ran: bool,
        cx: &TaskContext<'_>,
    ) -> Poll<Took> {
        let mut inbox = self.inbox.lock();
        if self.control() != Control::Run {
            return Poll::Ready(Took::Ended);
        }
        if inbox.queue.is_empty() {
            inbox.consumer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if just_ran {
            return Poll::Ready(Took::YieldFirst);
        }
        if inbox.queue.len() <= most {
            std::mem::swap(batch, &mut inbox.queue);
        } else {
            batch.extend(inbox.queue.drain(..most));
        }
        self.record.set_in_batch(batch.len());
        Poll::Ready(Took::Messages)
    }

    /// Lets waiting senders in after a batch.
    #[inline]
    pub(crate) fn notify_space(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.space.notify_waiters();
        }
    }

    /// Puts what a batch did not come to back at the head, in order.
    pub(crate) fn put_back(&self, batch: &mut VecDeque<Envelope<M>>) {
        let mut inbox = self.inbox.lock();
        while let Some(envelope) = batch.pop_back() {
            inbox.queue.push_front(envelope);
        }
        self.record.set_in_batch(0);
        drop(inbox);
        self.notify_space();
    }

    pub(crate) fn control(&self) -> Control {
        match self.control.load(Ordering::Acquire) {
            0 => Control::Run,
            1 => Control::Stop,
            _ => Control::Killed,
        }
    }

    pub(crate) fn set_control(&self, control: Control) {
        self.control.store(control as u8, Ordering::Release);
        let consumer = self.inbox.lock().consumer.take();
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Accepts messages (again).
    pub(crate) fn open(&self) {
        self.control.store(Control::Run as u8, Ordering::Release);
        self.inbox.lock().closed = None;
    }

    /// Refuses messages from now on; what still waits becomes dead letters, so that no ask hangs until its deadline.
    pub(crate) fn close(&self, reason: RefusedReason) {
        let mut inbox = self.inbox.lock();
        inbox.closed = Some(reason);
        let rest = std::mem::take(&mut inbox.queue);
        drop(inbox);
        for envelope in rest {
            self.dead_letter(envelope.message.kind(), DeadLetterReason::Stopped);
        }
        self.space.notify_waiters();
    }

    pub(crate) fn closed(&self) -> Option<RefusedReason> {
        self.inbox.lock().closed
    }

    #[cold]
    pub(crate) fn dead_letter(&self, kind: usize, reason: DeadLetterReason) {
        self.system.dead_letters.add(DeadLetter {
            path: self.record.path().clone(),
            message: M::KINDS.get(kind).copied().unwrap_or("?"),
            reason,
            at: self.system.clock.wall(),
        });
    }

    pub(crate) fn add_monitor(&self, tell: TellDown) -> u64 {
        let mut monitors = self.monitors.lock();
        monitors.next += 1;
        let id = monitors.next;
        monitors.list.push((id, tell));
        id
    }

    pub(crate) fn remove_monitor(&self, id: u64) {
        self.monitors.lock().list.retain(|(known, _)| *known != id);
    }

    /// Tells the monitors that an incarnation has fully ended.
    pub(crate) fn notify_down(&self, reason: &ExitReason, is_final: bool) {
        let monitors = self.monitors.lock();
        if monitors.list.is_empty() {
            return;
        }
        let down = Down { path: self.record.path().clone(), reason: reason.clone(), is_final };
        for (_, tell) in &monitors.list {
            tell(&down);
        }
    }
}

impl<M: Message> Probe for Core<M> {
    fn depth(&self) -> u32 {
        let waiting = self.inbox.lock().queue.len();
        u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(self.record.in_batch())
    }

    fn bound(&self) -> u32 {
        self.bound
    }
}

/// Counts a waiting sender for as long as it waits.
pub(crate) struct SpaceWaiter<'a, M: Message> {
    core: &'a Core<M>,
}

impl<M: Message> SpaceWaiter<'_, M> {
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.core.space.notified()
    }
}

impl<M: Message> Drop for SpaceWaiter<'_, M> {
    fn drop(&mut self) {
        self.core.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
