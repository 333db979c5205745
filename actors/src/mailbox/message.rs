//! What travels through a mailbox.
//!
//! Owns the [`Message`] trait, the macro that implements it, and the one-shot [`Reply`]. Refuses to know about queues.

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
    to: Option<oneshot::Sender<Answer<T>>>,
}

pub(crate) enum Answer<T> {
    Value(T),
    /// The handler panicked while it held the reply.
    Crashed,
}

impl<T> Reply<T> {
    pub(crate) fn pair() -> (Self, oneshot::Receiver<Answer<T>>) {
        let (to, from) = oneshot::channel();
        (Self { to: Some(to) }, from)
    }

    /// Answers. `false` when nobody waits any more (deadline passed, asker gone).
    pub fn send(mut self, value: T) -> bool {
        self.to.take().is_some_and(|to| to.send(Answer::Value(value)).is_ok())
    }

    /// Nobody waits for this answer any more: expensive work for it can be skipped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.to.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Resolves when nobody waits for this answer any more.
    pub async fn abandoned(&mut self) {
        if let Some(to) = self.to.as_mut() {
            to.closed().await;
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
        if let Some(to) = self.to.take()
            && std::thread::panicking()
        {
            // The asker may be gone; then there is nobody to tell.
            let _ = to.send(Answer::Crashed);
        }
    }
}
