//! What travels through a mailbox.
//!
//! Owns the [`Message`] trait, the macro that implements it, and the one-shot [`Reply`]. Refuses to know
//! about queues.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::unanswered::{self, Fate, Held, Now};

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
/// use arw_kit::mailbox::{Message, Reply};
/// enum CounterMessage { Add(u64), Get(Reply<u64>), Reset }
/// arw_kit::message!(CounterMessage { Add, Get, Reset });
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

/// The right to answer one ask, once. Dropping it unanswered fails the asker, so an ask never hangs on a
/// handler that forgot it: at once, or when the handler that drops it returns, because only then it is known
/// whether it has crashed.
pub struct Reply<T: 'static> {
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
    /// Its actor crashed while it held the reply.
    Crashed,
    /// Its actor was stopped or killed before it answered.
    Stopped,
}

/// Takes the answer of an ask for which no task of this process waits.
pub(crate) trait Settle<T>: Send + Sync {
    /// `None`: the reply was dropped unanswered.
    fn settle(&self, answer: Option<Answer<T>>);

    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;

    /// Resolves when nobody does.
    fn abandoned(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<T: 'static> Reply<T> {
    pub(crate) fn pair() -> (Self, oneshot::Receiver<Answer<T>>) {
        let (to, from) = oneshot::channel();
        (Self { to: Some(To::Waiting(to)) }, from)
    }

    pub(crate) fn passed_on(to: Arc<dyn Settle<T>>) -> Self {
        Self { to: Some(To::PassedOn(to)) }
    }

    /// Answers. `false` when nobody waits any more (deadline passed, asker gone), as far as is known: an
    /// asker on another node may have just ended.
    pub fn send(mut self, value: T) -> bool {
        match self.to.take() {
            Some(To::Waiting(to)) => to.send(Answer::Value(value)).is_ok(),
            Some(To::PassedOn(to)) => {
                let is_waited_for = !to.is_abandoned();
                to.settle(Some(Answer::Value(value)));
                is_waited_for
            }
            None => false,
        }
    }

    /// Nobody waits for this answer any more: expensive work for it can be skipped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(To::Waiting(to)) => to.is_closed(),
            Some(To::PassedOn(to)) => to.is_abandoned(),
            None => true,
        }
    }

    /// Resolves when nobody waits for this answer any more: the deadline has passed, or the asker is gone,
    /// with its node or without.
    pub async fn abandoned(&mut self) {
        match self.to.as_mut() {
            Some(To::Waiting(to)) => to.closed().await,
            Some(To::PassedOn(to)) => to.abandoned().await,
            None => {}
        }
    }
}

impl<T: 'static> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<T: 'static> Drop for Reply<T> {
    fn drop(&mut self) {
        let Some(to) = self.to.take() else { return };
        match unanswered::now() {
            Now::Settle(fate) => to.settle(fate),
            Now::Hold => unanswered::hold(Box::new(to)),
        }
    }
}

impl<T> To<T> {
    fn settle(self, fate: Option<Fate>) {
        let answer = fate.map(|fate| match fate {
            Fate::Crashed => Answer::Crashed,
            Fate::Stopped => Answer::Stopped,
        });
        match (self, answer) {
            (Self::Waiting(to), Some(answer)) => {
                // The asker may be gone; then there is nobody to tell.
                let _ = to.send(answer);
            }
            // Its asker sees that the channel is closed.
            (Self::Waiting(_), None) => {}
            (Self::PassedOn(to), answer) => to.settle(answer),
        }
    }
}

impl<T> Held for To<T> {
    fn settle(self: Box<Self>, fate: Option<Fate>) {
        Self::settle(*self, fate);
    }
}
