//! What everyone holds of an actor.
//!
//! Owns [`Handle`]: tell, ask, monitor. Refuses to know the actor behind it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::dead_letters::DeadLetterReason;
use super::deadline::DeadlineEntry;
use super::inbox::{Control, Core};
use super::message::{Answer, Message, Reply};
use super::outcome::{AskError, Down, Refused, RefusedReason};
use super::passed_on::{AskCancel, PassedOn};
use crate::life::ActorPath;
use crate::tree::{Probe, Tree};

/// The address of an actor. It stays valid across restarts and is cheap to clone.
///
/// See [`crate::mailbox`] for what happens to messages at a restart.
pub struct Handle<M> {
    core: Arc<Core<M>>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<M: Message> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.path())
    }
}

/// Ends a monitor when dropped.
#[must_use = "the monitor ends when this is dropped"]
pub struct MonitorGuard {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl fmt::Debug for MonitorGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MonitorGuard")
    }
}

impl Drop for MonitorGuard {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl<M: Message> Handle<M> {
    pub(crate) fn new(core: Arc<Core<M>>) -> Self {
        Self { core }
    }

    /// The handle of the actor at `path`; `None` when there is none, or when it takes other messages.
    #[must_use]
    pub fn find(tree: &Tree, path: &str) -> Option<Self> {
        let mailbox: Arc<dyn Any + Send + Sync> = tree.get(path)?.probe()?;
        mailbox.downcast::<Core<M>>().ok().map(Self::new)
    }

    /// The actor's place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.core.record.path()
    }

    /// Messages that wait or are in the batch being handled.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.core.depth()
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// The message, with [`RefusedReason::Overloaded`] when the mailbox is full (counted as a dead letter),
    /// or why the actor takes nothing at all.
    #[inline]
    pub fn try_tell(&self, message: M) -> Result<(), Refused<M>> {
        self.core.push(message, 0).map_err(|(message, reason)| self.refused(message, reason))
    }

    /// [`Handle::try_tell`] for who keeps what is refused for want of room, and offers it again after
    /// [`Handle::room`]: it is no dead letter.
    ///
    /// # Errors
    /// As [`Handle::try_tell`].
    #[inline]
    pub fn offer(&self, message: M) -> Result<(), Refused<M>> {
        match self.core.push(message, 0) {
            Err((message, reason @ RefusedReason::Overloaded)) => Err(Refused { message, reason }),
            done => done.map_err(|(message, reason)| self.refused(message, reason)),
        }
    }

    /// Resolves when the mailbox has room, or takes nothing any more. Others may be faster; and who has no
    /// other deadline should look again now and then, because a mailbox with room for one message may say so
    /// once only.
    pub async fn room(&self) {
        let waiter = self.core.space();
        loop {
            // Registered before the look, or a batch that ends in between would not be noticed.
            let mut notified = std::pin::pin!(waiter.notified());
            notified.as_mut().enable();
            if self.core.closed().is_some() || self.core.depth() < self.core.bound() {
                return;
            }
            notified.await;
        }
    }

    /// Sends, waiting for space for at most `patience`.
    ///
    /// # Errors
    /// As [`Handle::try_tell`], after `patience` when the mailbox is full.
    #[inline]
    pub async fn tell(&self, message: M, patience: Duration) -> Result<(), Refused<M>> {
        match self.core.push(message, 0) {
            Ok(()) => Ok(()),
            Err((message, RefusedReason::Overloaded)) => self.tell_waiting(message, 0, patience).await,
            Err((message, reason)) => Err(self.refused(message, reason)),
        }
    }

    /// Sends a message that carries a [`Reply`] and waits for the answer, for at most `patience` in all. With
    /// a full mailbox part of that time goes into waiting for space.
    ///
    /// ```
    /// # use arw_kit::mailbox::{Handle, Reply, AskError};
    /// # use std::time::Duration;
    /// # enum CounterMessage { Get(Reply<u64>) }
    /// # arw_kit::message!(CounterMessage { Get });
    /// async fn read(counter: &Handle<CounterMessage>) -> Result<u64, AskError> {
    ///     counter.ask(CounterMessage::Get, Duration::from_secs(1)).await
    /// }
    /// ```
    ///
    /// # Errors
    /// See [`AskError`]; it never waits longer than `patience`.
    pub async fn ask<T: 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> M,
        patience: Duration,
    ) -> Result<T, AskError> {
        let (reply, answer) = Reply::pair();
        let message = message(reply);
        let due = self.core.services.deadlines.tick_after(patience);
        match self.core.push(message, due) {
            Ok(()) => {}
            Err((message, RefusedReason::Overloaded)) => {
                self.tell_waiting(message, due, patience)
                    .await
                    .map_err(|refused| AskError::Refused(refused.reason))?;
            }
            Err((message, reason)) => return Err(AskError::Refused(self.refused(message, reason).reason)),
        }
        match (AnswerWithin { core: &self.core, answer, due, entry: None }).await {
            Some(Ok(Answer::Value(value))) => Ok(value),
            Some(Ok(Answer::Crashed)) => Err(AskError::Crashed),
            Some(Ok(Answer::Stopped)) => Err(AskError::Stopped),
            Some(Err(_)) => Err(match (self.core.closed(), self.core.control()) {
                (None, Control::Run) => AskError::NoReply,
                (Some(_), _) | (None, Control::Stop | Control::Killed) => AskError::Stopped,
            }),
            // A dead letter only where the message was not begun, which its driver finds.
            None => Err(AskError::Expired(patience)),
        }
    }

    /// Sends a message that carries a [`Reply`] on behalf of somebody who does not wait here, such as an
    /// asker on another node. `answer` is called once, whatever becomes of the message: with the answer, or
    /// why there is none; a full mailbox is told at once. It runs in the actor that answers: it must not
    /// block. A message that is not begun within `patience` of when it was `asked` is skipped; an answer may
    /// still come later. `cancel` tells the actor that nobody waits any more, as does the end of `patience`.
    pub fn pass_on<T: 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> M,
        (asked, patience): (Instant, Duration),
        cancel: AskCancel,
        answer: impl FnOnce(Result<T, AskError>) + Send + 'static,
    ) {
        let due = self.core.services.deadlines.tick_of(asked, patience);
        let passed_on = Arc::new(PassedOn::new(&self.core, (due, patience), cancel, answer));
        let message = message(Reply::passed_on(Arc::clone(&passed_on) as _));
        if let Err((message, reason)) = self.core.push(message, due) {
            // Before the message and its reply are dropped, which would look like a handler that forgot to
            // answer.
            passed_on.refuse(reason);
            drop(self.refused(message, reason));
        }
    }

    /// Calls `tell` at the end of each incarnation, and with [`Down::is_final`] once it is known that none
    /// will ever follow, until the guard is dropped; at once when the actor is stopped. No end is missed, and
    /// none is told twice. `tell` runs in the supervisor: it must not block (a `try_tell` is meant).
    pub fn monitor(&self, tell: impl Fn(&Down) + Send + Sync + 'static) -> MonitorGuard {
        let id = self.core.add_monitor(tell);
        let core: Weak<Core<M>> = Arc::downgrade(&self.core);
        let end = move || {
            if let Some(core) = core.upgrade() {
                core.remove_monitor(id);
            }
        };
        MonitorGuard { end: Some(Box::new(end)) }
    }

    #[cold]
    fn refused(&self, message: M, reason: RefusedReason) -> Refused<M> {
        let letter = match reason {
            RefusedReason::Overloaded => DeadLetterReason::Overloaded,
            RefusedReason::Stopped | RefusedReason::Quarantined => DeadLetterReason::Stopped,
        };
        self.core.dead_letter(message.kind(), letter);
        Refused { message, reason }
    }

    #[cold]
    async fn tell_waiting(&self, message: M, due: u64, patience: Duration) -> Result<(), Refused<M>> {
        let deadline = Instant::now() + patience;
        let waiter = self.core.space();
        let mut message = message;
        loop {
            // Registered before the push, or a batch that ends in between would not be noticed.
            let mut notified = std::pin::pin!(waiter.notified());
            notified.as_mut().enable();
            match self.core.push(message, due) {
                Ok(()) => return Ok(()),
                Err((refused, RefusedReason::Overloaded)) => message = refused,
                Err((refused, reason)) => return Err(self.refused(refused, reason)),
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Err(self.refused(message, RefusedReason::Overloaded));
            }
        }
    }
}

/// An answer, or `None` once the deadline has passed.
struct AnswerWithin<'a, M, T> {
    core: &'a Core<M>,
    answer: oneshot::Receiver<Answer<T>>,
    due: u64,
    entry: Option<DeadlineEntry>,
}

impl<M: Message, T> Future for AnswerWithin<'_, M, T> {
    type Output = Option<Result<Answer<T>, oneshot::error::RecvError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let entry =
            this.entry.get_or_insert_with(|| this.core.services.deadlines.set(this.due, cx.waker().clone()));
        if entry.poll_fired(cx.waker()) { Poll::Ready(None) } else { Poll::Pending }
    }
}
