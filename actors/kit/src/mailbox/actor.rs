//! What an actor is.
//!
//! Owns the [`Actor`] trait and [`Fault`], the reason an actor gives for ending itself. Refuses to know how
//! it is driven.

use std::fmt;
use std::future::Future;

use super::context::Context;
use super::message::Message;

/// State that handles one message at a time. It may await inside a handler, but slow work belongs into
/// [`Context::spawn`], because nothing else in the mailbox is handled meanwhile.
///
/// See `actors/kit/examples/counter.rs` for a whole program.
pub trait Actor: Sized + Send + 'static {
    /// One enum per actor.
    type Message: Message;
    /// What every incarnation starts from.
    type Args: Send + Sync + 'static;
    /// The role, for example `runtime`: a column of the actor tree and a label of the metrics.
    const KIND: &'static str;

    /// Makes the state of a new incarnation. An error counts as a failed start.
    fn start(
        args: &Self::Args,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// Handles one message. An error ends this incarnation as a crash; its supervisor decides what follows.
    fn handle(
        &mut self,
        message: Self::Message,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Runs at the end of an orderly stop, within the shutdown's grace. It does not run after a panic or a
    /// kill: what must happen then belongs into `Drop`.
    fn stopping(&mut self, _context: &mut Context<Self::Message>) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Why an actor ends itself, in words for people.
///
/// ```
/// use arw_kit::mailbox::Fault;
/// let fault = Fault::from(std::io::Error::other("disk gone"));
/// assert_eq!(fault.to_string(), "disk gone");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// A fault with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Not an `Error` itself, so that `?` can turn any error into a fault.
impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        use fmt::Write;
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {inner}");
            cause = inner.source();
        }
        Self(text)
    }
}
