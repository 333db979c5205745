//! What travels through a mailbox.
//!
//! Owns the [`Message`] trait, the macro that implements it, and the one-shot [`Reply`]. Refuses to know about queues.

use std::sync::Arc;

use tokio::sync::oneshot;

/// A mailbox's message type: one enum per actor. Implement it with [`message!`](crate::message).
pub trait Message: Send + 'static {
    /// The names of the variants, for the actor tree and for exit reasons.
    const KINDS: &'static [&'static str];

    /// The index of this message's variant in [`Message::KINDS`].
    fn kind(&self) -> usize;
}

/// Implements [`Message`](crate::mailbox::Message) for an enum by naming its variants.
///
/// The list is checked by the compiler: a variant left out is a non-exhaustive match.
///
/// ```
/// use arw_actors::mailbox::{Message, Reply};
/// enum CounterMessage { Add(u64), Get(Reply<u64>), Reset }
/// arw_actors::message!(CounterMessage { Add, Get, Reset });
/// assert_eq!(CounterMessage::KINDS[CounterMessage::Reset.kind()], "Reset");
/// ```
#[macro_export]
macro_rules! message {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        impl $crate::mailbox::Message for $name {
            const KINDS: &'static [&'static str] = &[$(stringify!($variant)),+];
            fn kind(&self) -> usize {
                enum Index { $($variant),+ }
                match self { $($name::$variant { .. } => Index::$variant as usize),+ }
            }
        }
    };
}

/// The right to answer one ask, once. Dropping it unanswered fails the asker at once, so an ask never hangs on a handler
/// that forgot it.
pub struct Reply<T> {
    to: Option<To<T>>,
}

enum To<T> {
    /// A task of this process waits.
    Waiting(oneshot::Sender<Answer<T>>),
    /// The answer goes on to somebody else.
    PassedOn(Arc<dyn Settle<T>>),
}

pub(crate) enum Answer<T> {
    Value(T),
    /// The handler panicked while it held the reply.
    Crashed,
}

/// Takes the answer of an ask for which no task of this process waits.
pub(crate) trait Settle<T>: Send + Sync {
    /// `None`: the reply was dropped unanswered.
    fn settle(&self, answer: Option<Answer<T>>);
}

impl<T> Reply<T> {
    pub(crate) fn pair() -> (Self, oneshot::Receiver<Answer<T>>) {
        let (to, from) = oneshot::channel();
        (Self { to: Some(To::Waiting(to)) }, from)
    }

    pub(crate) fn passed_on(to: Arc<dyn Settle<T>>) -> Self {
        Self { to: Some(To::PassedOn(to)) }
    }

    /// Answers. `false` when nobody waits any more (deadline passed, asker gone); of an asker on another node that is not known.
    pub fn send(mut self, value: T) -> bool {
        match self.to.take() {
            Some(To::Waiting(to)) => to.send(Answer::Value(value)).is_ok(),
            Some(To::PassedOn(to)) => {
                to.settle(Some(Answer::Value(value)));
                true
            }
            None => false,
        }
    }

    /// Nobody waits for this answer any more: expensive work for it can be skipped. Of an asker on another node that is not known.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(To::Waiting(to)) => to.is_closed(),
            Some(To::PassedOn(_)) => false,
            None => true,
        }
    }

    /// Resolves when nobody waits for this answer any more; never for an asker on another node.
    pub async fn abandoned(&mut self) {
        match self.to.as_mut() {
            Some(To::Waiting(to)) => to.closed().await,
            Some(To::PassedOn(_)) => std::future::pending().await,
            None => {}
        }
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let is_crash = std::thread::panicking();
        match self.to.take() {
            Some(To::Waiting(to)) if is_crash => {
                // The asker may be gone; then there is nobody to tell.
                let _ = to.send(Answer::Crashed);
            }
            Some(To::PassedOn(to)) => to.settle(is_crash.then_some(Answer::Crashed)),
            // Its asker sees that the channel is closed.
            Some(To::Waiting(_)) | None => {}
        }
    }
}
