//! What can become of a message, and of the actor that it was for.
//!
//! Owns the typed refusals of tell and ask, and the news of an end. Refuses to know mailboxes and handles.

use std::fmt;
use std::time::Duration;

use crate::life::{ActorPath, ExitReason};

/// A message that was not taken, given back with the reason.
pub struct Refused<M> {
    /// The message.
    pub message: M,
    /// Why.
    pub reason: RefusedReason,
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({})", self.reason)
    }
}

impl<M> fmt::Display for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message refused: {}", self.reason)
    }
}

impl<M> std::error::Error for Refused<M> {}

/// Why a mailbox refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// The mailbox is full.
    #[error("the mailbox is full")]
    Overloaded,
    /// The actor has stopped and will not be started again.
    #[error("the actor has stopped")]
    Stopped,
    /// The actor is set aside: it used up its restart budget and waits for its next trial, or it was killed
    /// and has not ended.
    #[error("the actor is quarantined")]
    Quarantined,
}

/// Why an ask has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The message was not taken.
    #[error("ask refused: {0}")]
    Refused(RefusedReason),
    /// The deadline passed. The message may be handled later, or be skipped if it had not been begun.
    #[error("no answer within {0:?}")]
    Expired(Duration),
    /// The actor crashed while it had this message in hand: its handler panicked or returned a fault. Its
    /// effects up to there stand.
    #[error("the actor crashed while handling the message")]
    Crashed,
    /// The actor was killed or stopped with this message in hand or in its queue.
    #[error("the actor was stopped before it answered")]
    Stopped,
    /// The handler ended without an answer.
    #[error("the actor did not answer")]
    NoReply,
}

/// An incarnation of a monitored actor has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Which actor.
    pub path: ActorPath,
    /// How it ended.
    pub reason: ExitReason,
    /// No further incarnation will ever follow: its supervisor has forgotten it, or has ended for good. Not
    /// said of an actor that was stopped and may be started again.
    pub is_final: bool,
}
