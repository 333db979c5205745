//! The bounded queue behind a handle, which outlives the incarnations of its actor.
//!
//! Owns order, the bound, the control word (run, stop, killed), kept messages and wake-ups. Refuses to run
//! handlers (`driver.rs`) and to decide about restarts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dead_letters::{DeadLetter, DeadLetterReason};
use super::message::Message;
use super::outcome::{Down, RefusedReason};
use super::services::Services;
use super::unanswered::{Fate, dropping};
use crate::life::ExitReason;
use crate::tree::{Probe, Record};

/// What never changes about a mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreOptions {
    /// Most messages that wait or are in the batch being handled.
    pub(crate) bound: u32,
}

/// A mailbox. Everyone holds it through a [`super::Handle`].
pub(crate) struct Core<M> {
    inbox: Mutex<Inbox<M>>,
    /// The number of the incarnation that may take messages, and below it, in the lowest eight bits, a
    /// [`Control`]. One word, so that what an earlier incarnation has left running can neither take a message
    /// nor stop the one that lives now.
    control: AtomicU64,
    pub(crate) record: Arc<Record>,
    pub(crate) services: Arc<Services>,
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
    list: Vec<Monitor>,
    /// The last end, while no incarnation follows it by itself. Who comes later is told of it at once.
    resting: Option<Down>,
}

struct Monitor {
    id: u64,
    tell: TellDown,
    /// The end that it was told of last: whose, and whether for good.
    told: Option<(u32, bool)>,
}

/// Runs in the supervisor: must not block.
pub(crate) type TellDown = Arc<dyn Fn(&Down) + Send + Sync>;

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Run,
    /// Finish the message in hand, then end in order.
    Stop,
    /// The supervisor has killed this incarnation.
    Killed,
}

const CONTROL_BITS: u32 = 8;

const fn word(incarnation: u32, control: Control) -> u64 {
    (incarnation as u64) << CONTROL_BITS | control as u64
}

impl Control {
    fn of(word: u64) -> Self {
        match word & ((1 << CONTROL_BITS) - 1) {
            0 => Self::Run,
            1 => Self::Stop,
            _ => Self::Killed,
        }
    }
}

/// Of the state of an incarnation, and of each of its tasks: counts it for as long as it lives.
pub(crate) struct Alive<M: Message>(Arc<Core<M>>);

impl<M: Message> Alive<M> {
    pub(crate) fn new(core: &Arc<Core<M>>) -> Self {
        core.record.lives();
        Self(Arc::clone(core))
    }
}

impl<M: Message> Drop for Alive<M> {
    fn drop(&mut self) {
        if self.0.record.died() {
            self.0.services.lingering.something_ended();
        }
    }
}

/// What [`Core::poll_take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Messages,
    YieldFirst,
    Ended,
}

impl<M: Message> Core<M> {
    pub(crate) fn new(services: Arc<Services>, record: Arc<Record>, options: CoreOptions) -> Self {
        Self {
            inbox: Mutex::new(Inbox { queue: VecDeque::new(), consumer: None, closed: None }),
            control: AtomicU64::new(word(0, Control::Run)),
            record,
            services,
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

    /// Moves up to `most` messages into `batch`. Pending when there are none and nothing else is to be done.
    /// After a batch (`just_ran`) it asks for a yield instead, when more waits.
    pub(crate) fn poll_take(
        &self,
        incarnation: u32,
        batch: &mut VecDeque<Envelope<M>>,
        most: usize,
        just_ran: bool,
        cx: &TaskContext<'_>,
    ) -> Poll<Took> {
        let mut inbox = self.inbox.lock();
        if !self.may_run(incarnation) {
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
        self.record.set_in_batch(0);
        if inbox.closed.is_some() {
            drop(inbox);
            self.leave_unhandled(std::mem::take(batch));
            return;
        }
        while let Some(envelope) = batch.pop_back() {
            inbox.queue.push_front(envelope);
        }
        drop(inbox);
        self.notify_space();
    }

    /// What the newest incarnation must do.
    pub(crate) fn control(&self) -> Control {
        Control::of(self.control.load(Ordering::Acquire))
    }

    /// SUP-2: this incarnation may handle another message. Never true of one that another has followed.
    #[inline]
    pub(crate) fn may_run(&self, incarnation: u32) -> bool {
        self.control.load(Ordering::Acquire) == word(incarnation, Control::Run)
    }

    /// Tells an incarnation what to do. One that another has followed is told nothing, and who was killed is
    /// not asked to stop.
    pub(crate) fn command(&self, incarnation: u32, control: Control) {
        let to = word(incarnation, control);
        let raises = |current: u64| {
            let is_same = current >> CONTROL_BITS == to >> CONTROL_BITS;
            (is_same && current < to).then_some(to)
        };
        if self.control.fetch_update(Ordering::AcqRel, Ordering::Acquire, raises).is_err() {
            return;
        }
        let consumer = self.inbox.lock().consumer.take();
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// A new incarnation begins: accepts messages (again), and only this one may take them.
    pub(crate) fn open(&self) {
        let incarnation = self.record.begin_incarnation();
        self.control.store(word(incarnation, Control::Run), Ordering::Release);
        self.inbox.lock().closed = None;
        self.monitors.lock().resting = None;
    }

    /// Refuses messages from now on; what still waits becomes dead letters, so that no ask hangs until its
    /// deadline.
    pub(crate) fn close(&self, reason: RefusedReason) {
        let mut inbox = self.inbox.lock();
        inbox.closed = Some(reason);
        let rest = std::mem::take(&mut inbox.queue);
        drop(inbox);
        self.leave_unhandled(rest);
        self.space.notify_waiters();
    }

    fn leave_unhandled(&self, rest: VecDeque<Envelope<M>>) {
        let _until = dropping(Fate::Stopped);
        for envelope in rest {
            let has_expired = envelope.due != 0 && self.services.deadlines.has_fired(envelope.due);
            let reason = if has_expired { DeadLetterReason::Expired } else { DeadLetterReason::Stopped };
            self.dead_letter(envelope.message.kind(), reason);
        }
    }

    pub(crate) fn closed(&self) -> Option<RefusedReason> {
        self.inbox.lock().closed
    }

    #[cold]
    pub(crate) fn dead_letter(&self, kind: usize, reason: DeadLetterReason) {
        self.services.dead_letters.add(DeadLetter {
            path: self.record.path().clone(),
            message: M::KINDS.get(kind).copied().unwrap_or("?"),
            reason,
            at: self.services.clock.wall(),
        });
    }

    /// Tells `tell` of each end from now on, and at once of the last one where none follows by itself.
    pub(crate) fn add_monitor(&self, tell: impl Fn(&Down) + Send + Sync + 'static) -> u64 {
        let tell: TellDown = Arc::new(tell);
        let mut monitors = self.monitors.lock();
        monitors.next += 1;
        let id = monitors.next;
        // Looked at under the lock under which ends are told: each is told here or there, and never twice.
        let resting = monitors.resting.clone();
        let told = resting.as_ref().map(|down| (self.record.incarnation(), down.is_final));
        monitors.list.push(Monitor { id, tell: Arc::clone(&tell), told });
        drop(monitors);
        if let Some(down) = resting {
            tell(&down);
        }
        id
    }

    pub(crate) fn remove_monitor(&self, id: u64) {
        let mut monitors = self.monitors.lock();
        let removed: Vec<_> = monitors.list.extract_if(.., |monitor| monitor.id == id).collect();
        drop(monitors);
        // Without the lock: what it holds may be another guard of this list.
        drop(removed);
    }

    /// Tells the monitors that an incarnation has fully ended. The next one may have begun by now.
    pub(crate) fn notify_down(&self, incarnation: u32, reason: &ExitReason, is_final: bool) {
        let end = (incarnation, is_final);
        let mut monitors = self.monitors.lock();
        let down = Down { path: self.record.path().clone(), reason: reason.clone(), is_final };
        if is_final {
            monitors.resting = Some(down.clone());
        }
        let untold = monitors.list.iter_mut().filter(|monitor| monitor.told < Some(end));
        let listeners: Vec<_> = untold
            .map(|monitor| {
                monitor.told = Some(end);
                Arc::clone(&monitor.tell)
            })
            .collect();
        drop(monitors);
        // Without the lock: they may drop their guards.
        for tell in listeners {
            tell(&down);
        }
    }

    /// No incarnation follows by itself: who begins to monitor it now is told so.
    pub(crate) fn rests(&self) {
        let reason = self.last_reason();
        let down = Down { path: self.record.path().clone(), reason, is_final: false };
        self.monitors.lock().resting.get_or_insert(down);
    }

    /// No incarnation will ever follow.
    pub(crate) fn is_over(&self) {
        self.notify_down(self.record.incarnation(), &self.last_reason(), true);
    }

    fn last_reason(&self) -> ExitReason {
        self.record.last_exit().map_or(ExitReason::Stop, |exit| exit.reason)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::ActorSystem;

    enum Never {}
    impl Message for Never {
        const KINDS: &'static [&'static str] = &[];
        fn kind(&self) -> usize {
            match *self {}
        }
    }

    fn crash(text: &str) -> ExitReason {
        ExitReason::Crash { text: text.into(), while_handling: None }
    }

    /// SUP-2.
    #[tokio::test]
    async fn what_an_earlier_incarnation_says_reaches_no_later_one() {
        let core = ActorSystem::new("node").core::<Never>("a");
        core.open();
        let (first, record) = (core.record.incarnation(), Arc::clone(&core.record));
        assert!(core.may_run(first));
        core.open();
        let second = record.incarnation();
        assert!(core.may_run(second) && !core.may_run(first));
        core.command(first, Control::Killed);
        record.offer_exit(first, crash("late"));
        assert!(core.may_run(second), "a dead incarnation cannot end a living one");
        assert_eq!(record.exit_offered(second), None);
        record.offer_exit(second, crash("own"));
        record.offer_exit(first, crash("later still"));
        record.offer_exit(second, crash("a second reason"));
        assert_eq!(record.exit_offered(second), Some(crash("own")));
    }

    #[tokio::test]
    async fn who_was_killed_is_not_asked_to_stop() {
        let core = ActorSystem::new("node").core::<Never>("a");
        core.open();
        let incarnation = core.record.incarnation();
        core.command(incarnation, Control::Killed);
        core.command(incarnation, Control::Stop);
        assert_eq!(core.control(), Control::Killed);
    }
}
