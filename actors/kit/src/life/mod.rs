//! The words in which the life of an actor is told: where it is, how it ended, how often it may begin again.
//!
//! Plain values without a clock, a queue or a task, for all the other modules to stand on. Refuses to decide
//! anything.

mod budget;
mod exit;
mod path;

pub use budget::{Backoff, Chance, RestartBudget, RestartLimits, RestartUse};
pub use exit::ExitReason;
pub use path::ActorPath;
