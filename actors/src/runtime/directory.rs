//! Which runtimes there are, and who serves which model.
//!
//! Owns the list of runtimes (kept in the state folder), the way from a model's name to a runtime, and the
//! decision who gets memory. Refuses to know how a runtime lives: each has an actor of its own (`actor.rs`).

mod actor;
mod client;
mod file;
mod memory;
mod removal;
mod room;
mod saved;

pub use client::{AddRuntimeError, ControlError, Runtimes, Served};

pub(crate) use actor::{DirectoryActor, DirectoryArgs};
#[cfg(any(test, feature = "testkit"))]
pub(crate) use client::Entry;
pub(crate) use client::{Board, DirectoryMessage};
pub(crate) use room::{Load, RoomAnswer};
