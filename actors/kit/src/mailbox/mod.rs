//! Actors, their bounded mailboxes and the handles through which everyone talks to them.
//!
//! Owns the path of a message from [`Handle`] to [`Actor::handle`]: bound, order, deadlines, kept messages,
//! counters, dead letters. Refuses to decide what happens after an exit: that is [`crate::supervision`].
//!
//! A [`Handle`] stays valid across restarts: queued messages wait for the next incarnation, the message that
//! was being handled fails its asker with [`AskError::Crashed`].

mod actor;
mod message;
mod outcome;
mod replies;
mod unanswered;

mod handle;
mod inbox;
mod passed_on;

mod context;
mod driver;

mod dead_letters;
mod deadline;

mod services;

pub use actor::{Actor, Fault};
pub use context::{Context, TaskHandle};
pub use dead_letters::{DeadLetter, DeadLetterCounts, DeadLetterReason, DeadLetterTally, DeadLetters};
pub use handle::{Handle, MonitorGuard};
pub use message::{Message, Reply};
pub use outcome::{AskError, Down, Refused, RefusedReason};
pub use passed_on::AskCancel;
pub use replies::{NotRead, Replies, RepliesEnd, RepliesIn};

pub(crate) use driver::{Resident, ResidentArgs};
#[cfg(test)]
pub(crate) use inbox::Alive;
pub(crate) use inbox::{Control, Core, CoreOptions};
pub(crate) use services::Services;
